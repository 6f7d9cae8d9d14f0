/**
 * The property of boot.system.ts on a guest small enough for every run of the unit tests: whatever a host does to a
 * machine (slices, snapshots, looking at it), the log alone decides what the guest sees. The mutations of
 * test/mutations break the machine in many ways, and these tests must notice.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { equalBytes } from '../../src/base/bytes.ts'
import { Prng } from '../../src/base/prng.ts'
import { createEngine } from '../../src/engine/wasm-engine.ts'
import type { LogEntry } from '../../src/log/entry.ts'
import { createMachine } from '../../src/machine/machine.ts'
import type { Machine } from '../../src/machine/types.ts'
import { MemoryDisk } from '../support/memory-disk.ts'
import { type Station, SyntheticWorld } from '../support/synthetic-world.ts'
import { bareGuestConfig, bareGuestImage, bareGuestSectors } from './bare-guest.ts'
import { delayEntry, dropEntry, tryMutations } from './log-mutation.ts'
import { assertReplays, entriesOf, randomSlices } from './replay.ts'

const image = bareGuestImage()
const newMachine = (): Machine => createMachine(bareGuestConfig, image, createEngine)

/** Sends frames of random content, some at their own time and some in answer to the guest's. */
class Chatterbox implements Station {
  readonly #prng = new Prng(3)
  onFrame(): Uint8Array[] {
    return this.#prng.chance(0.7) ? [this.#frame()] : []
  }
  onTick(): Uint8Array[] {
    return Array.from({ length: 1 + this.#prng.below(6) }, () => this.#frame())
  }
  #frame(): Uint8Array {
    return this.#prng.bytes(60 + this.#prng.below(200))
  }
}

/** A tenth of a second of a host that runs 5 to 20 million instructions per second: its events lie close together. */
const instructions = 1_000_000n
const psPerInstruction = { least: 50_000, most: 200_000 }

function record(seed: number, longestSlice = 5000n) {
  const disk = new MemoryDisk(bareGuestSectors)
  const station = new Chatterbox()
  const world = new SyntheticWorld(newMachine(), { seed, disk, station, psPerInstruction, longestSlice })
  world.powerOn()
  for (let count = 0n; count < instructions; ) {
    count += 50_000n
    world.runTo(count)
    world.recorder.entryDigest()
  }
  return { world, batches: world.recorder.takeBatches() }
}

const recorded = record(1)
const entries = entriesOf(recorded.batches)

const numberOf = (kind: LogEntry['body']['kind']): number => entries.filter(({ body }) => body.kind === kind).length

test('the recording has frames, disk answers, clock entries, random bytes and all their outputs', () => {
  const outputs = new Set(entries.flatMap(({ body }) => (body.kind === 'marker' ? [body.outputKind] : [])))
  assert.deepEqual([...outputs].sort(), ['console', 'disk', 'entropyRequest', 'frame'])
  assert.ok(numberOf('frame') >= 30, `${numberOf('frame')} frames`)
  assert.ok(numberOf('diskCompletion') >= 300, `${numberOf('diskCompletion')} answers of the disk`)
  assert.ok(numberOf('clock') >= 15, `${numberOf('clock')} clock entries`)
  assert.ok(numberOf('entropy') >= 1, `${numberOf('entropy')} entropy entries`)
})

describe('a replay has the same outputs, and the same digest at every checkpoint', () => {
  const prng = new Prng(11)
  const slicings: readonly [name: string, nextSlice: () => bigint][] = [
    ...[1n, 2n, 3n, 7n, 1000n, 10n ** 9n].map((slice): [string, () => bigint] => [
      `in slices of ${slice}`,
      () => slice,
    ]),
    ['in random slices', randomSlices(prng, 100_000)],
  ]
  for (const [name, nextSlice] of slicings) {
    test(name, () => {
      const { digests, machine } = assertReplays(entries, newMachine(), { nextSlice })
      assert.equal(digests, 20)
      assert.equal(machine.digest(), recorded.world.machine.digest())
    })
  }

  test('moved to a fresh machine by snapshot and restore, again and again', () => {
    const drive = { nextSlice: randomSlices(prng, 30_000), moveEvery: 70_000n, newMachine }
    const { moves, digests } = assertReplays(entries, newMachine(), drive)
    assert.ok(moves >= 8 && digests === 20, `${moves} moves, ${digests} digests`)
  })

  test('looked at before every slice', () => {
    const drive = { nextSlice: randomSlices(prng, 10_000), beforeSlice: (machine: Machine) => void machine.digest() }
    assert.equal(assertReplays(entries, newMachine(), drive).digests, 20)
  })
})

test('the same world recorded twice writes the same log, byte for byte', () => {
  const again = record(1).batches
  assert.equal(again.length, recorded.batches.length)
  for (const [position, { bytes }] of again.entries()) assert.ok(equalBytes(bytes, recorded.batches[position]!.bytes))
})

test('worlds with other seeds replay too', () => {
  for (const seed of [2, 3]) {
    const { batches } = record(seed, 300n)
    assertReplays(entriesOf(batches), newMachine(), { nextSlice: () => 777n })
  }
})

describe('this check can fail: a changed log is noticed', () => {
  const part = entries.slice(
    0,
    entries.findLastIndex(({ count }) => count < 300_000n),
  )

  for (const kind of ['clock', 'frame', 'diskCompletion', 'entropy'] as const) {
    test(`a dropped entry of the kind ${kind}`, () => {
      const { tried, noticed } = tryMutations(part, newMachine, kind, 5, dropEntry)
      assert.ok(tried === 5 && noticed === tried, `${noticed} of ${tried}`)
    })
  }

  for (const kind of ['clock', 'frame', 'diskCompletion'] as const) {
    test(`an entry of the kind ${kind}, one instruction late`, () => {
      const { tried, noticed } = tryMutations(part, newMachine, kind, 20, delayEntry)
      // The others fell where the guest had its interrupts off, and really changed nothing.
      assert.ok(tried === 20 && noticed > tried / 2, `${noticed} of ${tried}`)
    })
  }
})
