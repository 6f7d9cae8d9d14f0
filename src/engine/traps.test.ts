/** Traps, delegation, interrupts at exact counts, WFI, counters and CSR rules. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { exceptionCause, interruptCause } from '../riscv/causes.ts'
import { csr } from '../riscv/csrs.ts'
import { interruptBit, menvcfgBit, mseccfgBit, mstatusBit } from './core/csr-fields.ts'
import { reg } from './test-support/assembler.ts'
import { bareHart, loadProgram, step } from './test-support/bare-hart.ts'
import { type Engine, ramBase } from './types.ts'

const { a0, a1, a2, t0 } = reg
const base = BigInt(ramBase)
const handlerOffset = 0x1000
const supervisorHandlerOffset = 0x1800
const interrupt = 1n << 63n

/** A hart whose handlers stand at fixed places and do nothing but count in a0 (M) or a1 (S). */
function withHandlers(write: Parameters<typeof loadProgram>[2]): ReturnType<typeof bareHart> {
  const hart = bareHart()
  const { engine } = hart
  loadProgram(engine, 0, write)
  loadProgram(engine, handlerOffset, (a) => a.emit('addi', { rd: a0, rs1: a0, imm: 1 }).emit('mret'))
  loadProgram(engine, supervisorHandlerOffset, (a) => a.emit('addi', { rd: a1, rs1: a1, imm: 1 }).emit('sret'))
  engine.setCsr(csr.mtvec, base + BigInt(handlerOffset))
  engine.setCsr(csr.stvec, base + BigInt(supervisorHandlerOffset))
  return hart
}

function nops(count: number): Parameters<typeof loadProgram>[2] {
  return (a) => {
    for (let index = 0; index < count; index++) a.emit('addi')
    a.label('end').to('end', 'jal')
  }
}

test('an exception enters M mode with cause, pc and value, and MRET goes back with the old privilege', () => {
  const { engine } = withHandlers((a) => a.emit('addi').word(0xffff_ffff))
  engine.privilege = 0
  engine.setCsr(csr.mstatus, mstatusBit.mie)
  step(engine, 2)
  assert.equal(engine.pc, base + BigInt(handlerOffset))
  assert.equal(engine.privilege, 3)
  assert.equal(engine.getCsr(csr.mcause), BigInt(exceptionCause.illegalInstruction))
  assert.equal(engine.getCsr(csr.mepc), base + 4n)
  assert.equal(engine.getCsr(csr.mtval), 0xffff_ffffn)
  assert.equal(engine.getCsr(csr.mstatus) & (mstatusBit.mie | mstatusBit.mpie | mstatusBit.mpp), mstatusBit.mpie)
  step(engine, 2)
  assert.equal(engine.privilege, 0)
  assert.equal(engine.pc, base + 4n)
  assert.equal(engine.getX(a0), 1n)
  assert.equal(engine.getCsr(csr.mstatus) & (mstatusBit.mie | mstatusBit.mpie), mstatusBit.mie | mstatusBit.mpie)
})

test('a delegated exception of U mode goes to S mode, one of M mode never does', () => {
  const { engine } = withHandlers((a) => a.word(0))
  engine.setCsr(csr.medeleg, 1n << BigInt(exceptionCause.illegalInstruction))
  engine.privilege = 0
  step(engine, 1)
  assert.equal(engine.privilege, 1)
  assert.equal(engine.getCsr(csr.scause), BigInt(exceptionCause.illegalInstruction))
  assert.equal(engine.getCsr(csr.sepc), base)
  assert.equal(engine.getCsr(csr.sstatus) & mstatusBit.spp, 0n)
  engine.privilege = 3
  engine.pc = base
  step(engine, 1)
  assert.equal(engine.privilege, 3)
  assert.equal(engine.getCsr(csr.mepc), base)
})

