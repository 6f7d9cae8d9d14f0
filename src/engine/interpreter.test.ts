/** Running code: exact counts, misaligned and page-crossing accesses, atomics, code that changes, devices. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { Prng } from '../base/prng.ts'
import { MiB } from '../base/units.ts'
import { exceptionCause } from '../riscv/causes.ts'
import { csr } from '../riscv/csrs.ts'
import { interruptBit, mstatusBit } from './core/csr-fields.ts'
import { encode, reg } from './test-support/assembler.ts'
import { bareHart, deviceBase, loadProgram, loadWord64, stateOf, step, storeWord64 } from './test-support/bare-hart.ts'
import { kernelPage, PageTables } from './test-support/page-tables.ts'
import { type Engine, ramBase } from './types.ts'

const { a0, a1, a2, a3, t0, t1, t2, s0, s1 } = reg
const base = BigInt(ramBase)

/** Sums, branches, calls, memory, traps and timer interrupts in one endless loop. */
function busyProgram(engine: Engine): void {
  const handler = 0x1000
  loadProgram(engine, 0, (a) => {
    a.li(s0, base + 0x4000n).li(s1, 7n)
    a.label('loop')
    a.emit('addi', { rd: a0, rs1: a0, imm: 1 })
    a.emit('mul', { rd: a1, rs1: a1, rs2: s1 }).emit('add', { rd: a1, rs1: a1, rs2: a0 })
    a.emit('andi', { rd: t0, rs1: a1, imm: 0x7f8 }).emit('add', { rd: t0, rs1: t0, rs2: s0 })
    a.emit('ld', { rd: t1, rs1: t0 }).emit('xor', { rd: t1, rs1: t1, rs2: a1 }).emit('sd', { rs1: t0, rs2: t1, imm: 3 })
    a.emit('amoadd.w', { rd: t2, rs1: s0, rs2: a0 })
    a.emit('andi', { rd: t0, rs1: a1, imm: 64 })
    a.to('skip', 'beq', { rs1: t0 })
    a.word(0)
    a.label('skip').to('sub', 'jal', { rd: 1 })
    a.to('loop', 'jal')
    a.label('sub').emit('csrrs.read', { rd: t2, csr: csr.minstret }).emit('add', { rd: a2, rs1: a2, rs2: t2 })
    a.emit('jalr', { rs1: 1 })
  })
  loadProgram(engine, handler, (a) => {
    a.emit('csrrw', { csr: csr.mscratch, rd: t0, rs1: t0 })
    a.emit('csrrs.read', { csr: csr.mcause, rd: t1 })
    a.to('timer', 'blt', { rs1: t1, rs2: 0 })
    a.emit('csrrs.read', { csr: csr.mepc, rd: t1 }).emit('addi', { rd: t1, rs1: t1, imm: 4 })
    a.emit('csrrw', { csr: csr.mepc, rs1: t1 })
    a.to('out', 'jal')
    a.label('timer')
    a.emit('csrrs.read', { csr: csr.stimecmp, rd: t1 }).emit('addi', { rd: t1, rs1: t1, imm: 173 })
    a.emit('csrrw', { csr: csr.stimecmp, rs1: t1 })
    a.label('out')
    a.emit('csrrw', { csr: csr.mscratch, rd: t0, rs1: t0 })
    a.emit('mret')
  })
  engine.setCsr(csr.mtvec, base + BigInt(handler))
  engine.setCsr(csr.menvcfg, 1n << 63n)
  engine.setCsr(csr.stimecmp, 100n)
  engine.setCsr(csr.mie, interruptBit.stip)
  engine.setCsr(csr.mstatus, mstatusBit.mie)
}

