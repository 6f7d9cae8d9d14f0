/**
 * VMware FT, "The Design of a Practical System for Fault-Tolerant Virtual Machines" (2010): the rules between primary and
 * backup, each by its name in the paper, on the roles themselves.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Backup } from '../../../src/replication/backup.ts'
import type { PrimaryEffect } from '../../../src/replication/effects.ts'
import { defaultReplicationPolicy } from '../../../src/replication/policy.ts'
import { Primary } from '../../../src/replication/primary.ts'
import {
  ack,
  acks,
  batchAt,
  end,
  entries,
  hello,
  identity,
  kindsOf,
  marked,
  markedFrame,
  only,
  released,
  welcome,
} from '../../support/replication.ts'

const policy = defaultReplicationPolicy
const { timeoutMs, heartbeatMs } = policy.detector

/** In generation 2, with backup `b` on channel 0. */
function protectedPrimary(): Primary {
  const primary = new Primary({ identity, replica: 'a', generation: 1, runId: 7n, state: 'starting' })
  primary.start(0)
  primary.onChannelOpen(0, 0)
  primary.onMessage(0, hello('b'), 0)
  primary.onArbiterAnswer({ result: 'granted', generation: 2 }, 0)
  assert.equal(primary.state, 'protected')
  return primary
}

/** Listed in generation 2. */
function listedBackup(): Backup {
  const backup = new Backup({ identity, replica: 'b' }, 0)
  backup.onChannelOpen(0)
  backup.onMessage(hello('a', { role: 'primary', generation: 2, runId: 7n, hold: 1 }), 0)
  backup.onMessage(welcome(2, [{ replica: 'b', address: '' }]), 0)
  return backup
}

test('Output Rule: an output is not sent before the backup has received and acknowledged the log entry of the operation that produces it', () => {
  const primary = protectedPrimary()
  primary.onBatch(batchAt(0, 5), 1)
  assert.deepEqual(released(primary.onOutputs([markedFrame(0, 4)])), [])
  assert.deepEqual(released(primary.onMessage(0, ack(4), 2)), [], 'all entries before its own are not enough')
  assert.deepEqual(released(primary.onMessage(0, ack(5), 3)), [0])
})

test('Output Rule: only the output waits, the VM runs on', () => {
  const primary = protectedPrimary()
  primary.onBatch(batchAt(0, 1), 1)
  const held = primary.onOutputs([markedFrame(0, 0)])
  assert.deepEqual(only(held, 'pauseHart'), [])
  for (let index = 1; index < 50; index++) {
    assert.deepEqual(only(primary.onBatch(batchAt(index), index), 'pauseHart'), [])
  }
  assert.equal(primary.status.heldOutputs, 1)
})

test('Logging channel: the primary flushes at once, a message for each group of entries', () => {
  const primary = protectedPrimary()
  const sent = only(primary.onBatch(batchAt(0, 20), 1), 'send').filter(({ message }) => message.kind === 'entries')
  assert.equal(sent.length, 1)
})

test('Logging channel: the backup acknowledges when entries are in its buffer, not when they are executed', () => {
  const effects = listedBackup().onMessage(entries(batchAt(0, 5)), 1)
  assert.deepEqual(kindsOf(effects), ['replay', 'send'])
  assert.deepEqual(acks(effects), [5])
})

test('Logging channel: the primary stops when its log buffer is full, and only then; it goes on when there is room', () => {
  const primary = protectedPrimary()
  const bytes = 1024 * 1024
  let index = 0
  let paused = false
  while (!paused && index < 100) {
    paused = only(primary.onBatch(batchAt(index++, 1, undefined, bytes), index), 'pauseHart').length > 0
  }
  assert.equal(Math.floor(policy.maxUnreceivedBytes / bytes), index)
  assert.deepEqual(only(primary.onMessage(0, ack(index, index), index), 'resumeHart').length, 1)
})