test('ECALL names the privilege it came from; EBREAK is a breakpoint with its pc as value', () => {
  for (const [privilege, cause] of [
    [0, exceptionCause.ecallFromUser],
    [1, exceptionCause.ecallFromSupervisor],
    [3, exceptionCause.ecallFromMachine],
  ] as const) {
    const { engine } = withHandlers((a) => a.emit('ecall'))
    engine.privilege = privilege
    step(engine, 1)
    assert.equal(engine.getCsr(csr.mcause), BigInt(cause))
    assert.equal(engine.getCsr(csr.mtval), 0n)
  }
  const { engine } = withHandlers((a) => a.emit('ebreak'))
  step(engine, 1)
  assert.equal(engine.getCsr(csr.mcause), BigInt(exceptionCause.breakpoint))
  assert.equal(engine.getCsr(csr.mtval), base)
})

test('an ECALL of S mode leaves the engine only when asked for and not delegated', () => {
  const { engine } = withHandlers((a) => a.emit('ecall'))
  engine.supervisorCallsExit = true
  engine.privilege = 1
  assert.equal(step(engine, 5), 'supervisorCall')
  assert.equal(engine.count, 1n)
  assert.equal(engine.pc, base + 4n)
  assert.equal(engine.privilege, 1)
  engine.pc = base
  engine.setCsr(csr.medeleg, 1n << BigInt(exceptionCause.ecallFromSupervisor))
  step(engine, 1)
  assert.equal(engine.pc, base + BigInt(supervisorHandlerOffset))
})

test('vectored mode spreads interrupts, not exceptions', () => {
  const { engine } = withHandlers((a) => a.word(0))
  engine.setCsr(csr.mtvec, (base + BigInt(handlerOffset)) | 1n)
  step(engine, 1)
  assert.equal(engine.pc, base + BigInt(handlerOffset))
  engine.setCsr(csr.mie, interruptBit.meip)
  engine.setCsr(csr.mstatus, mstatusBit.mie)
  engine.setInterrupt(interruptBit.meip, true)
  loadProgram(engine, handlerOffset + 4 * interruptCause.machineExternal, (a) => a.emit('addi', { rd: a2, imm: 5 }))
  step(engine, 1)
  assert.equal(engine.getX(a2), 5n)
  assert.equal(engine.getCsr(csr.mcause), interrupt | BigInt(interruptCause.machineExternal))
})

test('of several pending interrupts the highest is taken: MEI, MSI, MTI, SEI, SSI, STI', () => {
  const order = [
    [interruptBit.meip, interruptCause.machineExternal],
    [interruptBit.msip, interruptCause.machineSoftware],
    [interruptBit.mtip, interruptCause.machineTimer],
    [interruptBit.seip, interruptCause.supervisorExternal],
    [interruptBit.ssip, interruptCause.supervisorSoftware],
    [interruptBit.stip, interruptCause.supervisorTimer],
  ] as const
  let enabled = order.reduce((bits, [bit]) => bits | bit, 0n)
  for (const [bit, cause] of order) {
    const { engine } = withHandlers(nops(4))
    engine.setCsr(csr.mip, interruptBit.ssip | interruptBit.stip | interruptBit.seip)
    engine.setInterrupt(interruptBit.msip, true)
    engine.setInterrupt(interruptBit.meip, true)
    engine.machineTimerCompare = 0n
    engine.setCsr(csr.mie, enabled)
    engine.setCsr(csr.mstatus, mstatusBit.mie)
    step(engine, 1)
    assert.equal(engine.getCsr(csr.mcause), interrupt | BigInt(cause))
    enabled &= ~bit
  }
})

test('a delegated interrupt is taken in S mode only with SIE, in U mode always, in M mode never', () => {
  for (const [privilege, sie, taken] of [
    [0, false, true],
    [1, false, false],
    [1, true, true],
    [3, true, false],
  ] as const) {
    const { engine } = withHandlers(nops(4))
    engine.setCsr(csr.mideleg, interruptBit.seip)
    engine.setCsr(csr.mie, interruptBit.seip)
    engine.setCsr(csr.mstatus, (sie ? mstatusBit.sie : 0n) | mstatusBit.mie)
    engine.privilege = privilege
    engine.setInterrupt(interruptBit.seip, true)
    step(engine, 1)
    assert.equal(engine.getX(a1), taken ? 1n : 0n, `privilege ${privilege}, SIE ${sie}`)
  }
})

