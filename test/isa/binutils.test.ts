/**
 * The decoder, the compressed forms and the disassembler against GNU binutils, which was written by others from the same
 * specification: what the table says an encoding is must be what objdump says.
 */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import { csr } from '../../src/riscv/csrs.ts'
import { decode, isCompressed } from '../../src/riscv/decoder.ts'
import { disassemble } from '../../src/riscv/disassembler.ts'
import { instructions } from '../../src/riscv/instructions.ts'
import { needs, objdumpTool, withTemporaryFolder } from './tools.ts'

/** What objdump makes of each encoding, in order. They must all be 16 or all be 32 bits long. */
function objdump(encodings: readonly number[]): string[] {
  const sizeBytes = isCompressed(encodings[0]!) ? 2 : 4
  const bytes = new DataView(new ArrayBuffer(encodings.length * sizeBytes))
  encodings.forEach((bits, index) => {
    if (sizeBytes === 2) bytes.setUint16(index * 2, bits, true)
    else bytes.setUint32(index * 4, bits, true)
  })
  const listing = withTemporaryFolder((folder) => {
    const file = join(folder, 'code.bin')
    writeFileSync(file, bytes)
    const flags = ['-D', '-z', '-b', 'binary', '-m', 'riscv:rv64', '-M', 'no-aliases,numeric', file]
    return spawnSync(objdumpTool, flags, { encoding: 'utf8', maxBuffer: 1 << 28 }).stdout
  })
  const lines = [...listing.matchAll(/^ *([0-9a-f]+):\t[0-9a-f]+ +\t(.*)$/gm)]
  assert.equal(lines.length, encodings.length, 'objdump takes the encodings one by one')
  return lines.map((line, index) => {
    assert.equal(Number.parseInt(line[1]!, 16), index * sizeBytes)
    return line[2]!
      .replace(/\s*[#<].*$/, '')
      .replace('\t', ' ')
      .trimEnd()
  })
}

/** Newer binutils write `.insn` where older ones write `.4byte`. */
const isIllegal = (text: string): boolean => /^\.([24]byte|insn)/.test(text)

/** The base instruction behind objdump's name and operands of a compressed form (unprivileged specification, "C"). */
function expanded(text: string): string {
  const [name = '', list = ''] = text.split(' ')
  const [a = '', b = '', c = ''] = list.split(',')
  switch (name) {
    case 'c.addi4spn':
      return `addi ${a},${b},${c}`
    case 'c.addi':
    case 'c.addiw':
    case 'c.addi16sp':
    case 'c.andi':
    case 'c.slli':
    case 'c.srli':
    case 'c.srai':
    case 'c.sub':
    case 'c.subw':
    case 'c.add':
    case 'c.addw':
    case 'c.and':
    case 'c.or':
    case 'c.xor':
      return `${name.slice(2).replace('16sp', '')} ${a},${a},${b}`
    // Shifts by 0 are hints on RV64, which binutils calls by their RV128 names.
    case 'c.slli64':
    case 'c.srli64':
    case 'c.srai64':
      return `${name.slice(2, 6)} ${a},${a},0x0`
    case 'c.li':
      return `addi ${a},x0,${b}`
    case 'c.mv':
      return `add ${a},x0,${b}`
    case 'c.j':
      return `jal x0,${a}`
    case 'c.jr':
      return `jalr x0,0(${a})`
    case 'c.jalr':
      return `jalr x1,0(${a})`
    case 'c.beqz':
    case 'c.bnez':
      return `${name.slice(2, 5)} ${a},x0,${b}`
    default:
      return `${name.slice(2).replace(/sp$/, '')} ${list}`.trim()
  }
}

/** The spelling of both sides where it differs and the meaning does not. */
function normalized(text: string): string {
  return (
    text
      // binutils writes the empty set of FENCE as "unknown".
      .replace(/^fence (.*)$/, (fence) => fence.replaceAll('unknown', '0'))
      // Conversions that cannot round: binutils hides rm, which only 0 can be.
      .replace(/^(fcvt\.d\.(?:s|w|wu) .*),rne$/, '$1')
  )
}

/** A CSR that our table doesn't name is written as a number; binutils may know a name for it. */
function withoutForeignCsrNames(text: string): string {
  return text.replace(/^(csr\w+ x\d+),(\w+),/, (whole, start, name) =>
    name.startsWith('0x') || !Object.hasOwn(csr, name) ? `${start},other,` : whole,
  )
}

/**
 * Fields that binutils 2.40 expects to be 0 and the specification lets be anything: rm where a conversion is exact ("D"),
 * the reserved fields of the fences, which a hart "shall ignore" for forward compatibility ("Memory Ordering Instructions").
 */
function isWiderThanBinutils(text: string): boolean {
  return /^(fcvt\.d\.(s|w|wu)|fence|fence\.i)( |$)/.test(text)
}

test(
  'all 65536 halfwords decode to the instruction, registers and immediate that binutils reads',
  needs(objdumpTool),
  () => {
    const halfwords = Array.from({ length: 65536 }, (_, bits) => bits).filter(isCompressed)
    const foreign = objdump(halfwords)
    for (const [index, bits] of halfwords.entries()) {
      const theirs = foreign[index]!
      const ours = disassemble(bits, BigInt(index * 2), 'numeric')
      // Reserved by the specification ("nzimm = 0"), but listed by binutils.
      const isReserved = isIllegal(theirs) || theirs === 'c.unimp' || theirs === 'c.addi16sp x2,0'
      assert.equal(ours, isReserved ? `.2byte 0x${bits.toString(16)}` : expanded(theirs), bits.toString(16))
    }
  },
)

test('every row of the table, with random fields, reads as binutils reads it', needs(objdumpTool), () => {
  const prng = new Prng(1)
  const words = instructions.flatMap((row) =>
    Array.from({ length: 250 }, () => (row.match | (Number(prng.u64() & 0xffff_ffffn) & ~row.mask)) >>> 0),
  )
  const foreign = objdump(words)
  for (const [index, bits] of words.entries()) {
    const theirs = normalized(foreign[index]!)
    const ours = normalized(disassemble(bits, BigInt(index * 4), 'numeric'))
    const context = `${bits.toString(16)}: theirs ${theirs}`
    if (isIllegal(theirs) && isWiderThanBinutils(ours)) continue
    // An alias that it writes even when asked for none.
    if (bits === 0xc000_1073) continue
    // A reserved rounding mode.
    if (theirs.endsWith(',unknown') || isIllegal(theirs)) assert.ok(isIllegal(ours), context)
    else assert.equal(withoutForeignCsrNames(ours), withoutForeignCsrNames(theirs), context)
  }
})

test('what binutils does not know as RV64GC is no instruction, and the other way round', needs(objdumpTool), () => {
  const prng = new Prng(2)
  // Words with a random major opcode, and rows with one fixed bit flipped: the neighbours of legal encodings.
  const random = Array.from({ length: 40_000 }, () => Number(prng.u64() & 0xffff_ffffn) | 3)
  const neighbours = instructions.flatMap((row) =>
    Array.from({ length: 32 }, (_, bit) => 1 << bit)
      .filter((bit) => row.mask & bit)
      .flatMap((bit) => [0, 1, 2, 3].map(() => (row.match ^ bit) | (Number(prng.u64() & 0xffff_ffffn) & ~row.mask))),
  )
  const words = [...random, ...neighbours]
    .map((bits) => bits >>> 0)
    // Bits 4:2 all ones start an instruction longer than 32 bits: none is decoded, and objdump would take several words.
    .filter((bits) => (bits & 3) === 3 && (bits & 0x1c) !== 0x1c)
  const foreign = objdump(words)
  for (const [index, bits] of words.entries()) {
    const theirs = foreign[index]!
    const ours = disassemble(bits, BigInt(index * 4), 'numeric')
    if (isWiderThanBinutils(ours)) continue
    // Withdrawn encodings, and those of debug and hypervisor modes, which this hart does not have.
    const isForeign = isIllegal(theirs) || theirs.endsWith(',unknown') || /^([udh]ret|sfence\.vm( .*)?)$/.test(theirs)
    assert.equal(isIllegal(ours), isForeign, `${bits.toString(16)}: ours ${ours}, theirs ${theirs}`)
  }
  for (let word = 0x1f; word < 0x10000; word += 0x20) assert.equal(decode(word), undefined)
})
