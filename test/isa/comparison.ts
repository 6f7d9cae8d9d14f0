/**
 * Compares what QEMU and the engine made of a random program. A difference is narrowed down to the block where it first
 * shows, which is then run alone from the state before it, and its instructions are replaced by NOPs as long as the two
 * still differ: what is left is the bug.
 */

import type { Engine } from '../../src/engine/types.ts'
import { disassemble } from '../../src/riscv/disassembler.ts'
import { codeBase, recordBytes, scratchBytes } from './memory-map.ts'
import type { Excerpt, Program } from './program.ts'
import { type EngineDrive, type Outcome, runInEngine, runInQemu } from './runners.ts'

export interface Agreement {
  readonly kind: 'agreement'
  /** Executed instructions, without the frame's own. */
  readonly randomInstructions: number
}

export interface Difference {
  readonly kind: 'difference'
  /** Several lines for a person. */
  readonly report: string
}

const nop = 0x0000_0013
const compressedNop = 0x0001

function record(signature: Uint8Array, block: number): Uint8Array {
  return signature.subarray(block * recordBytes, (block + 1) * recordBytes)
}

/** The block after which a register first differs; undefined if only memory does. */
function firstDifferentRecord(a: Outcome, b: Outcome): number | undefined {
  const blocks = a.signature.length / recordBytes
  for (let block = 0; block < blocks; block++) {
    if (Buffer.compare(record(a.signature, block), record(b.signature, block)) !== 0) return block
  }
  return undefined
}

function isEqual(a: Outcome, b: Outcome): boolean {
  return Buffer.compare(a.signature, b.signature) === 0 && Buffer.compare(a.scratch, b.scratch) === 0
}

export function compare(engine: Engine, program: Program, drive: EngineDrive = {}): Agreement | Difference {
  const theirs = runInQemu(program)
  const ours = runInEngine(engine, program, {}, drive)
  if ('failure' in theirs) return { kind: 'difference', report: theirs.failure }
  if ('failure' in ours) return { kind: 'difference', report: narrowFailure(engine, program, drive, ours.failure) }
  if (isEqual(theirs, ours)) {
    return { kind: 'agreement', randomInstructions: ours.instructions - program.frameInstructions }
  }
  const block = firstBlockThatDiffers(engine, program, drive, firstDifferentRecord(theirs, ours))
  return { kind: 'difference', report: narrow(engine, program, drive, block, theirs) }
}

/** The first block after which a register or memory differs: memory may have differed long before a register shows it. */
function firstBlockThatDiffers(
  engine: Engine,
  program: Program,
  drive: EngineDrive,
  atLatest = program.blocks.length - 1,
): number {
  let low = 0
  let high = atLatest
  while (low < high) {
    const middle = (low + high) >> 1
    if (differs(engine, program, drive, { last: middle })) high = middle
    else low = middle + 1
  }
  return low
}

function differs(engine: Engine, program: Program, drive: EngineDrive, excerpt: Excerpt): boolean {
  const theirs = runInQemu(program, excerpt)
  if ('failure' in theirs) return false
  const ours = runInEngine(engine, program, excerpt, drive)
  return 'failure' in ours || !isEqual(theirs, ours)
}

/** The engine trapped or did not end: the first block where it does that although QEMU runs through. */
function narrowFailure(engine: Engine, program: Program, drive: EngineDrive, failure: string): string {
  const block = firstBlockThatDiffers(engine, program, drive)
  const theirs = runInQemu(program)
  if ('failure' in theirs) return theirs.failure
  return `${failure}\n${narrow(engine, program, drive, block, theirs)}`
}

function instructionsOf(code: Uint8Array, start: number, end: number): { address: number; bits: number }[] {
  const view = new DataView(code.buffer, code.byteOffset)
  const list: { address: number; bits: number }[] = []
  for (let address = start; address < end; ) {
    const half = view.getUint16(address - codeBase, true)
    const isLong = (half & 3) === 3
    list.push({ address, bits: isLong ? view.getUint32(address - codeBase, true) : half })
    address += isLong ? 4 : 2
  }
  return list
}

function narrow(engine: Engine, program: Program, drive: EngineDrive, block: number, theirs: Outcome): string {
  const lines = [`block ${block}`]
  let excerpt: Excerpt = { last: block }
  if (block > 0) {
    const before = runInQemu(program, { last: block - 1 })
    if (!('failure' in before)) {
      const alone = { first: block, last: block, state: record(theirs.signature, block - 1), scratch: before.scratch }
      if (differs(engine, program, drive, alone)) excerpt = alone
      else lines.push('(agrees when run alone: what came before matters)')
    }
  }
  const { bodyStart, bodyEnd } = program.blocks[block]!
  const instructions = instructionsOf(program.code, bodyStart, bodyEnd)
  const patches = new Map<number, number>()
  for (let size = Math.ceil(instructions.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let from = 0; from < instructions.length; from += size) {
      const chunk = instructions.slice(from, from + size).filter(({ address }) => !patches.has(address))
      if (chunk.length === 0) continue
      const more = new Map(patches)
      for (const { address, bits } of chunk) more.set(address, (bits & 3) === 3 ? nop : compressedNop)
      if (!differs(engine, program, drive, { ...excerpt, patches: more })) continue
      for (const [address, bits] of more) patches.set(address, bits)
    }
  }
  for (const { address, bits } of instructions) {
    if (!patches.has(address)) lines.push(`  ${address.toString(16)}: ${disassemble(bits, BigInt(address), 'numeric')}`)
  }
  lines.push(...differenceLines(engine, program, drive, { ...excerpt, patches }, block))
  return lines.join('\n')
}

function registerName(index: number): string {
  return index === 64 ? 'fcsr' : index < 32 ? `x${index}` : `f${index - 32}`
}

/** What differs in registers and memory when this is run, with the state before it. */
function differenceLines(
  engine: Engine,
  program: Program,
  drive: EngineDrive,
  excerpt: Excerpt,
  block: number,
): string[] {
  const theirs = runInQemu(program, excerpt)
  const ours = runInEngine(engine, program, excerpt, drive)
  if ('failure' in theirs) return [theirs.failure]
  if ('failure' in ours) return [ours.failure]
  const lines: string[] = []
  const word = (bytes: Uint8Array, index: number): string =>
    new DataView(bytes.buffer, bytes.byteOffset)
      .getBigUint64(index * 8, true)
      .toString(16)
      .padStart(16, '0')
  const state = excerpt.state ?? program.initialState
  const [theirRecord, ourRecord] = [record(theirs.signature, block), record(ours.signature, block)]
  for (let index = 0; index < recordBytes / 8; index++) {
    const [a, b] = [word(theirRecord, index), word(ourRecord, index)]
    if (a !== b) lines.push(`  ${registerName(index)}: before ${word(state, index)}, qemu ${a}, engine ${b}`)
  }
  for (let index = 0; index < scratchBytes / 8; index++) {
    const [a, b] = [word(theirs.scratch, index), word(ours.scratch, index)]
    if (a !== b) lines.push(`  scratch + 0x${(index * 8).toString(16)}: qemu ${a}, engine ${b}`)
  }
  lines.push(
    `  state before: ${Array.from({ length: 65 }, (_, i) => `${registerName(i)}=${word(state, i)}`).join(' ')}`,
  )
  return lines
}