test('a CSR write that unmasks a pending interrupt is followed by the trap, not by the next instruction', () => {
  const { engine } = withHandlers((a) => {
    a.emit('csrrsi', { csr: csr.mstatus, imm: 8 })
    a.emit('addi', { rd: a2, imm: 1 })
  })
  engine.setCsr(csr.mie, interruptBit.msip)
  engine.setInterrupt(interruptBit.msip, true)
  step(engine, 2)
  assert.equal(engine.getX(a2), 0n)
  assert.equal(engine.getX(a0), 1n)
  assert.equal(engine.getCsr(csr.mepc), base + 4n)
})

test('MRET into a state that enables a pending interrupt takes it before the first instruction there', () => {
  const { engine } = withHandlers((a) => a.emit('mret').emit('addi', { rd: a2, imm: 1 }))
  engine.setCsr(csr.mepc, base + 4n)
  engine.setCsr(csr.mie, interruptBit.msip)
  engine.setCsr(csr.mstatus, mstatusBit.mpie | mstatusBit.mpp)
  engine.setInterrupt(interruptBit.msip, true)
  step(engine, 2)
  assert.equal(engine.getX(a2), 0n)
  assert.equal(engine.getX(a0), 1n)
})

for (const slice of [1, 2, 3, 7, 1000]) {
  test(`mtimecmp fires at the exact count at which time reaches it, in slices of ${slice}`, () => {
    const { engine } = withHandlers(nops(100))
    // Three ticks every four instructions.
    engine.setClock({ n0: 0n, t0: 0n, ratePer2p32: 3n << 30n, cap: 1n << 40n })
    engine.setCsr(csr.mie, interruptBit.mtip)
    engine.setCsr(csr.mstatus, mstatusBit.mie)
    engine.machineTimerCompare = 31n
    while (engine.getX(a0) === 0n) step(engine, slice)
    // t(41) = 30, t(42) = 31: the trap comes behind the 42nd instruction.
    assert.equal(engine.getCsr(csr.mepc), base + 42n * 4n)
  })
}

test('stimecmp written by the guest fires at its count; 2^64 - 1 never does; values compare unsigned', () => {
  const { engine } = withHandlers((a) => {
    a.emit('csrrw', { csr: csr.stimecmp, rs1: t0 })
    for (let index = 0; index < 50; index++) a.emit('addi')
    a.label('end').to('end', 'jal')
  })
  engine.setCsr(csr.menvcfg, menvcfgBit.stce)
  engine.setCsr(csr.mideleg, interruptBit.stip)
  engine.setCsr(csr.mie, interruptBit.stip)
  engine.setCsr(csr.mcounteren, 2n)
  engine.privilege = 1
  engine.setCsr(csr.mstatus, mstatusBit.sie)
  engine.setX(t0, 20n)
  step(engine, 20)
  assert.equal(engine.getX(a1), 0n)
  step(engine, 1)
  assert.equal(engine.getX(a1), 1n)
  assert.equal(engine.getCsr(csr.sepc), base + 80n)
  for (const never of [(1n << 64n) - 1n, 1n << 63n]) {
    engine.setCsr(csr.stimecmp, never)
    assert.equal(engine.getCsr(csr.sip), 0n)
    step(engine, 200)
    assert.equal(engine.getX(a1), 1n)
  }
})

test('a clock that steps forward makes a timer due at once', () => {
  const { engine } = withHandlers(nops(100))
  engine.setCsr(csr.mie, interruptBit.mtip)
  engine.setCsr(csr.mstatus, mstatusBit.mie)
  engine.machineTimerCompare = 1_000_000n
  step(engine, 10)
  engine.setClock({ n0: engine.count, t0: 1_000_000n, ratePer2p32: 1n << 32n, cap: 1n << 40n })
  step(engine, 1)
  assert.equal(engine.getX(a0), 1n)
})

