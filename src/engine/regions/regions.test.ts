/** Translated code does what the interpreter does, to the instruction, however and whenever it is made or dropped. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Prng } from '../../base/prng.ts'
import { KiB, MiB, pageBytes } from '../../base/units.ts'
import { csr } from '../../riscv/csrs.ts'
import { mstatusBit } from '../core/csr-fields.ts'
import type { RegionProfile } from '../profile.ts'
import { type Assembler, encode, reg } from '../test-support/assembler.ts'
import { bareHart, loadProgram, stateOf, step } from '../test-support/bare-hart.ts'
import { driveProgram, drives, interpretedDrive } from '../test-support/driven-program.ts'
import { hotModes } from '../test-support/hot-program.ts'
import { type Engine, ramBase } from '../types.ts'

const base = BigInt(ramBase)

describe('a random program has one state at every count, translated or not', () => {
  for (const mode of hotModes) {
    for (let seed = 1; seed <= (mode === 'hostile' ? 3 : 6); seed++) {
      test(`in ${mode} mode, seed ${seed}`, () => {
        const { states: expected } = driveProgram(seed, mode, interpretedDrive)
        assert.equal(new Set(expected).size, expected.length, 'the program goes on')
        for (const [name, drive] of Object.entries(drives(new Prng(seed)))) {
          assert.deepEqual(driveProgram(seed, mode, drive).states, expected, name)
        }
      })
    }
  }
})

/** The same short program, interpreted and translated: ends in the same state after so many instructions. */
function assertAlike(instructions: number, write: (a: Assembler) => void, prepare?: (engine: Engine) => void): void {
  const states = (['off', { threshold: 1, batchRegions: 1 }] as const).map((translation) => {
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

test('computed jumps, and returns to many places, go where they should inside one region', () => {
  const cases = 6
  const caseBytes = 8
  assertAlike(20_000, (a) => {
    // A generator's bits choose the next case; each case mixes differently, and every other one calls.
    a.li(a0, 1n).li(a3, 0x5851_f42d_4c95_7f2dn).li(t1, base)
    a.label('loop').emit('mul', { rd: a0, rs1: a0, rs2: a3 }).emit('addi', { rd: a0, rs1: a0, imm: 1013 })
    a.emit('srli', { rd: t0, rs1: a0, imm: 40 }).li(a2, BigInt(cases)).emit('remu', { rd: t0, rs1: t0, rs2: a2 })
    a.emit('slli', { rd: t0, rs1: t0, imm: Math.log2(caseBytes) }).emit('add', { rd: t0, rs1: t0, rs2: t1 })
    a.to('cases', 'addi', { rd: t0, rs1: t0 }, 0).emit('jalr', { rs1: t0 })
    a.label('function').emit('xori', { rd: a1, rs1: a1, imm: 0x155 }).emit('jalr', { rs1: reg.ra })
    for (let index = 0; index < cases; index++) {
      a.label(`tail ${index}`)
      if (index % 2 === 0) a.to('function', 'jal', { rd: reg.ra })
      a.emit('addi', { rd: a1, rs1: a1, imm: index + 1 }).to('loop', 'jal')
    }
    a.label('cases')
    for (let index = 0; index < cases; index++) {
      a.emit('slli', { rd: a1, rs1: a1, imm: index & 1 }).to(`tail ${index}`, 'jal')
    }
  })
})

test('a rounding mode that changes within a block counts from the next instruction on', () => {
  assertAlike(4000, (a) => {
    a.li(a1, mstatusBit.fs).emit('csrrs', { rs1: a1, csr: csr.mstatus }).li(a2, 7n).li(t1, 1n)
    a.emit('fcvt.d.l', { rd: 1, rs1: t1, rm: 0 }).emit('fcvt.d.l', { rd: 2, rs1: a2, rm: 0 })
    a.label('loop').emit('addi', { rd: a3, rs1: a3, imm: 1 }).emit('andi', { rd: t0, rs1: a3, imm: 3 })
    a.emit('fdiv.d', { rd: 3, rs1: 1, rs2: 2, rm: 7 }).emit('csrrw', { rs1: t0, csr: csr.frm })
    a.emit('fdiv.d', { rd: 4, rs1: 1, rs2: 2, rm: 7 }).emit('fsub.d', { rd: 5, rs1: 1, rs2: 4, rm: 7 })
    for (const source of [3, 4, 5]) {
      a.emit('fmv.x.d', { rd: t0, rs1: source }).emit('slli', { rd: a0, rs1: a0, imm: 1 })
      a.emit('add', { rd: a0, rs1: a0, rs2: t0 })
    }
    a.to('loop', 'jal')
  })
})

test('an instruction that names a rounding mode rounds by it', () => {
  assertAlike(4000, (a) => {
    a.li(a1, mstatusBit.fs).emit('csrrs', { rs1: a1, csr: csr.mstatus }).li(a2, 7n).li(t1, 1n)
    a.emit('fcvt.d.l', { rd: 1, rs1: t1, rm: 0 }).emit('fcvt.d.l', { rd: 2, rs1: a2, rm: 0 }).label('loop')
    for (const rm of [0, 1, 2, 3, 4]) {
      a.emit('fdiv.d', { rd: 3, rs1: 1, rs2: 2, rm }).emit('fmv.x.d', { rd: t0, rs1: 3 })
      a.emit('slli', { rd: a0, rs1: a0, imm: 1 }).emit('add', { rd: a0, rs1: a0, rs2: t0 })
    }
    a.to('loop', 'jal')
  })
})

describe('hot places are translated together', () => {
  const threshold = 20

  /** Endless loops of two instructions, each in a page of its own. Says what was translated. */
  function engineWithLoops(batchRegions: number) {
    const { engine } = bareHart(1 * MiB, { threshold, batchRegions })
    for (const page of [0, 1, 2]) {
      loadProgram(engine, page * pageBytes, (a) =>
        a.label('loop').emit('addi', { rd: a0, rs1: a0, imm: 1 }).to('loop', 'jal'),
      )
    }
    return {
      turn(page: number, times: number): void {
        engine.pc = base + BigInt(page * pageBytes)
        for (let time = 0; time < times; time++) step(engine, 2)
      },
      get translated(): { built: number; modules: number } {
        const { built, modules } = engine.profile.regions
        return { built, modules }
      },
    }
  }

  test('one waits until there are enough for a module', () => {
    const loops = engineWithLoops(3)
    for (const page of [0, 1, 2]) {
      assert.deepEqual(loops.translated, { built: 0, modules: 0 })
      loops.turn(page, threshold + 5)
    }
    assert.deepEqual(loops.translated, { built: 3, modules: 1 })
  })

  test('one that is reached as often again waits no longer, and takes along who waits too', () => {
    const loops = engineWithLoops(32)
    loops.turn(0, threshold + 5)
    loops.turn(1, 2 * threshold - 5)
    assert.deepEqual(loops.translated, { built: 0, modules: 0 })
    loops.turn(1, 10)
    assert.deepEqual(loops.translated, { built: 2, modules: 1 })
  })
})

/** 19 modules of one little region, a little more than 34 KiB each. */
const cacheBytes = 20 * 34 * KiB

/**
 * Calls each of so many little functions until it is translated, in a module of its own; each is another one in every round.
 * Says how much was alive at every collection of garbage.
 */
function translateEach(functions: number, rounds: number): { regions: RegionProfile; liveBytes: readonly number[] } {
  const liveBytes: number[] = []
  const { engine } = bareHart(1 * MiB, {
    threshold: 1,
    batchRegions: 1,
    cacheBytes,
    collectGarbage: () => liveBytes.push(engine.profile.regions.liveBytes),
  })
  const firstPage = 16
  for (let round = 1; round <= rounds; round++) {
    for (let page = firstPage; page < firstPage + functions; page++) {
      loadProgram(engine, page * pageBytes, (a) => {
        a.li(t0, 3n).label('loop')
        a.emit('addi', { rd: a0, rs1: a0, imm: round }).emit('addi', { rd: t0, rs1: t0, imm: -1 })
        a.to('loop', 'bne', { rs1: t0 }).emit('jalr', { rs1: reg.ra })
      })
      for (let call = 0; call < 2; call++) {
        engine.setX(reg.ra, base)
        engine.pc = base + BigInt(page * pageBytes)
        step(engine, 11)
      }
    }
  }
  return { regions: engine.profile.regions, liveBytes }
}

describe('V8 is asked to collect garbage', () => {
  test('right after the full cache was emptied, every time', () => {
    const { regions, liveBytes } = translateEach(100, 1)
    assert.deepEqual([regions.modules, regions.evicted], [100, 5 * 19])
    assert.equal(liveBytes.filter((bytes) => bytes === 0).length, 5)
  })

  test('now and then while regions come and go and the cache is never full', () => {
    const { regions, liveBytes } = translateEach(10, 20)
    assert.ok(regions.modules >= 199 && regions.invalidated >= 189)
    assert.equal(regions.evicted, 0)
    assert.ok(liveBytes.length >= 200 / 6 && liveBytes.length <= 200 / 3, `${liveBytes.length} times`)
  })

  test('and not for a few modules', () => {
    assert.deepEqual(translateEach(3, 1).liveBytes, [])
  })
})
