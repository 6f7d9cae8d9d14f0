import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MiB } from '../base/units.ts'
import { ramBase } from '../engine/types.ts'
import { createMachine } from './machine.ts'
import { memoryMap, virtioSlotBase } from './memory-map.ts'
import { bareProgram, kernelImage } from './test-support/boot-images.ts'
import { FakeEngine, type FakeInstruction } from './test-support/fake-engine.ts'
import { type BootImage, type Input, instructionCount, type Machine, type MachineConfig } from './types.ts'

const config: MachineConfig = {
  ramBytes: 64 * MiB,
  disks: [{ sectors: 1000n, readOnly: false, serial: 'root' }],
  nic: { mac: Uint8Array.of(2, 0, 0, 0, 0, 1) },
}
const linux: BootImage = {
  kind: 'linux',
  kernel: kernelImage(),
  initrd: Uint8Array.of(1, 2, 3),
  bootArguments: 'console=ttyS0',
}
const boot: Input = { kind: 'boot', rngSeed: new Uint8Array(64).fill(0x5a), wallClockNs: 1_700_000_000_000_000_000n }

function build(image: BootImage = linux, instruction: FakeInstruction = () => undefined, wanted = config) {
  let engine: FakeEngine | undefined
  const machine = createMachine(wanted, image, (options) => (engine = new FakeEngine(options)))
  engine!.instruction = instruction
  return { machine, engine: engine! }
}

function booted(image?: BootImage, instruction?: FakeInstruction) {
  const made = build(image, instruction)
  made.machine.apply(boot)
  return made
}

const n = instructionCount
const run = (machine: Machine, until: number) => machine.run(n(BigInt(until)))

/** Prints `text` byte by byte from instruction `from` on, by stores to the UART. */
function printer(text: string, from = 1): FakeInstruction {
  return (hart) => {
    const letter = text.charCodeAt(Number(hart.count) - from)
    if (letter >= 0) hart.bus.store(memoryMap.uart.base, 1, BigInt(letter))
    return undefined
  }
}

function printed(machine: Machine): string {
  const decoder = new TextDecoder()
  return machine
    .takeOutputs()
    .map((output) => (output.kind === 'console' ? decoder.decode(output.bytes) : `<${output.kind}>`))
    .join('|')
}

/** An ECALL from S mode at instruction 1. */
function sbiCall(extension: bigint, id: bigint, ...parameters: bigint[]): FakeInstruction {
  return (hart) => {
    if (hart.count !== 1n) return undefined
    hart.setX(17, extension)
    hart.setX(16, id)
    parameters.forEach((value, index) => {
      hart.setX(10 + index, value)
    })
    return 'supervisorCall'
  }
}

test('a machine is off until its boot input, and runs to the exact count after it', () => {
  const { machine } = build()
  assert.deepEqual(run(machine, 10), { kind: 'off' })
  machine.apply(boot)
  assert.deepEqual(run(machine, 10), { kind: 'count' })
  assert.equal(machine.count, 10n)
  assert.deepEqual(run(machine, 5), { kind: 'count' })
  assert.equal(machine.count, 10n)
})

test('Linux starts in S mode with hart 0 in a0, the device tree in a1, delegation and counters set', () => {
  const { engine } = booted()
  assert.equal(engine.privilege, 1)
  assert.equal(engine.pc, BigInt(ramBase + 2 * MiB))
  assert.equal(engine.getX(10), 0n)
  const tree = Number(engine.getX(11)) - ramBase
  assert.equal(new DataView(engine.ram.buffer).getUint32(tree, false), 0xd00d_feed)
  assert.equal(engine.getCsr(0x302) & (1n << 9n), 0n, 'ECALL from S is an SBI call')
  assert.equal(engine.getCsr(0x303), 0x222n)
  assert.equal(engine.getCsr(0x30a), (1n << 63n) | (1n << 61n))
  assert.equal(engine.seedPool.availableBytes, 32)
})