test('without Sstc, stimecmp is illegal for S mode, raises nothing, and STIP belongs to software', () => {
  const { engine } = withHandlers((a) => a.emit('csrrs.read', { csr: csr.stimecmp }))
  engine.setCsr(csr.stimecmp, 0n)
  assert.equal(engine.getCsr(csr.mip), 0n)
  engine.setCsr(csr.mip, interruptBit.stip)
  assert.equal(engine.getCsr(csr.mip), interruptBit.stip)
  engine.setCsr(csr.mcounteren, 2n)
  engine.privilege = 1
  step(engine, 1)
  assert.equal(engine.getCsr(csr.mcause), BigInt(exceptionCause.illegalInstruction))
})

test('WFI waits, counted, until an enabled interrupt is pending, whatever the global enables say', () => {
  const { engine } = withHandlers((a) => a.emit('wfi').emit('addi', { rd: a2, imm: 1 }))
  engine.setCsr(csr.mie, interruptBit.msip)
  assert.equal(step(engine, 10), 'waiting')
  assert.equal(engine.count, 1n)
  assert.equal(engine.pc, base + 4n)
  engine.setInterrupt(interruptBit.msip, true)
  engine.pc = base
  assert.equal(step(engine, 2), 'count')
  assert.equal(engine.getX(a2), 1n)
})

test('a timer that comes due with the very count of the WFI ends it, however the run is sliced', () => {
  for (const slices of [[3], [1, 1, 1], [2, 1]]) {
    const { engine } = withHandlers((a) => a.emit('addi').emit('wfi').emit('addi', { rd: a2, imm: 1 }))
    engine.setCsr(csr.mie, interruptBit.mtip)
    engine.machineTimerCompare = 2n
    for (const slice of slices) assert.equal(step(engine, slice), 'count')
    assert.equal(engine.getX(a2), 1n)
  }
})

test('nextDeadline is the first timer that is enabled in mie', () => {
  const { engine } = bareHart()
  assert.equal(engine.nextDeadline, undefined)
  engine.setCsr(csr.menvcfg, menvcfgBit.stce)
  engine.setCsr(csr.stimecmp, 50n)
  engine.machineTimerCompare = 70n
  assert.equal(engine.nextDeadline, undefined)
  engine.setCsr(csr.mie, interruptBit.mtip)
  assert.equal(engine.nextDeadline, 70n)
  engine.setCsr(csr.mie, interruptBit.mtip | interruptBit.stip)
  assert.equal(engine.nextDeadline, 50n)
})

/** True if one instruction at the start of RAM is illegal in this state. */
function isIllegal(engine: Engine, privilege: number): boolean {
  engine.privilege = privilege
  engine.pc = base
  engine.setCsr(csr.mcause, 99n)
  step(engine, 1)
  return engine.getCsr(csr.mcause) === BigInt(exceptionCause.illegalInstruction)
}

test('TVM, TW and TSR take satp, SFENCE.VMA, WFI and SRET away from S mode', () => {
  for (const [name, fields, bit] of [
    ['csrrs.read', { csr: csr.satp }, mstatusBit.tvm],
    ['sfence.vma', {}, mstatusBit.tvm],
    ['wfi', {}, mstatusBit.tw],
    ['sret', {}, mstatusBit.tsr],
  ] as const) {
    const { engine } = withHandlers((a) => a.emit(name, fields))
    engine.setCsr(csr.mstatus, 0n)
    assert.equal(isIllegal(engine, 1), false, name)
    engine.setCsr(csr.mstatus, bit)
    assert.equal(isIllegal(engine, 1), true, name)
    engine.setCsr(csr.mstatus, 0n)
    assert.equal(isIllegal(engine, 0), true, `${name} in U mode`)
    engine.setCsr(csr.mstatus, bit)
    assert.equal(isIllegal(engine, 3), false, `${name} in M mode`)
  }
})

