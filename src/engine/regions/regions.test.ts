/** Translated code does what the interpreter does, to the instruction, however and whenever it is made or dropped. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ByteReader, ByteWriter } from '../../base/bytes.ts'
import { Prng } from '../../base/prng.ts'
import { MiB } from '../../base/units.ts'
import { csr } from '../../riscv/csrs.ts'
import { mstatusBit } from '../core/csr-fields.ts'
import { type Assembler, encode, reg } from '../test-support/assembler.ts'
import { bareHart, loadProgram, stateOf, step } from '../test-support/bare-hart.ts'
import { type HotMode, hotProgramRamBytes, loadHotProgram, scriptDevice } from '../test-support/hot-program.ts'
import { type Engine, ramBase } from '../types.ts'
import type { EngineOptions } from '../wasm-engine.ts'

interface Drive {
  readonly translation: EngineOptions['translation']
  readonly slice: () => number
  /** Moves to a fresh engine at every checkpoint. */
  readonly moves?: boolean
}

const total = 60_000n
const checkpoint = 7_500n

function statesOf(seed: number, mode: HotMode, { translation, slice, moves = false }: Drive): string[] {
  let { engine, bus } = bareHart(hotProgramRamBytes, translation)
  scriptDevice(engine, bus)
  loadHotProgram(engine, new Prng(seed), mode)
  const states: string[] = []
  for (let end = checkpoint; end <= total; end += checkpoint) {
    while (engine.count < end) {
      const until = engine.count + BigInt(slice())
      engine.run(until < end ? until : end)
    }
    states.push(`${bus.accesses.length} ${stateOf(engine)}`)
    if (moves) {
      const next = bareHart(hotProgramRamBytes, translation)
      copyInto(engine, next.engine)
      engine = next.engine
      next.bus.accesses.push(...bus.accesses)
      next.bus.loadValue = bus.loadValue
      bus = next.bus
      scriptDevice(engine, bus)
    }
  }
  return states
}

function copyInto(from: Engine, to: Engine): void {
  const writer = new ByteWriter()
  from.saveState(writer)
  for (let page = 0; page < from.ramBytes / 4096; page++) {
    to.restorePage(page, from.ram.slice(page * 4096, page * 4096 + 4096))
  }
  to.loadState(new ByteReader(writer.finish()))
}

const base = BigInt(ramBase)

const always = (count: number) => () => count

function drives(prng: Prng): Record<string, Drive> {
  const random = (): number => 1 + prng.below(3000)
  const often = { threshold: 1, batchRuns: 1 }
  return {
    'threshold 1': { translation: often, slice: always(500) },
    'threshold 1 in one go': { translation: often, slice: always(1 << 20) },
    'a random threshold, random slices': {
      translation: { threshold: 2 + prng.below(50), batchRuns: 1 + prng.below(3) },
      slice: random,
    },
    'threshold 1, random slices, every batch empties the cache': {
      translation: { ...often, cacheBytes: 1 },
      slice: random,
    },
    'threshold 1, random slices, moved to a fresh engine': { translation: often, slice: random, moves: true },
    ...Object.fromEntries(
      [1, 2, 3, 7, 1000].map((count) => [
        `slices of ${count}`,
        { translation: { threshold: 3, batchRuns: 1 }, slice: always(count) },
      ]),
    ),
  }
}

describe('a random program has one state at every count, translated or not', () => {
  for (const mode of ['machine', 'supervisor'] as const) {
    for (let seed = 1; seed <= 6; seed++) {
      test(`in ${mode} mode, seed ${seed}`, () => {
        const expected = statesOf(seed, mode, { translation: 'off', slice: always(1 << 20) })
        assert.equal(new Set(expected).size, expected.length, 'the program goes on')
        for (const [name, drive] of Object.entries(drives(new Prng(seed)))) {
          assert.deepEqual(statesOf(seed, mode, drive), expected, name)
        }
      })
    }
  }
})