test('an output stops the run right after the instruction that made it', () => {
  const { machine } = booted(linux, printer('hi\nyou'))
  assert.deepEqual(run(machine, 100), { kind: 'outputs' })
  assert.equal(machine.count, 3n)
  assert.deepEqual(run(machine, 100), { kind: 'outputs' }, 'and it does not go on before the outputs are taken')
  assert.equal(printed(machine), 'hi\n')
  assert.deepEqual(run(machine, 100), { kind: 'count' })
  assert.equal(printed(machine), '', 'a line without its end waits')
})

test('a console batch goes out with a clock input, with a WFI, and when it is full', () => {
  const clocked = booted(linux, printer('a'))
  run(clocked.machine, 50)
  clocked.machine.apply({ kind: 'clock', ticks: clocked.machine.ticks, ratePer2p32: 0n, capTicks: 0n })
  assert.equal(printed(clocked.machine), 'a')

  const idle = booted(linux, (hart) => (hart.count === 5n ? 'waiting' : printer('b')(hart)))
  assert.deepEqual(run(idle.machine, 50), { kind: 'outputs' })
  assert.equal(idle.machine.count, 5n)
  assert.match(printed(idle.machine), /^b/)
  assert.deepEqual(run(idle.machine, 50), { kind: 'waiting', deadline: undefined })

  const full = booted(linux, printer('x'.repeat(300)))
  assert.deepEqual(run(full.machine, 1000), { kind: 'outputs' })
  assert.equal(full.machine.count, 256n)
})

test('console output is batched the same however the run is sliced', () => {
  const text = 'line one\nline two\nprompt> '
  const outputs = [1, 2, 3, 7, 1000].map((slice) => {
    const { machine } = booted(linux, (hart) => (hart.count % 40n === 0n ? 'waiting' : printer(text)(hart)))
    const seen: string[] = []
    for (let until = slice; machine.count < 40n; ) {
      const reason = run(machine, Math.min(until, 40))
      if (reason.kind === 'outputs') seen.push(`${machine.count}:${printed(machine)}`)
      else until += slice
    }
    return seen
  })
  for (const other of outputs) assert.deepEqual(other, outputs[0])
  assert.equal(outputs[0]!.length, 3)
})

test('while the hart waits the count stands still; an enabled interrupt ends the wait, a masked one does not', () => {
  const { machine, engine } = booted(linux, (hart) => (hart.count === 3n ? 'waiting' : undefined))
  machine.takeOutputs()
  engine.seedPool.add(new Uint8Array(64))
  engine.setCsr(0x14d, 5000n)
  assert.deepEqual(run(machine, 10), { kind: 'waiting', deadline: 5000n })
  assert.deepEqual(run(machine, 1000), { kind: 'waiting', deadline: 5000n })
  assert.equal(machine.count, 3n)
  engine.setInterrupt(1n << 9n, true)
  assert.deepEqual(run(machine, 10), { kind: 'waiting', deadline: 5000n })
  engine.setCsr(0x304, 1n << 9n)
  assert.deepEqual(run(machine, 10), { kind: 'count' })
})

test('a clock input that reaches the deadline ends the wait', () => {
  const { machine, engine } = booted(linux, (hart) => (hart.count === 3n ? 'waiting' : undefined))
  engine.seedPool.add(new Uint8Array(64))
  engine.setCsr(0x14d, 5000n)
  assert.equal(run(machine, 10).kind, 'waiting')
  machine.apply({ kind: 'clock', ticks: 4999n, ratePer2p32: 0n, capTicks: 0n })
  assert.equal(run(machine, 10).kind, 'waiting')
  machine.apply({ kind: 'clock', ticks: 5000n, ratePer2p32: 0n, capTicks: 0n })
  assert.equal(run(machine, 10).kind, 'count')
})

test('guest time never goes back', () => {
  const { machine } = booted()
  machine.apply({ kind: 'clock', ticks: 100_000n, ratePer2p32: 0n, capTicks: 0n })
  assert.throws(() => machine.apply({ kind: 'clock', ticks: 99_999n, ratePer2p32: 0n, capTicks: 0n }), /goes back/)
})

