/**
 * Translated code while what it stands on changes: whose rights its loads have (MPRV), which address space it runs in, how
 * large the pages are that map it. State is compared at every single count of a window, and the sum that each program
 * keeps with one that is worked out here, so that both tiers cannot be wrong together.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Prng } from '../../base/prng.ts'
import { MiB } from '../../base/units.ts'
import { csr } from '../../riscv/csrs.ts'
import { mstatusBit } from '../core/csr-fields.ts'
import { type Assembler, reg } from '../test-support/assembler.ts'
import { loadProgram, storeWord64 } from '../test-support/bare-hart.ts'
import { assertAlikeAtEveryCount } from '../test-support/every-count.ts'
import { hotModes, hotProgramRamBytes, loadHotProgram, scriptDevice } from '../test-support/hot-program.ts'
import { entryOf, kernelPage, PageTables, pte, rootTable } from '../test-support/page-tables.ts'
import { type Engine, ramBase } from '../types.ts'

const base = BigInt(ramBase)
const { a0, a1, a2, a3, a4, ra, t0, t1, t2, s0, s1 } = reg
const s2 = 18
const handlerOffset = 0x6000

describe('a random program has one state at every single count of a window', () => {
  for (const mode of hotModes) {
    for (const seed of [21, 22]) {
      test(`in ${mode} mode, seed ${seed}`, () => {
        assertAlikeAtEveryCount({
          ramBytes: hotProgramRamBytes,
          from: 20_000,
          window: 500,
          load(engine, bus) {
            scriptDevice(engine, bus)
            loadHotProgram(engine, new Prng(seed), mode)
          },
        })
      })
    }
  }
})

/** M mode's handler goes on behind the instruction, and counts in s0. */
function skipFaults(engine: Engine): void {
  engine.setCsr(csr.mtvec, base + BigInt(handlerOffset))
  loadProgram(engine, handlerOffset, (a) => {
    a.emit('csrrs.read', { rd: t2, csr: csr.mepc }).emit('addi', { rd: t2, rs1: t2, imm: 4 })
    a.emit('csrrw', { rs1: t2, csr: csr.mepc }).emit('addi', { rd: s0, rs1: s0, imm: 1 }).emit('mret')
  })
}

test('MPRV lends translated loads and stores the rights and the mappings of MPP, from the next instruction on', () => {
  const dataOffset = 0x8000
  // Below RAM, where nothing is mapped but by the tables.
  const supervisorPage = 0x4000_0000n
  const userPage = 0x4000_1000n
  const instructions = { warmUp: 12_000, window: 600 }
  const engine = assertAlikeAtEveryCount({
    ramBytes: 2 * MiB,
    from: instructions.warmUp,
    window: instructions.window,
    load(engine) {
      const tables = new PageTables(engine)
      tables.map(supervisorPage, dataOffset, kernelPage)
      tables.map(userPage, dataOffset + 0x1000, kernelPage | pte.u)
      tables.enable()
      skipFaults(engine)
      storeWord64(engine, dataOffset, 100n)
      storeWord64(engine, dataOffset + 0x1000, 10_000n)
      loadProgram(engine, 0, (a) => {
        a.li(s1, mstatusBit.mprv)
          .li(s2, 3n << 11n)
          .li(a2, supervisorPage)
          .li(a3, userPage)
        a.label('round')
        // MPP is S in even rounds and U in odd ones; SUM in every other pair.
        a.emit('csrrc', { rs1: s2, csr: csr.mstatus })
        a.emit('andi', { rd: t0, rs1: a4, imm: 1 }).emit('xori', { rd: t0, rs1: t0, imm: 1 })
        a.emit('slli', { rd: t0, rs1: t0, imm: 11 }).emit('csrrs', { rs1: t0, csr: csr.mstatus })
        a.li(t1, mstatusBit.sum).emit('csrrc', { rs1: t1, csr: csr.mstatus })
        a.emit('andi', { rd: t0, rs1: a4, imm: 2 }).emit('slli', { rd: t0, rs1: t0, imm: 17 })
        a.emit('csrrs', { rs1: t0, csr: csr.mstatus })
        // Lent: the sum grows by what may be read. A fault ends the loan, as MPP is M then: so it is taken again.
        for (const page of [a2, a3]) {
          a.emit('csrrs', { rs1: s1, csr: csr.mstatus }).emit('addi', { rd: a1, rs1: 0 })
          a.emit('ld', { rd: a1, rs1: page }).emit('csrrc', { rs1: s1, csr: csr.mstatus })
          a.emit('add', { rd: a0, rs1: a0, rs2: a1 })
          // Not lent: nothing is at that physical address.
          a.emit('addi', { rd: a1, rs1: 0 }).emit('ld', { rd: a1, rs1: page }).emit('add', { rd: a0, rs1: a0, rs2: a1 })
          // The trap made MPP what it returns to, U: what the round chose is chosen again.
          a.emit('csrrc', { rs1: s2, csr: csr.mstatus })
          a.emit('andi', { rd: t0, rs1: a4, imm: 1 }).emit('xori', { rd: t0, rs1: t0, imm: 1 })
          a.emit('slli', { rd: t0, rs1: t0, imm: 11 }).emit('csrrs', { rs1: t0, csr: csr.mstatus })
        }
        a.emit('addi', { rd: a4, rs1: a4, imm: 1 }).to('round', 'jal')
      })
    },
  })
  const rounds = Number(engine.getX(a4))
  assert.ok(rounds > 100, `${rounds} rounds`)
  // Of four rounds: S without SUM reads 100; U reads 10,000; S with SUM reads both; U reads 10,000.
  const sumOf = (round: number): bigint => [100n, 10_000n, 10_100n, 10_000n][round % 4]!
  let sum = 0n
  for (let round = 0; round < rounds; round++) sum += sumOf(round)
  const unfinished = engine.getX(a0) - sum
  assert.ok(unfinished >= 0n && unfinished <= sumOf(rounds), `${engine.getX(a0)} after ${rounds} rounds, not ${sum}`)
})

