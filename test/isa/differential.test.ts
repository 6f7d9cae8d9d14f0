/**
 * Random programs on the engine and on QEMU, which is another reading of the same specification: every register, the
 * flags and memory must be equal after each block of instructions. `campaign.ts` is the same for hours.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import { compressedForms } from '../../src/riscv/compressed.ts'
import { instructions } from '../../src/riscv/instructions.ts'
import { compare } from './comparison.ts'
import { encode } from './encoder.ts'
import { writeProgram } from './program.ts'
import { type EngineDrive, newEngine } from './runners.ts'
import { needs, qemuTool } from './tools.ts'

const blocks = 1000

/** Runs programs until this many random instructions agreed. */
function compareMany(firstSeed: number, atLeast: number, drive: EngineDrive): void {
  const engine = newEngine()
  let compared = 0
  for (let seed = firstSeed; compared < atLeast; seed++) {
    const result = compare(engine, writeProgram(new Prng(seed), blocks), drive)
    if (result.kind === 'difference') assert.fail(`seed ${seed}: ${result.report}`)
    compared += result.randomInstructions
  }
}

test('in M mode, 3,000,000 random instructions do what QEMU does', needs(qemuTool), () => {
  compareMany(1000, 3_000_000, { privilege: 3 })
})

test('in S mode, 500,000 random instructions do what QEMU does', needs(qemuTool), () => {
  compareMany(2000, 500_000, { privilege: 1 })
})

test('in U mode, 500,000 random instructions do what QEMU does', needs(qemuTool), () => {
  compareMany(3000, 500_000, { privilege: 0 })
})

test('slices of one to nine instructions change nothing', needs(qemuTool), () => {
  const prng = new Prng(4)
  compareMany(4000, 500_000, { nextSlice: () => BigInt(1 + prng.below(9)) })
})

test('the programs contain every unprivileged instruction and every compressed form that does not trap', () => {
  const { counts } = writeProgram(new Prng(5), blocks)
  const names = [
    ...instructions.filter(({ extension }) => extension !== 'priv').map(({ name }) => name),
    ...compressedForms.map(({ name }) => name),
  ]
  const traps = ['ecall', 'ebreak', 'c.ebreak']
  assert.deepEqual(
    names.filter((name) => !counts.has(name)),
    traps,
  )
})

test('a difference is reported with its seed, its instruction and both results', needs(qemuTool), () => {
  const engine = newEngine()
  const program = writeProgram(new Prng(6), 40)
  // The engine's program adds 1 to a register where QEMU's has the first instruction of block 20.
  const target = program.frameRegister === 7 ? 8 : 7
  const { start } = program.blocks[20]!
  const addOne = encode(instructions.find(({ name }) => name === 'addi')!, { rd: target, rs1: target, immediate: 1 })
  const wrongEngine = new Proxy(engine, {
    get(_, name) {
      const member = Reflect.get(engine, name, engine)
      if (name !== 'storeBytes') return typeof member === 'function' ? member.bind(engine) : member
      return (address: number, bytes: Uint8Array) => {
        engine.storeBytes(address, bytes)
        if (address === 0x8000_0000)
          engine.storeBytes(
            start + 8,
            Uint8Array.from([0, 8, 16, 24], (s) => addOne >> s),
          )
      }
    },
    set: (_, name, value) => Reflect.set(engine, name, value, engine),
  })
  const result = compare(wrongEngine, program)
  assert.ok(result.kind === 'difference')
  assert.match(result.report, /block 20\n/)
})