test('SBI: version 2.0, probes, a timer, and an error for what is not offered', () => {
  const calls: [FakeInstruction, bigint, bigint][] = [
    [sbiCall(0x10n, 0n), 0n, 0x200_0000n],
    [sbiCall(0x10n, 3n, 0x5449_4d45n), 0n, 1n],
    [sbiCall(0x10n, 3n, 0x5355_5350n), 0n, 0n],
    [sbiCall(0x1234n, 0n), 0xffff_ffff_ffff_fffen, 0n],
    [sbiCall(0x4442_434en, 0n, 10n, 0x1000n, 0n), 0xffff_ffff_ffff_fffdn, 0n],
    [sbiCall(0x4442_434en, 0n, 10n, 0xffff_ffff_ffff_fff8n, 0n), 0xffff_ffff_ffff_fffdn, 0n],
    [sbiCall(0x48_534dn, 2n, 0n), 0n, 0n],
    [sbiCall(0x48_534dn, 2n, 1n), 0xffff_ffff_ffff_fffdn, 0n],
  ]
  for (const [instruction, error, value] of calls) {
    const { machine, engine } = booted(linux, instruction)
    assert.deepEqual(run(machine, 2), { kind: 'count' })
    assert.deepEqual([engine.getX(10), engine.getX(11)], [error, value])
  }
  const timer = booted(linux, sbiCall(0x5449_4d45n, 0n, 777n))
  run(timer.machine, 2)
  assert.equal(timer.engine.getCsr(0x14d), 777n)
})

test('SBI: the debug console writes guest memory out and reads received bytes in', () => {
  const address = BigInt(ramBase + 0x1000)
  const writing = booted(linux, sbiCall(0x4442_434en, 0n, 4n, address, 0n))
  writing.engine.storeBytes(ramBase + 0x1000, new TextEncoder().encode('sbi\n'))
  assert.deepEqual(run(writing.machine, 9), { kind: 'outputs' })
  assert.equal(writing.machine.count, 1n)
  assert.equal(printed(writing.machine), 'sbi\n')

  const reading = booted(linux, sbiCall(0x4442_434en, 1n, 16n, address, 0n))
  reading.machine.apply({ kind: 'consoleInput', bytes: new TextEncoder().encode('key') })
  run(reading.machine, 2)
  assert.equal(reading.engine.getX(11), 3n)
  assert.equal(new TextDecoder().decode(reading.engine.ram.subarray(0x1000, 0x1003)), 'key')
})

test('SBI reset goes out as a power output; a boot input then starts from the image again, and counting goes on', () => {
  const { machine, engine } = booted(linux, sbiCall(0x5352_5354n, 0n, 1n, 0n))
  assert.deepEqual(run(machine, 10), { kind: 'outputs' })
  assert.deepEqual(machine.takeOutputs(), [{ kind: 'power', sequence: 0n, action: 'reboot', failed: false }])
  assert.deepEqual(run(machine, 10), { kind: 'off' })
  engine.storeBytes(ramBase + 0x5000, Uint8Array.of(1))
  machine.apply(boot)
  assert.equal(engine.ram[0x5000], 0)
  assert.equal(machine.count, 1n)
  assert.deepEqual(run(machine, 10), { kind: 'count' })

  const panicked = booted(linux, sbiCall(0x5352_5354n, 0n, 0n, 1n))
  run(panicked.machine, 10)
  assert.deepEqual(panicked.machine.takeOutputs(), [{ kind: 'power', sequence: 0n, action: 'off', failed: true }])
})

test('a bare program starts in M mode at its entry, and ends by HTIF or by the finisher with its code', () => {
  const image = bareProgram({ tohost: ramBase + 0x2000 })
  const store = (value: bigint): FakeInstruction => {
    return (hart) => {
      const bytes = new Uint8Array(8)
      new DataView(bytes.buffer).setBigUint64(0, value, true)
      if (hart.count === 4n) hart.hartStore(ramBase + 0x2000, bytes)
      return undefined
    }
  }
  const passing = booted(image, store(1n))
  assert.equal(passing.engine.privilege, 3)
  assert.equal(passing.engine.pc, BigInt(ramBase))
  assert.deepEqual(run(passing.machine, 100), { kind: 'exited', code: 0 })
  assert.equal(passing.machine.count, 4n)
  assert.deepEqual(run(booted(image, store(7n)).machine, 100), { kind: 'exited', code: 3 })

  const finish = (value: bigint): FakeInstruction => {
    return (hart) => {
      if (hart.count === 4n) hart.bus.store(memoryMap.sifiveTest.base, 4, value)
      return undefined
    }
  }
  assert.deepEqual(run(booted(image, finish(0x5555n)).machine, 100), { kind: 'exited', code: 0 })
  assert.deepEqual(run(booted(image, finish(0x2a_3333n)).machine, 100), { kind: 'exited', code: 42 })
})