test('a CSR needs its privilege, read-only ones refuse writes, and absent ones are illegal', () => {
  const illegal = (name: string, address: number, privilege: number): boolean => {
    const { engine } = withHandlers((a) => a.emit(name, { csr: address, rs1: name.endsWith('.read') ? 0 : a2 }))
    return isIllegal(engine, privilege)
  }
  assert.equal(illegal('csrrw', csr.mscratch, 3), false)
  assert.equal(illegal('csrrw', csr.mscratch, 1), true)
  assert.equal(illegal('csrrw', csr.sscratch, 1), false)
  assert.equal(illegal('csrrw', csr.sscratch, 0), true)
  assert.equal(illegal('csrrs.read', csr.mhartid, 3), false)
  assert.equal(illegal('csrrs', csr.mhartid, 3), true)
  assert.equal(illegal('csrrs.read', 0x5c0, 3), true)
})

test('counters open to S by mcounteren, to U by scounteren too', () => {
  const { engine } = withHandlers((a) => a.emit('csrrs.read', { csr: csr.time, rd: a2 }))
  const open = (): string => [0, 1, 3].filter((privilege) => !isIllegal(engine, privilege)).join()
  assert.equal(open(), '3')
  engine.setCsr(csr.mcounteren, 2n)
  assert.equal(open(), '1,3')
  engine.setCsr(csr.scounteren, 2n)
  assert.equal(open(), '0,1,3')
  engine.setCsr(csr.mcounteren, 5n)
  assert.equal(open(), '3')
})

test('time, cycle and instret say what was attempted before the reading instruction; a trap is not retired', () => {
  const { engine } = withHandlers((a) => {
    a.emit('addi').word(0).emit('addi')
    a.emit('csrrs.read', { csr: csr.time, rd: 20 })
    a.emit('csrrs.read', { csr: csr.cycle, rd: 21 })
    a.emit('csrrs.read', { csr: csr.instret, rd: 22 })
  })
  loadProgram(engine, handlerOffset, (a) => {
    a.emit('csrrs.read', { csr: csr.mepc, rd: t0 }).emit('addi', { rd: t0, rs1: t0, imm: 4 })
    a.emit('csrrw', { csr: csr.mepc, rs1: t0 }).emit('mret')
  })
  step(engine, 10)
  assert.deepEqual(
    [20, 21, 22].map((register) => engine.getX(register)),
    [7n, 8n, 8n],
  )
})

test('a counter that is written reads as written in the next instruction, and stands still while inhibited', () => {
  const { engine } = withHandlers((a) => {
    a.emit('csrrw', { csr: csr.minstret, rs1: a2 })
    a.emit('csrrs.read', { csr: csr.minstret, rd: 20 })
    a.emit('csrrsi', { csr: csr.mcountinhibit, imm: 4 })
    a.emit('csrrs.read', { csr: csr.minstret, rd: 21 })
    a.emit('csrrs.read', { csr: csr.minstret, rd: 22 })
    a.emit('csrrci', { csr: csr.mcountinhibit, imm: 4 })
    a.emit('csrrs.read', { csr: csr.minstret, rd: 23 })
  })
  engine.setX(a2, 1000n)
  step(engine, 7)
  assert.deepEqual(
    [20, 21, 22, 23].map((register) => engine.getX(register)),
    [1000n, 1002n, 1002n, 1002n],
  )
})

test('a read-modify-write of mip does not keep SEIP of the line after the line falls', () => {
  const { engine } = withHandlers((a) => a.emit('csrrsi', { csr: csr.mip, imm: 2 }))
  engine.setInterrupt(interruptBit.seip, true)
  step(engine, 1)
  assert.equal(engine.getCsr(csr.mip), interruptBit.seip | interruptBit.ssip)
  engine.setInterrupt(interruptBit.seip, false)
  assert.equal(engine.getCsr(csr.mip), interruptBit.ssip)
  engine.setCsr(csr.mip, interruptBit.seip)
  engine.setInterrupt(interruptBit.seip, true)
  engine.pc = base
  step(engine, 1)
  engine.setInterrupt(interruptBit.seip, false)
  assert.equal(engine.getCsr(csr.mip) & interruptBit.seip, interruptBit.seip, 'what software wrote stays')
})