/** The same short program, interpreted and translated: ends in the same state after so many instructions. */
function assertAlike(instructions: number, write: (a: Assembler) => void, prepare?: (engine: Engine) => void): void {
  const states = (['off', { threshold: 1, batchRuns: 1 }] as const).map((translation) => {
    const { engine } = bareHart(1 * MiB, translation)
    loadProgram(engine, 0, write)
    prepare?.(engine)
    for (let done = 0; done < instructions; done += 100) step(engine, 100)
    if (translation !== 'off') assert.ok(engine.profile.regions.built > 0, 'something was translated')
    return stateOf(engine)
  })
  assert.equal(states[1], states[0])
}

const { a0, a1, a2, a3, t0, t1 } = reg

test('a store into the region that is running counts from the next instruction on', () => {
  assertAlike(6000, (a) => {
    a.li(a1, BigInt(encode('addi', { rd: a0, rs1: a0, imm: 1 })))
      .li(t1, base)
      .li(a3, 1n << 20n)
    a.label('loop').emit('addi', { rd: a2, rs1: a2, imm: 1 }).emit('andi', { rd: t0, rs1: a2, imm: 63 })
    a.to('skip', 'bne', { rs1: t0 })
    // Every 64th round another immediate for the instruction right behind the store.
    a.emit('add', { rd: a1, rs1: a1, rs2: a3 }).emit('sw', { rs1: t1, rs2: a1, imm: a.offset + 4 })
    a.label('skip').emit('addi', { rd: a0, rs1: a0, imm: 1 })
    a.to('loop', 'jal')
  })
})

test('a region is forgotten when its code changes while others run', () => {
  assertAlike(
    6000,
    (a) => {
      a.li(a1, BigInt(encode('addi', { rd: a0, rs1: a0, imm: 1 })))
        .li(t1, base + 0x2000n)
        .li(a3, 1n << 20n)
      a.label('loop')
      a.emit('jalr', { rd: reg.ra, rs1: t1 })
      a.emit('addi', { rd: a2, rs1: a2, imm: 1 }).emit('andi', { rd: t0, rs1: a2, imm: 127 })
      a.to('loop', 'bne', { rs1: t0 })
      a.emit('add', { rd: a1, rs1: a1, rs2: a3 }).emit('sw', { rs1: t1, rs2: a1, imm: 4 })
      a.to('loop', 'jal')
    },
    (engine) =>
      loadProgram(engine, 0x2000, (a) => {
        a.emit('xor', { rd: a0, rs1: a0, rs2: a2 }).emit('addi', { rd: a0, rs1: a0, imm: 1 })
        a.emit('jalr', { rs1: reg.ra })
      }),
  )
})

test('the count is exact at a fault, and the registers are those in front of it', () => {
  assertAlike(
    2000,
    (a) => {
      a.label('loop').emit('addi', { rd: a0, rs1: a0, imm: 1 }).emit('addi', { rd: a2, rs1: a2, imm: 3 })
      a.emit('ld', { rd: a0, rs1: 0 }).emit('addi', { rd: a2, rs1: a2, imm: 5 })
      a.to('loop', 'jal')
    },
    (engine) => {
      engine.setCsr(csr.mtvec, base + 0x1000n)
      loadProgram(engine, 0x1000, (a) => {
        a.emit('csrrs.read', { rd: t0, csr: csr.mepc }).emit('addi', { rd: t0, rs1: t0, imm: 4 })
        a.emit('csrrw', { rs1: t0, csr: csr.mepc }).emit('csrrs.read', { rd: t1, csr: csr.mcycle })
        a.emit('xor', { rd: a1, rs1: a1, rs2: t1 }).emit('mret')
      })
    },
  )
})

test('a floating-point result makes FS Dirty in the instruction that writes it', () => {
  assertAlike(2000, (a) => {
    a.li(a1, mstatusBit.fs).li(a3, 1n << 13n)
    a.label('loop').emit('csrrc', { rs1: a1, csr: csr.mstatus }).emit('csrrs', { rs1: a3, csr: csr.mstatus })
    a.emit('addi', { rd: a2, rs1: a2, imm: 1 }).emit('fmv.d.x', { rd: 1, rs1: a2 })
    a.emit('csrrs.read', { rd: t0, csr: csr.mstatus }).emit('add', { rd: a0, rs1: a0, rs2: t0 })
    a.to('loop', 'jal')
  })
})
