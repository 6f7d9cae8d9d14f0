import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NbdError } from '../disk/nbd-error.ts'
import type { DiskOutcome } from '../disk/steady-requests.ts'
import type { NeededRead } from '../hypervisor/replayer.ts'
import type { DiskRequest } from '../log/entry.ts'
import { ReplayedReads } from './replayed-reads.ts'

const request = (sequence: bigint): DiskRequest => {
  return { kind: 'disk', sequence, disk: 0, operation: 'read', sector: 8n, lengthBytes: 512 }
}
const broken = new NbdError('io', 'bad sector')
const other: NeededRead = { sequence: 1n, difference: {} as NonNullable<NeededRead['difference']> }

/** A disk that the test answers for, and a clock that it moves. */
function newReads(readsAhead: boolean) {
  const attempts: ((outcome: DiskOutcome) => void)[] = []
  const waiting: (() => void)[] = []
  const given: [bigint, number][] = []
  const turns = { begun: 0, over: 0 }
  const reads = new ReplayedReads({
    readsAhead,
    inTurn: (_request, begin) => {
      turns.begun++
      begin(() => turns.over++)
    },
    read: (_request, done) => attempts.push(done),
    later: (again) => waiting.push(again),
    onRead: (sequence, data) => given.push([sequence, data[0]!]),
    trace: () => {},
  })
  return { reads, attempts, waiting, given, turns }
}

test('a read begins when the machine asks if the log is going to leave it out, and otherwise when the log says so', () => {
  const ahead = newReads(true)
  ahead.reads.onRequest(request(1n))
  assert.equal(ahead.attempts.length, 1)
  ahead.reads.onNeeded({ sequence: 1n })
  assert.equal(ahead.attempts.length, 1, 'and not again')
  const waits = newReads(false)
  waits.reads.onRequest(request(1n))
  assert.equal(waits.attempts.length, 0)
  waits.reads.onNeeded({ sequence: 1n })
  waits.attempts[0]!(Uint8Array.of(7))
  assert.deepEqual(waits.given, [[1n, 7]])
})

test('what fails is read again after a while, in the same turn, until it succeeds', () => {
  const { reads, attempts, waiting, given, turns } = newReads(true)
  reads.onRequest(request(1n))
  attempts[0]!(broken)
  reads.onNeeded({ sequence: 1n })
  assert.deepEqual([attempts.length, waiting.length, turns.over], [1, 1, 0])
  waiting[0]!()
  attempts[1]!(Uint8Array.of(7))
  assert.deepEqual([given, turns], [[[1n, 7]], { begun: 1, over: 1 }])
})

test('what gave something else than the primary has read is read again after a while, in a turn of its own', () => {
  const { reads, attempts, waiting, given, turns } = newReads(true)
  reads.onRequest(request(1n))
  attempts[0]!(Uint8Array.of(6))
  reads.onNeeded(other)
  assert.equal(attempts.length, 1)
  waiting[0]!()
  attempts[1]!(Uint8Array.of(7))
  assert.deepEqual(given, [
    [1n, 6],
    [1n, 7],
  ])
  assert.deepEqual(turns, { begun: 2, over: 2 })
})

test('a read that nobody wants any more is not tried again and not given, and what waited for it goes on', () => {
  for (const end of [
    (reads: ReplayedReads) => reads.onAnswer({ sequence: 1n }),
    (reads: ReplayedReads) => reads.end(),
  ]) {
    const failed = newReads(true)
    failed.reads.onRequest(request(1n))
    failed.attempts[0]!(broken)
    end(failed.reads)
    failed.waiting[0]!()
    assert.deepEqual([failed.attempts.length, failed.turns.over], [1, 1])
    const late = newReads(true)
    late.reads.onRequest(request(1n))
    end(late.reads)
    late.attempts[0]!(Uint8Array.of(7))
    assert.deepEqual([late.given, late.turns.over], [[], 1])
  }
})

test('what a hart asks for that has not heard that it is over is not begun', () => {
  const { reads, attempts } = newReads(true)
  reads.onRequest(request(1n))
  reads.end()
  reads.onNeeded({ sequence: 1n })
  reads.onRequest(request(2n))
  reads.onNeeded(other)
  assert.equal(attempts.length, 1)
})
