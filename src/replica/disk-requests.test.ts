import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sectorBytes } from '../base/units.ts'
import { NbdError } from '../disk/nbd-error.ts'
import { type DiskLink, type DiskOutcome, type DiskWork, SteadyRequests } from '../disk/steady-requests.ts'
import { UnflushedWrites } from '../disk/unflushed-writes.ts'
import { type DiskRequest, logIndex } from '../log/entry.ts'
import { FollowedRequests, workOf } from './disk-requests.ts'

const write: DiskRequest = {
  kind: 'disk',
  sequence: 1n,
  disk: 0,
  operation: 'write',
  sector: 0n,
  lengthBytes: sectorBytes,
  data: new Uint8Array(sectorBytes).fill(7),
}
const flush: DiskRequest = { kind: 'disk', sequence: 2n, disk: 0, operation: 'flush', sector: 0n, lengthBytes: 0 }

test('a flush that was made before a write was done, issued after it, and failed: primary and backup keep the write', () => {
  const sent: { work: DiskWork; answered: (outcome: DiskOutcome) => void }[] = []
  const primary = new SteadyRequests({ connect: () => {}, connectLater: () => {}, trace: () => {} })
  const link: DiskLink = {
    bootId: 'first',
    send: (work, answered) => sent.push({ work, answered }),
    destroy: () => {},
  }
  primary.onConnected(link)
  const kept = new UnflushedWrites()
  const backup = new FollowedRequests(kept)

  // The log: the markers of both, then the answer to the write. The flush waits for its acknowledgement, and goes out then.
  backup.onRequest(write)
  backup.onRequest(flush)
  primary.request(workOf(write), () => {})
  sent[0]!.answered(undefined)
  backup.onAnswer({ index: logIndex(3n), sequence: 1n, status: 'ok', isOwnRead: false })
  primary.request(workOf(flush), () => {})
  sent[1]!.answered(new NbdError('io', 'the disk failed'))
  backup.onAnswer({ index: logIndex(4n), sequence: 2n, status: 'ioError', isOwnRead: false })

  assert.equal(kept.count, 1)
  assert.deepEqual(primary.unflushed.inOrder(), kept.inOrder())
})

test('a backup, too, forgets nothing that a failed flush was to cover, and all that a good one covered', () => {
  const kept = new UnflushedWrites()
  const backup = new FollowedRequests(kept)
  backup.onRequest(write)
  backup.onAnswer({ index: logIndex(1n), sequence: 1n, status: 'ok', isOwnRead: false })
  for (const [status, count] of [
    ['ioError', 1],
    ['uncertain', 1],
    ['ok', 0],
  ] as const) {
    backup.onRequest(flush)
    backup.onAnswer({ index: logIndex(2n), sequence: 2n, status, isOwnRead: false })
    assert.equal(kept.count, count, status)
  }
})