test('the same state at every count, however the run is sliced, with snapshot and restore in between', () => {
  const total = 20_000n
  const checkpoint = 2_500n
  const run = (slice: () => number, between: (engine: Engine) => Engine = (engine) => engine): string[] => {
    let engine: Engine = bareHart(1 * MiB).engine
    busyProgram(engine)
    const states: string[] = []
    for (let end = checkpoint; end <= total; end += checkpoint) {
      while (engine.count < end) {
        const until = engine.count + BigInt(slice())
        engine.run(until < end ? until : end)
      }
      states.push(stateOf(engine))
      engine = between(engine)
    }
    return states
  }
  const whole = run(() => 1 << 20)
  assert.equal(new Set(whole).size, whole.length, 'the program goes on')
  const prng = new Prng(1n)
  for (const slice of [1, 2, 3, 7, 1000])
    assert.deepEqual(
      run(() => slice),
      whole,
      `slices of ${slice}`,
    )
  assert.deepEqual(
    run(() => 1 + prng.below(500)),
    whole,
    'random slices',
  )
  const restored = run(
    () => 1000,
    (engine) => {
      const writer = new ByteWriter()
      engine.saveState(writer)
      const next = bareHart(1 * MiB).engine
      for (let page = 0; page < 256; page++) next.restorePage(page, engine.ram.slice(page * 4096, page * 4096 + 4096))
      next.loadState(new ByteReader(writer.finish()))
      return next
    },
  )
  assert.deepEqual(restored, whole, 'restored')
})

test('run stops at exactly the count, also beyond 2^32 and when it has nothing to do', () => {
  const { engine } = bareHart()
  loadProgram(engine, 0, (a) => a.label('loop').to('loop', 'jal'))
  engine.count = 1n << 60n
  assert.equal(step(engine, 12345), 'count')
  assert.equal(engine.count, (1n << 60n) + 12345n)
  assert.equal(engine.run(5n), 'count')
  assert.equal(engine.count, (1n << 60n) + 12345n)
})

test('misaligned accesses of every size work, also across a page boundary', () => {
  const { engine } = bareHart()
  for (const [size, load, store] of [
    [2, 'lhu', 'sh'],
    [4, 'lwu', 'sw'],
    [8, 'ld', 'sd'],
  ] as const) {
    loadProgram(engine, 0, (a) => a.emit(store, { rs1: a1, rs2: a2 }).emit(load, { rd: a0, rs1: a1 }))
    for (let back = 1; back < size * 2; back++) {
      engine.pc = base
      engine.setX(a1, base + 0x5000n - BigInt(back))
      engine.setX(a2, 0x1122_3344_5566_7788n)
      step(engine, 2)
      assert.equal(engine.getX(a0), BigInt.asUintN(size * 8, 0x1122_3344_5566_7788n), `${size} bytes, ${back} back`)
    }
  }
})

test('a page-crossing store whose second page faults writes no byte and names the second page', () => {
  const { engine } = bareHart()
  const tables = new PageTables(engine)
  tables.map(0x4000_0000n, 0x2000, kernelPage)
  tables.map(0x4000_1000n, 0x8000, kernelPage)
  tables.enable()
  loadProgram(engine, 0x2000, (a) => a.emit('sd', { rs1: a1, rs2: a2 }).emit('ld', { rd: a0, rs1: a1 }))
  engine.setX(a2, -1n & 0xffff_ffff_ffff_ffffn)
  engine.setX(a1, 0x4000_1ffdn)
  for (const [start, cause] of [
    [0n, exceptionCause.storePageFault],
    [4n, exceptionCause.loadPageFault],
  ] as const) {
    engine.privilege = 1
    engine.pc = 0x4000_0000n + start
    step(engine, 1)
    assert.equal(engine.getCsr(csr.mcause), BigInt(cause))
    assert.equal(engine.getCsr(csr.mtval), 0x4000_2000n)
    assert.equal(loadWord64(engine, 0x8ff8), 0n)
  }
  // Two neighbours in virtual memory that are none in physical memory.
  tables.map(0x4000_2000n, 0x5000, kernelPage)
  engine.privilege = 1
  engine.pc = 0x4000_0000n
  step(engine, 2)
  assert.equal(engine.getX(a0), 0xffff_ffff_ffff_ffffn)
  assert.equal(loadWord64(engine, 0x8ff8), 0xffff_ff00_0000_0000n)
  assert.equal(loadWord64(engine, 0x5000), 0x0000_00ff_ffff_ffffn)
})