test('what a bare program printed last goes out before its end is reported, even at the last count', () => {
  const image = bareProgram({ tohost: ramBase + 0x2000 })
  const { machine } = booted(image, (hart) => {
    if (hart.count === 1n) hart.bus.store(memoryMap.uart.base, 1, 0x41n)
    if (hart.count === 2n) hart.bus.store(memoryMap.sifiveTest.base, 4, 0x5555n)
    return undefined
  })
  assert.deepEqual(run(machine, 2), { kind: 'outputs' })
  assert.equal(printed(machine), 'A')
  assert.deepEqual(run(machine, 2), { kind: 'exited', code: 0 })
})

test('nothing answers outside RAM and devices, and Linux machines have no finisher', () => {
  const { engine } = booted()
  assert.equal(engine.bus.load(0x4000_0000, 4), undefined)
  assert.equal(engine.bus.store(memoryMap.sifiveTest.base, 4, 0x5555n), false)
  assert.equal(engine.bus.load(virtioSlotBase(0), 4), 0x7472_6976n)
  assert.equal(engine.bus.load(virtioSlotBase(0) + 8, 4), 2n)
  assert.equal(engine.bus.load(virtioSlotBase(1) + 8, 4), 1n)
  assert.equal(engine.bus.load(virtioSlotBase(2) + 8, 4), 4n)
  assert.equal(engine.bus.load(virtioSlotBase(3) + 8, 4), 18n)
  assert.equal(engine.bus.load(virtioSlotBase(4) + 8, 4), undefined)
})

test('the real-time clock shows the wall clock of the boot plus guest time since', () => {
  const { machine, engine } = booted()
  const passes = (ticks: bigint) =>
    machine.apply({ kind: 'clock', ticks: machine.ticks + ticks, ratePer2p32: 0n, capTicks: 0n })
  const read = () => {
    const low = engine.bus.load(memoryMap.rtc.base, 4)!
    return (engine.bus.load(memoryMap.rtc.base + 4, 4)! << 32n) | low
  }
  passes(15_000_000n)
  assert.equal(read(), 1_700_000_001_500_000_000n)
  passes(10_000_000n)
  assert.equal(read(), 1_700_000_002_500_000_000n)
})

test('the clock anchor is that of the last boot, is part of a snapshot, and moves as the guest first reads its RTC', () => {
  const { machine, engine } = build()
  assert.equal(machine.clockAnchor, undefined)
  machine.apply(boot)
  const wallClockNs = 1_700_000_000_000_000_000n
  assert.deepEqual(machine.clockAnchor, { wallClockNs, ticks: 0n })
  machine.apply({ kind: 'clock', ticks: 7_000_000n, ratePer2p32: 0n, capTicks: 0n })
  engine.bus.load(memoryMap.rtc.base, 4)
  const moved = { wallClockNs: wallClockNs - 200_000_000n, ticks: 0n }
  assert.deepEqual(machine.clockAnchor, moved)
  const copy = build()
  copy.machine.restore(machine.snapshot())
  assert.deepEqual(copy.machine.clockAnchor, moved)
})

test('the incremental digest equals that of a machine which computes it once', () => {
  const store = (hart: FakeEngine): undefined => {
    hart.hartStore(ramBase + 0x3000 + Number(hart.count % 3n) * 0x1000, Uint8Array.of(Number(hart.count % 7n)))
  }
  const often = booted(linux, store)
  const once = booted(linux, store)
  for (let until = 1; until <= 60; until++) {
    run(often.machine, until)
    often.machine.digest()
  }
  run(once.machine, 60)
  assert.equal(often.machine.digest(), once.machine.digest())
  once.engine.hartStore(ramBase + 0x9000, Uint8Array.of(1))
  assert.notEqual(often.machine.digest(), once.machine.digest())
  once.engine.hartStore(ramBase + 0x9000, Uint8Array.of(0))
  assert.equal(often.machine.digest(), once.machine.digest())
})