/** Code at the same virtual addresses in two address spaces: each adds its own number, and switches to the other. */
function writeSwitching(a: Assembler, own: number, options: { readonly fences: boolean }): void {
  a.label('round').emit('addi', { rd: a0, rs1: a0, imm: own })
  a.emit('jalr', { rd: ra, rs1: a3 })
  a.emit('ld', { rd: t0, rs1: a4 }).emit('add', { rd: a0, rs1: a0, rs2: t0 })
  a.emit('addi', { rd: a2, rs1: a2, imm: 1 })
  // s1 holds what satp is to be, with an ASID that this machine does not have.
  a.emit('csrrw', { rd: t1, rs1: s1, csr: csr.satp })
  // From here on it is the other space's code: the same instructions, another number.
  a.emit('addi', { rd: a0, rs1: a0, imm: own }).emit('addi', { rd: s1, rs1: t1 })
  if (options.fences) a.emit('sfence.vma')
  a.to('round', 'jal')
}

for (const fences of [true, false]) {
  test(`code at one virtual address in two address spaces runs as what is mapped there, ${fences ? 'with' : 'without'} fences`, () => {
    const codeVirtual = 0x4000_0000n
    const functionVirtual = 0x4000_1000n
    const dataVirtual = 0x4000_2000n
    const secondRoot = 0x14_0000
    const spaces = [
      { own: 1, function: 3, data: 500n, offset: 0x0000 },
      { own: 20, function: 70, data: 9000n, offset: 0x3000 },
    ] as const
    const satp = (root: number): bigint => (8n << 60n) | ((base + BigInt(root)) >> 12n)
    const engine = assertAlikeAtEveryCount({
      ramBytes: 2 * MiB,
      from: 6000,
      window: 500,
      load(engine) {
        for (const [index, space] of spaces.entries()) {
          const tables = new PageTables(engine, index === 0 ? rootTable : secondRoot)
          tables.map(codeVirtual, space.offset, kernelPage)
          tables.map(functionVirtual, space.offset + 0x1000, kernelPage)
          tables.map(dataVirtual, space.offset + 0x2000, kernelPage)
          if (index === 0) tables.enable()
          loadProgram(engine, space.offset, (a) => writeSwitching(a, space.own, { fences }))
          loadProgram(engine, space.offset + 0x1000, (a) => {
            a.emit('addi', { rd: a0, rs1: a0, imm: space.function }).emit('jalr', { rs1: ra })
          })
          storeWord64(engine, space.offset + 0x2000, space.data)
        }
        engine.privilege = 1
        engine.pc = codeVirtual
        engine.setX(a3, functionVirtual)
        engine.setX(a4, dataVirtual)
        engine.setX(s1, satp(secondRoot) | (5n << 44n))
      },
    })
    const rounds = Number(engine.getX(a2))
    assert.ok(rounds > 300)
    // In a round: own number, the function's and the datum of one space; then the own number of the other.
    const inRound = (round: number): bigint => {
      const space = spaces[round % 2]!
      return BigInt(space.own) + BigInt(space.function) + space.data
    }
    let sum = 0n
    for (let round = 0; round < rounds; round++) sum += inRound(round) + BigInt(spaces[(round + 1) % 2]!.own)
    const difference = engine.getX(a0) - sum
    const bound = inRound(rounds) + 20n
    assert.ok(difference >= -20n && difference <= bound, `${engine.getX(a0)} after ${rounds} rounds, not ${sum}`)
  })
}