test('SC succeeds only on the reserved word, once, and not after a trap or a device write', () => {
  const attempt = (between: (engine: Engine) => void, offset = 0n): bigint => {
    const { engine } = bareHart()
    loadProgram(engine, 0, (a) => a.emit('lr.d', { rd: a0, rs1: a1 }).emit('sc.d', { rd: a3, rs1: a2, rs2: t0 }))
    engine.setX(a1, base + 0x2000n)
    engine.setX(a2, base + 0x2000n + offset)
    step(engine, 1)
    between(engine)
    step(engine, 1)
    assert.equal(engine.getCsr(csr.mcause), 0n)
    return engine.getX(a3)
  }
  assert.equal(
    attempt(() => {}),
    0n,
  )
  assert.equal(
    attempt(() => {}, 8n),
    1n,
  )
  assert.equal(
    attempt((engine) => storeWord64(engine, 0x2000, 1n)),
    1n,
  )
  assert.equal(
    attempt((engine) => storeWord64(engine, 0x2008, 1n)),
    0n,
  )
  const second = attempt((engine) => {
    engine.setX(a3, 9n)
    step(engine, 1)
    assert.equal(engine.getX(a3), 0n)
    engine.pc = base + 4n
  })
  assert.equal(second, 1n, 'the first SC used the reservation up')
  const trapped = attempt((engine) => {
    engine.setCsr(csr.mtvec, base + 0x100n)
    loadProgram(engine, 0x100, (a) => a.emit('csrrwi', { csr: csr.mcause }).emit('mret'))
    engine.setCsr(csr.mie, interruptBit.msip)
    engine.setInterrupt(interruptBit.msip, true)
    engine.setCsr(csr.mstatus, mstatusBit.mie)
    step(engine, 1)
    engine.setInterrupt(interruptBit.msip, false)
    step(engine, 1)
  })
  assert.equal(trapped, 1n)
})

test('misaligned and device-bound atomics fault as loads (LR) and stores (SC, AMO)', () => {
  for (const [name, misaligned, device] of [
    ['lr.w', exceptionCause.loadAddressMisaligned, exceptionCause.loadAccessFault],
    ['sc.w', exceptionCause.storeAddressMisaligned, exceptionCause.storeAccessFault],
    ['amoadd.w', exceptionCause.storeAddressMisaligned, exceptionCause.storeAccessFault],
  ] as const) {
    const { engine } = bareHart()
    loadProgram(engine, 0, (a) => a.emit(name, { rd: a0, rs1: a1 }))
    engine.setX(a1, base + 0x2002n)
    step(engine, 1)
    assert.equal(engine.getCsr(csr.mcause), BigInt(misaligned))
    engine.pc = base
    engine.setX(a1, BigInt(deviceBase))
    step(engine, 1)
    assert.equal(engine.getCsr(csr.mcause), BigInt(device))
  }
})

test('an instruction stored over the next one is what runs next, without FENCE.I', () => {
  const { engine } = bareHart()
  loadProgram(engine, 0, (a) => {
    a.label('again').emit('sw', { rs1: a1, rs2: a2 })
    a.emit('addi', { rd: a0, imm: 1 })
    a.to('again', 'jal')
  })
  engine.setX(a1, base + 0x800n)
  step(engine, 3)
  assert.equal(engine.getX(a0), 1n)
  engine.setX(a1, base + 4n)
  engine.setX(a2, BigInt(encode('addi', { rd: a0, imm: 2 })))
  step(engine, 2)
  assert.equal(engine.getX(a0), 2n)
})