test('Logging channel: the backup says how far its execution lags; past the limit the primary is slowed a few percent at a time, and sped up after', () => {
  const primary = protectedPrimary()
  const percents = (lagMs: number, nowMs: number) =>
    only(primary.onMessage(0, ack(0, 0, lagMs), nowMs), 'setCpuPercent').map(({ percent }) => percent)
  const { mostMs, stepIntervalMs, stepPercent } = policy.lag
  assert.ok(stepPercent <= 5)
  percents(mostMs + 1, 0)
  assert.deepEqual(percents(mostMs + 1, stepIntervalMs), [100 - stepPercent])
  assert.deepEqual(percents(mostMs + 1, 2 * stepIntervalMs), [100 - 2 * stepPercent])
  assert.deepEqual(percents(0, 3 * stepIntervalMs), [100 - stepPercent])
})

test('Failure detection: heartbeats between the hosts, both ways', () => {
  const primary = protectedPrimary()
  primary.onTick(heartbeatMs)
  const fromPrimary = only(primary.onTick(2 * heartbeatMs), 'send').map(({ message }) => message.kind)
  assert.ok(fromPrimary.includes('heartbeat'))
  assert.deepEqual(acks(listedBackup().onTick(heartbeatMs)), [0])
  const backup = listedBackup()
  backup.onTick(timeoutMs / 3)
  backup.onTick((2 * timeoutMs) / 3)
  assert.deepEqual(only(backup.onTick(timeoutMs), 'testAndSet'), [{ kind: 'testAndSet', generation: 2 }])
})

test('Failure detection: and watching the log traffic and its acknowledgements: a peer that lives and does not do its part is lost', () => {
  const primary = protectedPrimary()
  primary.onBatch(batchAt(0), 0)
  let lost: PrimaryEffect[] = []
  for (let ms = heartbeatMs; ms <= timeoutMs + heartbeatMs && lost.length === 0; ms += heartbeatMs) {
    primary.onMessage(0, ack(0), ms)
    lost = only(primary.onTick(ms), 'backupLost')
  }
  assert.deepEqual(
    only(lost, 'backupLost').map(({ cause }) => cause),
    ['stalled'],
  )
})

test('Split brain: test-and-set before going live; the loser halts itself', () => {
  const backup = listedBackup()
  assert.deepEqual(only(backup.onChannelClosed(5), 'testAndSet').length, 1)
  assert.equal(backup.state, 'asking', 'not live without the answer')
  const lost = backup.onArbiterAnswer({ result: 'refused', detail: 'a holds it', holder: 'a' }, 6)
  assert.deepEqual(
    only(lost, 'halt').map(({ reason }) => reason),
    ['lostArbitration'],
  )
  const primary = protectedPrimary()
  primary.onBatch(batchAt(0), 1)
  primary.onOutputs([markedFrame(0, 0)])
  primary.onChannelClosed(0, 2)
  const loser = primary.onArbiterAnswer({ result: 'refused', detail: 'b holds it' }, 3)
  assert.deepEqual(kindsOf(loser).at(-1), 'halt')
  assert.deepEqual(released(loser), [])
})

test('Split brain: storage unreachable: wait, never guess', () => {
  const backup = listedBackup()
  backup.onChannelClosed(5)
  let nowMs = 6
  for (let attempt = 0; attempt < 100; attempt++) {
    assert.deepEqual(backup.onArbiterAnswer({ result: 'unreachable', detail: 'no route' }, nowMs), [])
    nowMs += policy.arbiterRetryMs
    assert.deepEqual(kindsOf(backup.onTick(nowMs)), ['testAndSet'])
  }
  const primary = protectedPrimary()
  primary.onBatch(batchAt(0), 1)
  primary.onOutputs([markedFrame(0, 0)])
  primary.onChannelClosed(0, 2)
  assert.deepEqual(released(primary.onArbiterAnswer({ result: 'unreachable', detail: 'no route' }, 3)), [])
  assert.equal(primary.state, 'asking')
})

test('Go live: consume every received log entry first, then stop replaying', () => {
  const backup = listedBackup()
  backup.onMessage(entries(batchAt(0, 5)), 1)
  backup.onChannelClosed(2)
  assert.deepEqual(only(backup.onArbiterAnswer({ result: 'granted', generation: 3 }, 3), 'goLive'), [])
  const report = (count: number) => ({ replayedEnd: end(count), count: BigInt(count), outputs: [] })
  assert.deepEqual(only(backup.onReplayed(report(4), 4), 'goLive'), [])
  assert.deepEqual(
    only(backup.onReplayed(report(5), 5), 'goLive').map(({ logEnd }) => logEnd),
    [5n],
  )
})