test('mstatus keeps legal values: MPP never 2, UXL and SXL fixed, SD follows FS', () => {
  const { engine } = bareHart()
  engine.setCsr(csr.mstatus, (1n << 64n) - 1n)
  engine.setCsr(csr.mstatus, 2n << 11n)
  assert.equal(engine.getCsr(csr.mstatus), mstatusBit.mpp | mstatusBit.uxl | mstatusBit.sxl)
  engine.setCsr(csr.mstatus, mstatusBit.fs)
  assert.equal(engine.getCsr(csr.mstatus), mstatusBit.fs | mstatusBit.sd | mstatusBit.uxl | mstatusBit.sxl)
  assert.equal(engine.getCsr(csr.sstatus), mstatusBit.fs | mstatusBit.sd | mstatusBit.uxl)
})

test('floating point is illegal while FS is Off, and makes it Dirty when registers or flags change', () => {
  const { engine } = withHandlers((a) => a.emit('fmv.d.x', { rd: 1, rs1: a2 }))
  assert.equal(isIllegal(engine, 3), true)
  engine.setCsr(csr.mstatus, 1n << 13n)
  assert.equal(isIllegal(engine, 3), false)
  assert.equal(engine.getCsr(csr.mstatus) & mstatusBit.fs, mstatusBit.fs)
})

test('an invalid rounding mode is illegal, static or dynamic', () => {
  const add = (rm: number, frm: bigint): boolean => {
    const { engine } = withHandlers((a) => a.emit('fadd.d', { rd: 1, rs1: 2, rs2: 3, rm }))
    engine.setCsr(csr.mstatus, 1n << 13n)
    engine.setCsr(csr.frm, frm)
    return isIllegal(engine, 3)
  }
  assert.deepEqual(
    [0, 4, 5, 6].map((rm) => add(rm, 0n)),
    [false, false, true, true],
  )
  assert.deepEqual(
    [0n, 4n, 5n, 7n].map((frm) => add(7, frm)),
    [false, false, true, true],
  )
})

test('fcsr accrues the flags of an operation and keeps the old ones', () => {
  const { engine } = withHandlers((a) => {
    a.emit('fcvt.d.l', { rd: 1, rs1: a2 }).emit('fdiv.d', { rd: 2, rs1: 1, rs2: 3 })
    a.emit('fcvt.d.l', { rd: 4, rs1: t0, rm: 0 })
  })
  engine.setCsr(csr.mstatus, 1n << 13n)
  engine.setX(a2, 1n)
  engine.setX(t0, (1n << 62n) + 1n)
  step(engine, 2)
  assert.equal(engine.getCsr(csr.fflags), 8n, 'division by zero')
  step(engine, 1)
  assert.equal(engine.getCsr(csr.fcsr), 9n, 'and inexact')
})

test('the seed CSR wants a read-write access and an open mode, hands bytes out once, then says WAIT', () => {
  const { engine } = withHandlers((a) => a.emit('csrrw', { csr: csr.seed, rd: a2 }))
  engine.seedPool.add(Uint8Array.of(0x34, 0x12, 0xff))
  assert.equal(isIllegal(engine, 3), false)
  assert.equal(engine.getX(a2), 0x8000_1234n)
  assert.equal(engine.seedPool.availableBytes, 1)
  assert.equal(isIllegal(engine, 3), false)
  assert.equal(engine.getX(a2), 0x4000_0000n)
  assert.equal(isIllegal(engine, 1), true)
  engine.setCsr(csr.mseccfg, mseccfgBit.sseed)
  assert.equal(isIllegal(engine, 1), false)
  assert.equal(isIllegal(engine, 0), true)
  const read = withHandlers((a) => a.emit('csrrs.read', { csr: csr.seed, rd: a2 }))
  assert.equal(isIllegal(read.engine, 3), true)
})

test('a fetch from where there is no RAM is an instruction access fault that counts', () => {
  const { engine } = withHandlers((a) => a.emit('jalr', { rs1: a2 }))
  engine.setX(a2, 0x1000n)
  step(engine, 2)
  assert.equal(engine.getCsr(csr.mcause), BigInt(exceptionCause.instructionAccessFault))
  assert.equal(engine.getCsr(csr.mepc), 0x1000n)
  assert.equal(engine.count, 2n)
})