test('a page that was written before it ran is still watched for stores once it runs', () => {
  const { engine } = bareHart()
  loadProgram(engine, 0, (a) => {
    a.label('again').emit('sw', { rs1: s0, rs2: a2 })
    a.emit('jalr', { rd: 1, rs1: s0 })
    a.emit('addi', { rd: a2, rs1: a3 })
    a.to('again', 'jal')
  })
  loadProgram(engine, 0x3000, (a) => a.word(0).emit('jalr', { rs1: 1 }))
  engine.setX(s0, base + 0x3000n)
  engine.setX(a2, BigInt(encode('addi', { rd: a0, imm: 1 })))
  engine.setX(a3, BigInt(encode('addi', { rd: a0, imm: 2 })))
  step(engine, 6)
  assert.equal(engine.getX(a0), 1n)
  step(engine, 4)
  assert.equal(engine.getX(a0), 2n)
})

test('an atomic that overwrites itself still writes its own destination', () => {
  const { engine } = bareHart()
  loadProgram(engine, 0, (a) => a.emit('amoswap.w', { rd: a0, rs1: a1, rs2: a2 }))
  engine.setX(a1, base)
  step(engine, 1)
  assert.equal(engine.getX(a0), BigInt(encode('amoswap.w', { rd: a0, rs1: a1, rs2: a2 })))
})

test('a store to the second half of an instruction changes it, at a page boundary too', () => {
  const { engine } = bareHart()
  const write = (offset: number, bits: number): void =>
    engine.storeBytes(ramBase + offset, new Uint8Array(Uint32Array.of(bits).buffer))
  for (const offset of [0x102, 0xffe]) {
    write(offset, encode('addi', { rd: a0, imm: 1 }))
    engine.pc = base + BigInt(offset)
    step(engine, 1)
    assert.equal(engine.getX(a0), 1n)
    assert.equal(engine.pc, base + BigInt(offset) + 4n)
    engine.storeBytes(ramBase + offset + 2, Uint8Array.of(0x20, 0))
    engine.pc = base + BigInt(offset)
    step(engine, 1)
    assert.equal(engine.getX(a0), 2n)
  }
})

test('a page that is written often gives up its records and runs what was written', () => {
  const { engine } = bareHart()
  loadProgram(engine, 0x3000, (a) => a.emit('addi', { rd: a0, imm: 1 }).emit('jalr', { rs1: 1 }))
  loadProgram(engine, 0, (a) => {
    a.label('again').emit('jalr', { rd: 1, rs1: s0 })
    a.li(t0, 300n)
    a.label('fill').emit('sd', { rs1: s1, rs2: 0 })
    a.emit('addi', { rd: t0, rs1: t0, imm: -1 })
    a.to('fill', 'bne', { rs1: t0 })
    a.emit('sw', { rs1: s0, rs2: a2 })
    a.to('again', 'jal')
  })
  engine.setX(s0, base + 0x3000n)
  engine.setX(s1, base + 0x3800n)
  engine.setX(a2, BigInt(encode('addi', { rd: a0, imm: 2 })))
  step(engine, 3)
  assert.equal(engine.getX(a0), 1n)
  step(engine, 910)
  assert.equal(engine.getX(a0), 2n)
})