test('Go live: take over the network identity, in the new generation, and say which frame was the last in the log', () => {
  const backup = listedBackup()
  backup.onMessage(entries(batchAt(0, 2, 41n)), 1)
  backup.onReplayed({ replayedEnd: end(2), count: 2n, outputs: [] }, 1)
  backup.onChannelClosed(2)
  const [live] = only(backup.onArbiterAnswer({ result: 'granted', generation: 3 }, 3), 'goLive')
  assert.deepEqual([live?.generation, live?.coveredFrameId], [3, 41n])
})

test('Output after failover may be repeated, never lost: what its receiver has not confirmed is sent again', () => {
  const backup = listedBackup()
  backup.onMessage(entries(batchAt(0, 3)), 1)
  const outputs = [markedFrame(0, 0), markedFrame(1, 1), markedFrame(2, 2)]
  backup.onReplayed({ replayedEnd: end(3), count: 3n, outputs }, 1)
  backup.onMessage({ kind: 'confirmed', ends: { frame: 1n, console: 0n } }, 2)
  backup.onChannelClosed(3)
  const [live] = only(backup.onArbiterAnswer({ result: 'granted', generation: 3 }, 4), 'goLive')
  assert.deepEqual(
    live?.unconfirmed.map(({ output }) => output.sequence),
    [1n, 2n],
  )
})

test('Restoring redundancy: a running VM gets a backup that did not see its past, and outputs wait for it before it is listed', () => {
  const primary = new Primary({ identity, replica: 'a', generation: 5, runId: 7n, state: 'alone' })
  primary.start(0)
  primary.onBatch(batchAt(0, 10), 0)
  primary.onChannelOpen(1, 1)
  assert.deepEqual(only(primary.onMessage(1, hello('b'), 1), 'startCopy').length, 1)
  primary.onCopied(1, Uint8Array.of(1), Uint8Array.of(2), 2)
  primary.onBatch(batchAt(10), 3)
  assert.deepEqual(released(primary.onOutputs([markedFrame(0, 10)])), [])
  primary.onDisksFlushed(1)
  const asked = primary.onMessage(1, ack(11, 10), 4)
  assert.deepEqual(
    only(asked, 'openGeneration').map(({ eligible }) => eligible),
    [['b']],
  )
})

test('Shared disk: writes obey the Output Rule; reads need not wait', () => {
  const primary = protectedPrimary()
  const request = { kind: 'disk', disk: 0, sector: 0n, lengthBytes: 512 } as const
  const write = marked({ ...request, sequence: 0n, operation: 'write', data: new Uint8Array(512) }, 0)
  const read = marked({ ...request, sequence: 1n, operation: 'read' }, 1)
  primary.onBatch(batchAt(0, 2), 1)
  assert.deepEqual(released(primary.onOutputs([write, read])), [1])
  assert.deepEqual(released(primary.onMessage(0, ack(2), 2)), [0])
})

test('Shared disk: only the primary writes: a backup that regenerates a write sends nothing to the outside', () => {
  const backup = listedBackup()
  backup.onMessage(entries(batchAt(0)), 1)
  const write = { kind: 'disk', disk: 0, sector: 0n, lengthBytes: 1, operation: 'write' } as const
  const outputs = [marked({ ...write, sequence: 0n, data: Uint8Array.of(1) }, 0)]
  assert.deepEqual(backup.onReplayed({ replayedEnd: end(1), count: 1n, outputs }, 2), [])
})

test('Control operations: powering the VM off is an output with a log entry of its own, so the backup does it at the same point', () => {
  const primary = protectedPrimary()
  primary.onBatch(batchAt(0), 1)
  assert.deepEqual(
    released(primary.onOutputs([marked({ kind: 'power', sequence: 0n, action: 'off', failed: false }, 0)])),
    [],
  )
  assert.deepEqual(released(primary.onMessage(0, ack(1), 2)), [0])
})
