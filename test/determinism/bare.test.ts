/**
 * The property of boot.system.ts on a guest small enough for every run of the unit tests: whatever a host does to a
 * machine (slices, snapshots, looking at it), the log alone decides what the guest sees. The mutations of
 * test/mutations break the machine in many ways, and these tests must notice.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { equalBytes } from '../../src/base/bytes.ts'
import { Prng } from '../../src/base/prng.ts'
import type { LogEntry } from '../../src/log/entry.ts'
import type { Machine } from '../../src/machine/types.ts'
import { newBareMachine, recordBareGuest } from './bare-recording.ts'
import { tryDelayedEntries, tryDroppedEntries } from './log-mutation.ts'
import { assertReplays, entriesOf, randomSlices } from './replay.ts'

const recorded = recordBareGuest(1)
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
      const { digests, machine } = assertReplays(entries, newBareMachine(), { nextSlice })
      assert.equal(digests, 20)
      assert.equal(machine.digest(), recorded.digest)
    })
  }

  test('moved to a fresh machine by snapshot and restore, again and again', () => {
    const drive = { nextSlice: randomSlices(prng, 30_000), moveEvery: 70_000n, newMachine: newBareMachine }
    const { moves, digests } = assertReplays(entries, newBareMachine(), drive)
    assert.ok(moves >= 8 && digests === 20, `${moves} moves, ${digests} digests`)
  })

  test('looked at before every slice', () => {
    const drive = { nextSlice: randomSlices(prng, 10_000), beforeSlice: (machine: Machine) => void machine.digest() }
    assert.equal(assertReplays(entries, newBareMachine(), drive).digests, 20)
  })
})

test('the digest is the same at every 89th instruction, in slices that end elsewhere', () => {
  const { batches } = recordBareGuest(4, { instructions: 200_000n, checkpointInstructions: 89n })
  const dense = entriesOf(batches)
  for (const slice of [1n, 3n, 1000n]) {
    const { digests } = assertReplays(dense, newBareMachine(), { nextSlice: () => slice })
    assert.equal(digests, 2247)
  }
})

test('the same world recorded twice writes the same log, byte for byte', () => {
  const again = recordBareGuest(1).batches
  assert.equal(again.length, recorded.batches.length)
  for (const [position, { bytes }] of again.entries()) assert.ok(equalBytes(bytes, recorded.batches[position]!.bytes))
})

test('worlds with other seeds replay too', () => {
  for (const seed of [2, 3]) {
    const { batches } = recordBareGuest(seed, { longestSlice: 300n })
    assertReplays(entriesOf(batches), newBareMachine(), { nextSlice: () => 777n })
  }
})

describe('this check can fail: a changed log is noticed', () => {
  const part = entries.slice(
    0,
    entries.findLastIndex(({ count }) => count < 300_000n),
  )

  for (const kind of ['clock', 'frame', 'diskCompletion', 'entropy'] as const) {
    test(`a dropped entry of the kind ${kind}`, () => {
      assert.deepEqual(tryDroppedEntries(part, newBareMachine, kind, 5), { tried: 5, noticed: 5 })
    })
  }

  for (const kind of ['clock', 'frame', 'diskCompletion'] as const) {
    test(`an entry of the kind ${kind}, one instruction late, if that makes a difference at all`, () => {
      assert.deepEqual(tryDelayedEntries(part, newBareMachine, kind, 8), { tried: 8, noticed: 8 })
    })
  }
})