test('an instruction across two pages is fetched through both mappings, each time', () => {
  const { engine } = bareHart()
  const tables = new PageTables(engine)
  const bits = encode('addi', { rd: a0, imm: 1 })
  const other = encode('addi', { rd: a0, imm: 2 })
  engine.storeBytes(ramBase + 0x2ffe, Uint8Array.of(bits & 0xff, (bits >> 8) & 0xff))
  engine.storeBytes(ramBase + 0x8000, Uint8Array.of((bits >> 16) & 0xff, bits >>> 24))
  engine.storeBytes(ramBase + 0x9000, Uint8Array.of((other >> 16) & 0xff, other >>> 24))
  tables.map(0x4000_0000n, 0x2000, kernelPage)
  tables.enable()
  const run = (): void => {
    engine.privilege = 1
    engine.pc = 0x4000_0ffen
    step(engine, 1)
  }
  run()
  assert.equal(engine.getCsr(csr.mcause), BigInt(exceptionCause.instructionPageFault))
  assert.equal(engine.getCsr(csr.mepc), 0x4000_0ffen)
  assert.equal(engine.getCsr(csr.mtval), 0x4000_1000n)
  tables.map(0x4000_1000n, 0x8000, kernelPage)
  run()
  assert.equal(engine.getX(a0), 1n)
  tables.map(0x4000_1000n, 0x9000, kernelPage)
  run()
  assert.equal(engine.getX(a0), 2n)
  assert.equal(engine.pc, 0x4000_1002n)
})

test('straight code runs on into the next page, compressed and not', () => {
  const { engine } = bareHart()
  const nop16 = 0x0001
  engine.storeBytes(ramBase + 0xffc, new Uint8Array(Uint16Array.of(nop16, nop16, nop16).buffer))
  loadProgram(engine, 0x1002 + 2, (a) => a.emit('addi', { rd: a0, imm: 7 }))
  engine.storeBytes(ramBase + 0x1002, new Uint8Array(Uint16Array.of(nop16).buffer))
  engine.pc = base + 0xffcn
  step(engine, 5)
  assert.equal(engine.getX(a0), 7n)
})

test('more code pages than there are slots are decoded again, and run the same', () => {
  const { engine } = bareHart(20 * MiB)
  const pages = 4500
  // Each page adds its number and jumps to the next; the last one goes back to the first.
  for (let page = 0; page < pages; page++) {
    const next = (page + 1) % pages
    loadProgram(engine, page * 4096, (a) => {
      a.li(t0, BigInt(page)).emit('add', { rd: a0, rs1: a0, rs2: t0 })
      a.li(t1, base + BigInt(next * 4096)).emit('addi', { rd: a1, rs1: a1, imm: 1 })
      a.emit('jalr', { rs1: t1 })
    })
  }
  while (engine.getX(a1) < BigInt(2 * pages)) step(engine, 3)
  assert.equal(engine.getX(a0), BigInt(pages * (pages - 1)))
})

test('a device sees size, value and the exact count; what it asks for happens right after the instruction', () => {
  const { engine, bus } = bareHart()
  loadProgram(engine, 0, (a) => {
    a.emit('addi', { rd: a0, imm: 1 })
    a.emit('sw', { rs1: a1, rs2: a2 })
    a.emit('lbu', { rs1: a1, rd: a3 })
    a.emit('addi', { rd: a0, imm: 2 })
  })
  engine.setX(a1, BigInt(deviceBase))
  engine.setX(a2, 0xffff_ffff_8765_4321n)
  const counts: bigint[] = []
  bus.loadValue = 0x42n
  bus.onAccess = () => {
    counts.push(engine.count)
    assert.equal(engine.ticks, engine.count)
    engine.requestStop()
  }
  assert.equal(step(engine, 10), 'stopRequested')
  assert.equal(engine.count, 2n)
  assert.equal(step(engine, 10), 'stopRequested')
  assert.equal(engine.count, 3n)
  assert.equal(engine.getX(a3), 0x42n)
  assert.equal(engine.getX(a0), 1n)
  assert.deepEqual(counts, [1n, 2n])
  assert.deepEqual(bus.accesses, ['store 4 2271560481', 'load 1'])
})