for (const fences of [true, false]) {
  test(`a superpage is split under the code that it maps, and merged again, ${fences ? 'with' : 'without'} fences`, () => {
    const codeVirtual = 0x4000_0000n
    const tablesVirtual = 0x6000_0000n
    // Where the split table maps the two pages that differ: the code that splits, and a datum.
    const [otherCode, otherData] = [0x9000, 0xa000]
    const [codeOffset, dataOffset] = [0x0000, 0x2000]
    const splitTable = 0x13_0000
    const write = (a: Assembler, own: number): void => {
      a.label('round').emit('addi', { rd: a0, rs1: a0, imm: own })
      a.emit('ld', { rd: t0, rs1: a4 }).emit('add', { rd: a0, rs1: a0, rs2: t0 })
      a.emit('addi', { rd: a2, rs1: a2, imm: 1 })
      // The store that splits, or merges: the very next instruction is another page's.
      a.emit('sd', { rs1: a3, rs2: a1 }).emit('addi', { rd: a0, rs1: a0, imm: own })
      if (fences) a.emit('sfence.vma')
      a.emit('addi', { rd: t1, rs1: a1 }).emit('addi', { rd: a1, rs1: s1 }).emit('addi', { rd: s1, rs1: t1 })
      a.to('round', 'jal')
    }
    const engine = assertAlikeAtEveryCount({
      ramBytes: 4 * MiB,
      from: 5000,
      window: 500,
      load(engine) {
        const tables = new PageTables(engine)
        const leaf = tables.map(codeVirtual, 0, kernelPage, 1)
        for (let page = 0; page < 16; page++) {
          tables.map(tablesVirtual + BigInt(page * 4096), rootTable + page * 4096, kernelPage)
        }
        tables.enable()
        for (let page = 0; page < 512; page++) {
          const offset = page * 4096
          const target = offset === codeOffset ? otherCode : offset === dataOffset ? otherData : offset
          storeWord64(engine, splitTable + page * 8, entryOf(target, kernelPage))
        }
        loadProgram(engine, codeOffset, (a) => write(a, 1))
        loadProgram(engine, otherCode, (a) => write(a, 20))
        storeWord64(engine, dataOffset, 500n)
        storeWord64(engine, otherData, 9000n)
        engine.privilege = 1
        engine.pc = codeVirtual
        engine.setX(a1, entryOf(splitTable, pte.v))
        engine.setX(s1, entryOf(0, kernelPage))
        engine.setX(a3, tablesVirtual + BigInt(leaf - rootTable))
        engine.setX(a4, codeVirtual + BigInt(dataOffset))
      },
    })
    const rounds = Number(engine.getX(a2))
    assert.ok(rounds > 300)
    const [whole, split] = [1n + 500n + 20n, 20n + 9000n + 1n]
    const sum = BigInt(Math.ceil(rounds / 2)) * whole + BigInt(Math.floor(rounds / 2)) * split
    const difference = engine.getX(a0) - sum
    assert.ok(difference >= -20n && difference <= 9040n, `${engine.getX(a0)} after ${rounds} rounds, not ${sum}`)
  })
}
