/** The machine around the real engine, with a bare program small enough to read: prints, sleeps on the timer, ends. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Prng } from '../base/prng.ts'
import { MiB } from '../base/units.ts'
import { createEngine } from '../engine/wasm-engine.ts'
import { createMachine } from './machine.ts'
import { bareProgram } from './test-support/boot-images.ts'
import { instructionCount, type Machine } from './types.ts'

const program = [
  0x100002b7, // lui   t0, 0x10000          the UART
  0x00000317, // auipc t1, 0
  0x05830313, // addi  t1, t1, 0x58         the text
  0x00034383, // lbu   t2, 0(t1)
  0x00038863, // beqz  t2, +16
  0x00728023, // sb    t2, 0(t0)
  0x00130313, // addi  t1, t1, 1
  0xff1ff06f, // j     -16
  0x0200c2b7, // lui   t0, 0x200c
  0xff82829b, // addiw t0, t0, -8           mtime
  0x0002b303, // ld    t1, 0(t0)
  0x3e830313, // addi  t1, t1, 1000
  0x020042b7, // lui   t0, 0x2004           mtimecmp
  0x0062b023, // sd    t1, 0(t0)
  0x08000393, // li    t2, MTIE
  0x3043a073, // csrs  mie, t2
  0x10500073, // wfi
  0x00b00293, // li    t0, 11               code 5
  0x00080337, // lui   t1, 0x80
  0x0013031b, // addiw t1, t1, 1
  0x00c31313, // slli  t1, t1, 12           tohost, 0x80001000
  0x00533023, // sd    t0, 0(t1)
  0x0000006f, // j     0
  0x000a6b6f, // "ok\n"
]

function booted(): Machine {
  const machine = createMachine({ ramBytes: 64 * MiB, disks: [] }, bareProgram({ code: program }), createEngine)
  machine.apply({ kind: 'boot', rngSeed: new Uint8Array(64), wallClockNs: 0n })
  machine.apply({ kind: 'clock', ticks: 50n, ratePer2p32: 1n << 32n, capTicks: 1n << 40n })
  return machine
}

/** Runs to the end in slices; every stop is noted with its count and the digest there. */
function transcript(machine: Machine, slice: () => number): string[] {
  const seen: string[] = []
  for (let turn = 0; turn < 10_000; turn++) {
    const stop = machine.run(instructionCount(machine.count + BigInt(slice())))
    const outputs = machine.takeOutputs()
    for (const output of outputs) {
      const text = output.kind === 'console' ? JSON.stringify(new TextDecoder().decode(output.bytes)) : output.kind
      seen.push(`${machine.count} ${text} ${machine.digest().toString(16)}`)
      if (output.kind === 'entropyRequest') {
        machine.apply({ kind: 'entropy', bytes: new Uint8Array(output.lengthBytes).fill(3) })
      }
    }
    if (outputs.length > 0 || stop.kind === 'count') continue
    seen.push(`${machine.count} ${stop.kind} ${machine.digest().toString(16)}`)
    if (stop.kind === 'exited') {
      seen.push(`code ${stop.code}`)
      return seen
    }
    if (stop.kind === 'waiting') {
      assert.ok(stop.deadline !== undefined && stop.deadline > machine.ticks)
      machine.apply({ kind: 'clock', ticks: stop.deadline, ratePer2p32: 1n << 32n, capTicks: 1n << 40n })
    }
  }
  throw new Error('the program does not end')
}

test('a bare program prints, sleeps until its timer, and ends through tohost right after the store', () => {
  const seen = transcript(booted(), () => 1000)
  assert.deepEqual(
    seen.map((line) => line.split(' ').slice(0, 2).join(' ')),
    ['16 "ok\\n"', '29 waiting', '34 exited', 'code 5'],
  )
})

test('stops, outputs and digests are the same however the run is sliced', () => {
  const random = new Prng(3)
  const whole = transcript(booted(), () => 1000)
  for (const slice of [() => 1, () => 2, () => 3, () => 7, () => 1 + random.below(20)]) {
    assert.deepEqual(transcript(booted(), slice), whole)
  }
})

test('a snapshot at any count goes on to the same end', () => {
  const whole = transcript(booted(), () => 1000)
  const original = booted()
  for (let until = 1; until < 16; until += 3) {
    original.run(instructionCount(BigInt(until)))
    const copy = booted()
    copy.restore(original.snapshot())
    assert.equal(copy.digest(), original.digest())
    assert.deepEqual(
      transcript(copy, () => 5),
      whole,
    )
  }
})

test('a second boot starts from the image again, with empty memory, and the count goes on', () => {
  const machine = booted()
  transcript(machine, () => 1000)
  assert.equal(machine.count, 34n)
  machine.apply({ kind: 'boot', rngSeed: new Uint8Array(64), wallClockNs: 0n })
  const fresh = booted()
  assert.equal(machine.snapshot().length, fresh.snapshot().length, 'nothing of the first boot is left in memory')

  // The digest that was kept up to date through the reset equals one computed from nothing.
  const copy = booted()
  copy.restore(machine.snapshot())
  assert.equal(copy.digest(), machine.digest())

  const seen = transcript(machine, () => 1000)
  assert.deepEqual(
    seen.map((line) => line.split(' ').slice(0, 2).join(' ')),
    ['50 "ok\\n"', '63 waiting', '68 exited', 'code 5'],
  )
})
