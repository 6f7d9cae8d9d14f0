/** What the profile counts, and that it is nobody's state. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { csr } from '../riscv/csrs.ts'
import { interruptBit, mstatusBit } from './core/csr-fields.ts'
import { reg } from './test-support/assembler.ts'
import { bareHart, deviceBase, loadProgram, stateOf, step } from './test-support/bare-hart.ts'
import { kernelPage, PageTables } from './test-support/page-tables.ts'
import { ramBase } from './types.ts'

const { a0, t0, t1 } = reg
const base = BigInt(ramBase)

test('traps are counted by cause, device accesses by direction, instructions and exits by kind', () => {
  const { engine } = bareHart()
  const handler = 0x800
  loadProgram(engine, 0, (a) => {
    a.li(a0, BigInt(deviceBase))
    a.label('loop')
    a.emit('ld', { rd: t0, rs1: a0 }).emit('ld', { rd: t0, rs1: a0 }).emit('sd', { rs1: a0, rs2: t0 })
    a.emit('ecall').word(0)
    a.to('loop', 'jal')
  })
  loadProgram(engine, handler, (a) => {
    a.emit('csrrs.read', { csr: csr.mcause, rd: t1 })
    a.to('timer', 'blt', { rs1: t1, rs2: 0 })
    a.emit('csrrs.read', { csr: csr.mepc, rd: t1 }).emit('addi', { rd: t1, rs1: t1, imm: 4 })
    a.emit('csrrw', { csr: csr.mepc, rs1: t1 }).emit('mret')
    // Once: the timer is disarmed.
    a.label('timer').emit('addi', { rd: t1, imm: -1 }).emit('csrrw', { csr: csr.stimecmp, rs1: t1 }).emit('mret')
  })
  engine.setCsr(csr.mtvec, base + BigInt(handler))
  engine.setCsr(csr.menvcfg, 1n << 63n)
  engine.setCsr(csr.stimecmp, 100n)
  engine.setCsr(csr.mie, interruptBit.stip)
  engine.setCsr(csr.mstatus, mstatusBit.mie)
  for (let i = 0; i < 10; i++) step(engine, 100)

  const { profile } = engine
  assert.equal(profile.instructions.interpreter + profile.instructions.regions, 1000n)
  assert.deepEqual(profile.exits, { count: 10, waiting: 0, supervisorCall: 0, stopRequested: 0 })
  const { ecallFromMachine, illegalInstruction, supervisorTimerInterrupt, ...others } = profile.traps
  assert.deepEqual(others, {})
  assert.equal(supervisorTimerInterrupt, 1)
  assert.ok(ecallFromMachine! >= 50 && Math.abs(ecallFromMachine! - illegalInstruction!) <= 1)
  const { loads, stores } = profile.deviceAccesses
  assert.ok(stores >= ecallFromMachine! && Math.abs(loads - 2 * stores) <= 2)
})

test('a TLB miss is counted once per page, until translations are dropped', () => {
  const { engine } = bareHart()
  const [code, data] = [0x4000_0000n, 0x4000_1000n]
  const tables = new PageTables(engine)
  tables.map(code, 0, kernelPage)
  tables.map(data, 0x1000, kernelPage)
  tables.enable()
  engine.privilege = 1
  engine.pc = code
  loadProgram(engine, 0, (a) => {
    a.li(a0, data)
    a.label('loop').emit('ld', { rd: t0, rs1: a0 }).emit('sd', { rs1: a0, rs2: t0, imm: 8 }).to('loop', 'jal')
  })
  step(engine, 100)
  assert.deepEqual(engine.profile.tlbMisses, { reads: 1, writes: 1, fetches: 1 })
  const flushes = engine.profile.translationFlushes
  // Another frame for the data page: a valid entry changes, so every translation is dropped.
  tables.map(data, 0x2000, kernelPage)
  assert.equal(engine.profile.translationFlushes, flushes + 1)
  step(engine, 100)
  assert.deepEqual(engine.profile.tlbMisses, { reads: 2, writes: 2, fetches: 2 })
})

test('counters are no part of the state: sliced or not, the digest is the same', () => {
  const states = [1000, 1].map((slice) => {
    const { engine } = bareHart()
    loadProgram(engine, 0, (a) => a.label('loop').emit('addi', { rd: t0, rs1: t0, imm: 1 }).to('loop', 'jal'))
    for (let done = 0; done < 1000; done += slice) step(engine, slice)
    return { exits: engine.profile.exits.count, state: stateOf(engine) }
  })
  assert.deepEqual(
    states.map(({ exits }) => exits),
    [1, 1000],
  )
  assert.equal(states[0]!.state, states[1]!.state)
})
