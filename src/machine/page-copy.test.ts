import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Prng } from '../base/prng.ts'
import { MiB, pageBytes } from '../base/units.ts'
import { createEngine } from '../engine/wasm-engine.ts'
import { createMachine } from './machine.ts'
import { decodePages, PageCopy } from './page-copy.ts'
import { wildWriter } from './test-support/wild-writer.ts'
import { instructionCount, type Machine, type MachineCopy } from './types.ts'

function newMachine(): Machine {
  return createMachine({ ramBytes: 64 * MiB, disks: [] }, wildWriter(), createEngine)
}

function booted(): Machine {
  const machine = newMachine()
  machine.apply({ kind: 'boot', rngSeed: new Uint8Array(64), wallClockNs: 0n })
  return machine
}

function runOn(machine: Machine, instructions: number): void {
  machine.run(instructionCount(machine.count + BigInt(instructions)))
}

/** Takes all that is due; after each piece, `meanwhile`. */
function takeDue(copy: MachineCopy, to: Machine, meanwhile: () => void = () => {}): void {
  while (copy.duePages > 0) {
    to.loadPages(copy.takePages(64))
    meanwhile()
  }
}

/** A whole copy, of a machine that does `meanwhile` all the time until the last round. */
function copyOf(machine: Machine, rounds: number, meanwhile: () => void): Machine {
  const to = newMachine()
  const copy = machine.startCopy()
  for (let round = 1; round < rounds; round++) {
    takeDue(copy, to, meanwhile)
    copy.beginRound()
  }
  takeDue(copy, to, meanwhile)
  copy.beginRound()
  takeDue(copy, to)
  to.loadState(copy.takeState())
  copy.end()
  return to
}

test('a machine copied while it writes wildly has the digest of the original, and goes on the same way', () => {
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 1, max: 3 }), (seed, rounds) => {
      const prng = new Prng(seed)
      const machine = booted()
      runOn(machine, prng.below(2_000_000))
      const to = copyOf(machine, rounds, () => {
        runOn(machine, prng.below(20_000))
        // What reads the written pages for itself must not take them away from the copy.
        if (prng.chance(0.1)) machine.digest()
      })
      assert.equal(to.digest(), machine.digest())
      for (const one of [machine, to]) runOn(one, 300_000)
      assert.equal(to.digest(), machine.digest())
      assert.equal(to.count, machine.count)
    }),
    { numRuns: 8 },
  )
})

test('a copy is invisible to the machine: the digest of one that is copied is that of one that is not', () => {
  const [copied, alone] = [booted(), booted()]
  copyOf(copied, 3, () => runOn(copied, 5_000))
  runOn(alone, Number(copied.count))
  assert.equal(copied.digest(), alone.digest())
})

test('a machine whose memory is replaced in the middle of a copy is copied as it is after that', () => {
  const machine = booted()
  runOn(machine, 1_000_000)
  let turns = 0
  const to = copyOf(machine, 2, () => {
    if (++turns === 10) machine.restore(booted().snapshot())
    runOn(machine, 1_000)
  })
  assert.ok(turns > 10)
  assert.equal(to.digest(), machine.digest())
})

test('pages of zeros cost nothing, unless the other side has had something else there', () => {
  const ram = new Uint8Array(4 * pageBytes)
  ram[pageBytes] = 7
  const copy = new PageCopy(ram)
  assert.deepEqual(
    decodePages(copy.take(4), 4).map(({ page }) => page),
    [1],
  )
  ram[pageBytes] = 0
  copy.markWritten([1, 2])
  copy.beginRound()
  const zeros = copy.take(4)
  assert.equal(zeros.length, 4)
  assert.deepEqual(decodePages(zeros, 4), [{ page: 1, content: new Uint8Array(pageBytes) }])
  assert.equal(copy.duePages, 0)
})

test('pages of no such machine, and pages cut short, are refused', () => {
  const ram = new Uint8Array(2 * pageBytes).fill(1)
  const bytes = new PageCopy(ram).take(2)
  assert.throws(() => decodePages(bytes, 1), { code: 'bad-pages' })
  assert.throws(() => decodePages(bytes.subarray(0, -1), 2), { code: 'truncated' })
  const machine = createMachine({ ramBytes: 128 * MiB, disks: [] }, wildWriter(), createEngine)
  const copy = booted().startCopy()
  takeDue(copy, newMachine())
  assert.throws(() => machine.loadState(copy.takeState()), { code: 'state-of-other-machine' })
})