test('the digest sees where a page is: equal content elsewhere is another state', () => {
  const [here, there] = [booted(), booted()]
  here.engine.hartStore(ramBase + 0x5000, Uint8Array.of(1))
  there.engine.hartStore(ramBase + 0x6000, Uint8Array.of(1))
  assert.notEqual(here.machine.digest(), there.machine.digest())
})

test('the digest sees registers and device state', () => {
  const { machine, engine } = booted()
  const before = machine.digest()
  engine.setX(5, 1n)
  const withRegister = machine.digest()
  assert.notEqual(withRegister, before)
  engine.bus.store(memoryMap.uart.base + 7, 1, 3n)
  assert.notEqual(machine.digest(), withRegister)
})

test('a restored snapshot has the same digest and goes on the same way', () => {
  const program: FakeInstruction = (hart) => {
    hart.hartStore(ramBase + 0x4000 + Number(hart.count), Uint8Array.of(Number(hart.count & 0xffn)))
    return printer('abc\ndef', 5)(hart)
  }
  const original = booted(linux, program)
  run(original.machine, 100)
  original.machine.takeOutputs()
  run(original.machine, 100)
  original.machine.apply({ kind: 'consoleInput', bytes: Uint8Array.of(1, 2, 3) })
  const snapshot = original.machine.snapshot()

  const copy = booted(linux, program)
  run(copy.machine, 8)
  copy.machine.takeOutputs()
  copy.engine.hartStore(ramBase + 0x80_0000, Uint8Array.of(9))
  copy.machine.restore(snapshot)
  assert.equal(copy.machine.count, 100n)
  assert.equal(copy.machine.digest(), original.machine.digest())
  for (const { machine } of [original, copy]) {
    machine.apply({ kind: 'clock', ticks: 1_000n, ratePer2p32: 1n << 32n, capTicks: 1n << 40n })
    assert.equal(printed(machine), 'def')
    run(machine, 200)
  }
  assert.equal(copy.machine.digest(), original.machine.digest())
  assert.deepEqual(copy.machine.snapshot(), original.machine.snapshot())
})

test('a machine restored from a snapshot in WFI still waits', () => {
  const sleeper: FakeInstruction = (hart) => (hart.count === 3n ? 'waiting' : undefined)
  const original = booted(linux, sleeper)
  assert.equal(run(original.machine, 10).kind, 'waiting')
  const copy = booted(linux, sleeper)
  copy.machine.restore(original.machine.snapshot())
  assert.equal(run(copy.machine, 10).kind, 'waiting')
})

test('a snapshot of another machine, a damaged one and something else are refused with a clear line', () => {
  const snapshot = booted().machine.snapshot()
  const other = build(linux, undefined, { ...config, ramBytes: 65 * MiB }).machine
  assert.throws(() => other.restore(snapshot), { code: 'snapshot-of-other-machine' })
  const damaged = snapshot.slice()
  damaged[damaged.length >> 1]! ^= 1
  assert.throws(() => booted().machine.restore(damaged), { code: 'snapshot-damaged' })
  assert.throws(() => booted().machine.restore(snapshot.subarray(0, 5000)), { code: 'snapshot-damaged' })
  assert.throws(() => booted().machine.restore(Uint8Array.of(1, 2, 3)), { code: 'not-a-snapshot' })
})

test('a config that cannot work is refused', () => {
  const bad = (change: Partial<MachineConfig>) => () => build(linux, undefined, { ...config, ...change })
  assert.throws(bad({ ramBytes: MiB }), { code: 'bad-memory-size' })
  assert.throws(bad({ ramBytes: 64 * MiB + 1 }), { code: 'bad-memory-size' })
  assert.throws(bad({ disks: Array.from({ length: 6 }, () => config.disks[0]!) }), { code: 'too-many-disks' })
  assert.throws(bad({ nic: { mac: Uint8Array.of(1) } }), { code: 'bad-mac' })
})