test('an interrupt that a device raises inside a store comes before the next instruction', () => {
  const { engine, bus } = bareHart()
  loadProgram(engine, 0, (a) => a.emit('sw', { rs1: a1 }).emit('addi', { rd: a0, imm: 1 }))
  engine.setCsr(csr.mtvec, base + 0x100n)
  loadProgram(engine, 0x100, (a) => a.emit('addi', { rd: a2, imm: 1 }))
  engine.setCsr(csr.mie, interruptBit.meip)
  engine.setCsr(csr.mstatus, mstatusBit.mie)
  engine.setX(a1, BigInt(deviceBase))
  bus.onAccess = () => engine.setInterrupt(interruptBit.meip, true)
  step(engine, 2)
  assert.equal(engine.getX(a0), 0n)
  assert.equal(engine.getX(a2), 1n)
  assert.equal(engine.getCsr(csr.mepc), base + 4n)
})

test('accesses where no device is, misaligned or beyond all addresses, are access faults', () => {
  const { engine } = bareHart()
  loadProgram(engine, 0, (a) => a.emit('lw', { rd: a0, rs1: a1 }).emit('sw', { rs1: a1 }))
  const end = base + BigInt(4 * MiB)
  // Of an access that runs out of RAM, mtval names the part that fails.
  for (const [address, value = address] of [
    [0n],
    [BigInt(deviceBase) + 2n],
    [1n << 55n],
    [base - 1n],
    [end - 2n, end],
  ] as const) {
    for (const [start, cause] of [
      [0n, exceptionCause.loadAccessFault],
      [4n, exceptionCause.storeAccessFault],
    ] as const) {
      engine.pc = base + start
      engine.setX(a1, address)
      step(engine, 1)
      assert.equal(engine.getCsr(csr.mcause), BigInt(cause))
      assert.equal(engine.getCsr(csr.mtval), value)
    }
  }
})

test('a watched word stops the run right after each store into it, and only then', () => {
  const { engine } = bareHart()
  loadProgram(engine, 0, (a) => {
    a.emit('sd', { rs1: a1, rs2: a2, imm: 8 })
    a.emit('sb', { rs1: a1, rs2: a2, imm: 3 })
    a.emit('sd', { rs1: a1, rs2: a2, imm: -4 })
    a.emit('addi')
  })
  engine.setX(a1, base + 0x2000n)
  engine.watchStore(ramBase + 0x2000)
  assert.equal(step(engine, 4), 'stopRequested')
  assert.equal(engine.count, 2n)
  assert.equal(engine.run(4n), 'stopRequested')
  assert.equal(engine.count, 3n)
  assert.equal(engine.run(4n), 'count')
})

test('written pages are listed once, in order, and again after the next write', () => {
  const { engine } = bareHart()
  loadProgram(engine, 0, (a) => {
    a.label('again').emit('sd', { rs1: a1 }).emit('sb', { rs1: a2, imm: -1 })
    a.to('again', 'jal')
  })
  assert.deepEqual(engine.takeWrittenPages(), [0])
  engine.setX(a1, base + 0x7ffcn)
  engine.setX(a2, base + 0x3000n)
  step(engine, 30)
  assert.deepEqual(engine.takeWrittenPages(), [2, 7, 8])
  assert.deepEqual(engine.takeWrittenPages(), [])
  step(engine, 2)
  assert.deepEqual(engine.takeWrittenPages(), [2, 7, 8])
})

test('a reset zeroes RAM and registers, keeps the count, and starts the counters anew', () => {
  const { engine } = bareHart()
  busyProgram(engine)
  step(engine, 5000)
  engine.reset()
  assert.equal(engine.count, 5000n)
  assert.ok(engine.ram.every((byte) => byte === 0))
  assert.equal(engine.getX(a0), 0n)
  assert.equal(engine.getCsr(csr.mcycle), 0n)
  assert.equal(engine.getCsr(csr.mtvec), 0n)
  busyProgram(engine)
  engine.setClock({ n0: 5000n, t0: 0n, ratePer2p32: 1n << 32n, cap: 1n << 62n })
  engine.pc = base
  const fresh = bareHart().engine
  busyProgram(fresh)
  step(fresh, 3000)
  step(engine, 3000)
  for (let register = 0; register < 32; register++) assert.equal(engine.getX(register), fresh.getX(register))
})
