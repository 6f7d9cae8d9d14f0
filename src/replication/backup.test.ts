import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  acks,
  batchAt,
  end,
  entries,
  hello,
  identity,
  kindsOf,
  markedFrame,
  only,
  replayed,
  welcome,
} from '../../test/support/replication.ts'
import type { MarkedOutput } from '../log/entry.ts'
import { Backup } from './backup.ts'
import type { BackupOptions } from './backup-options.ts'
import type { BackupEffect } from './effects.ts'
import { defaultReplicationPolicy } from './policy.ts'
import { fullReach } from './reach.ts'

const accepted = hello('a', { role: 'primary', generation: 2, runId: 5n, hold: 1 })

function join(options: Partial<BackupOptions> = {}): Backup {
  const backup = new Backup({ identity, replica: 'b', ...options }, 0)
  backup.onChannelOpen(0)
  assert.deepEqual(backup.onMessage(accepted, 0), [])
  assert.equal(backup.state, 'replaying')
  return backup
}

test('the backup acknowledges when entries are in its buffer, not when they are executed', () => {
  const backup = join()
  const batch = batchAt(0, 5)
  const effects = backup.onMessage(entries(batch), 1)
  assert.deepEqual(kindsOf(effects), ['replay', 'send'], 'stored BEFORE it is acknowledged')
  assert.deepEqual(acks(effects), [5])
})

test('everything it ever acknowledged is replayed before it goes live', () => {
  const backup = join()
  backup.onMessage(entries(batchAt(0, 5)), 1)
  backup.onReplayed(replayed(2), 2)
  assert.deepEqual(only(backup.onChannelClosed(3), 'testAndSet'), [{ kind: 'testAndSet', generation: 2 }])
  assert.deepEqual(backup.onArbiterAnswer({ result: 'granted', generation: 3 }, 10), [])
  assert.equal(backup.state, 'goingLive')
  assert.deepEqual(backup.onReplayed(replayed(4), 11), [])
  const [live] = only(backup.onReplayed(replayed(5), 12), 'goLive')
  assert.equal(backup.state, 'live')
  assert.deepEqual(live, {
    kind: 'goLive',
    generation: 3,
    runId: 5n,
    logEnd: end(5),
    coveredFrameId: undefined,
    unconfirmed: [],
    joiners: [],
    timing: { lastHeardMs: 1, detectedMs: 3, wonMs: 10, replayedMs: 12 },
  })
})

test('before it asks the arbiter it stops acknowledging, for good', () => {
  const backup = join()
  backup.onMessage(entries(batchAt(0, 1)), 1)
  const effects = backup.onTick(10_000)
  assert.deepEqual(effects.length > 0 && only(effects, 'testAndSet').length, 0, 'first tick after a pause of its own')
  for (let now = 10_050; backup.state === 'replaying'; now += 50) effects.push(...backup.onTick(now))
  const asked = effects.findIndex(({ kind }) => kind === 'testAndSet')
  assert.ok(effects.findIndex(({ kind }) => kind === 'closeChannel') < asked)
  // The primary was only slow, and comes back:
  const later = [
    ...backup.onMessage(entries(batchAt(1, 1)), 12_000),
    ...backup.onMessage({ kind: 'heartbeat', logEnd: end(2), isRunning: true, reach: fullReach }, 12_000),
    ...backup.onTick(12_100),
    ...backup.onMessage({ kind: 'goodbye', reason: 'late' }, 12_200),
  ]
  assert.deepEqual(later, [])
  assert.equal(backup.state, 'asking')
  const [live] = only(
    [
      ...backup.onReplayed(replayed(1), 12_300),
      ...backup.onArbiterAnswer({ result: 'granted', generation: 3 }, 12_400),
    ],
    'goLive',
  )
  assert.equal(live?.logEnd, 1n, 'what came after the question is no part of the log')
})

test('the loser halts itself', () => {
  const backup = join()
  backup.onChannelClosed(1)
  const effects = backup.onArbiterAnswer({ result: 'refused', detail: 'a holds generation 3' }, 2)
  assert.deepEqual(effects.at(-1), { kind: 'halt', reason: 'lostArbitration', detail: 'a holds generation 3' })
  assert.deepEqual(backup.onArbiterAnswer({ result: 'granted', generation: 3 }, 3), [])
  assert.equal(backup.state, 'halted')
})

test('arbiter unreachable: wait and ask again, never guess', () => {
  const backup = join()
  backup.onChannelClosed(1)
  for (let now = 1000; now < 20_000; now += 1000) {
    assert.deepEqual(backup.onArbiterAnswer({ result: 'unreachable', detail: 'no route' }, now), [])
    assert.deepEqual(backup.onTick(now + 1), [])
    const again = backup.onTick(now + defaultReplicationPolicy.arbiterRetryMs)
    assert.deepEqual(again, [{ kind: 'testAndSet', generation: 2 }])
    assert.equal(backup.state, 'asking')
  }
})

test('failure detection: a closed socket is noticed at once, a silent primary after the time-out', () => {
  const closed = join()
  assert.deepEqual(kindsOf(closed.onChannelClosed(1)), ['closeChannel', 'testAndSet'])
  const silent = join()
  const { timeoutMs } = defaultReplicationPolicy.detector
  for (let now = 50; now < timeoutMs; now += 50) assert.deepEqual(only(silent.onTick(now), 'testAndSet'), [])
  assert.equal(only(silent.onTick(timeoutMs), 'testAndSet').length, 1)
})

test('failure detection watches the log traffic too: heartbeats alone do not make a living primary', () => {
  const missing = join()
  const running = join()
  const paused = join()
  const asked: Record<string, number> = {}
  for (let now = 50; now <= 10_000; now += 50) {
    for (const [name, backup, logEnd, isRunning] of [
      ['entries announced, but missing', missing, 1, false],
      ['hart runs, but logs nothing', running, 0, true],
      ['hart is paused', paused, 0, false],
    ] as const) {
      backup.onMessage({ kind: 'heartbeat', logEnd: end(logEnd), isRunning, reach: fullReach }, now)
      if (only(backup.onTick(now), 'testAndSet').length > 0) asked[name] = now
    }
  }
  assert.deepEqual(asked, { 'entries announced, but missing': 2050, 'hart runs, but logs nothing': 5050 })
})

test('a replica that stood still itself has learnt nothing about its peer', () => {
  const backup = join()
  backup.onTick(50)
  assert.deepEqual(only(backup.onTick(30_000), 'testAndSet'), [], 'stopped for half a minute')
  assert.deepEqual(only(backup.onTick(30_050), 'testAndSet'), [])
})

test('heartbeats go both ways: an idle backup repeats its acknowledgement, with its progress and its lag', () => {
  const { heartbeatMs } = defaultReplicationPolicy.detector
  const backup = join()
  backup.onMessage(entries(batchAt(0, 2)), 1)
  backup.onMessage(entries(batchAt(2, 2)), 21)
  backup.onReplayed(replayed(2), 30)
  const progress = { receivedEnd: end(4), replayedEnd: end(2), replayedCount: 2n, lagMs: heartbeatMs }
  assert.deepEqual(backup.onTick(21 + heartbeatMs - 1), [])
  assert.equal(backup.dueMs, 21 + heartbeatMs)
  assert.deepEqual(backup.onTick(21 + heartbeatMs), [
    { kind: 'send', message: { kind: 'ack', progress, reach: fullReach } },
  ])
  backup.onReplayed(replayed(4), 300)
  assert.equal(backup.status(320).progress.lagMs, 0)
})

test('no output is lost between acknowledgement and send: each is kept until its receiver confirmed it', () => {
  const backup = join()
  backup.onMessage(entries(batchAt(0, 9)), 1)
  const text = (sequence: number, markerIndex: number): MarkedOutput => ({
    output: { kind: 'console', sequence: BigInt(sequence), bytes: new Uint8Array(3) },
    markerIndex: end(markerIndex),
  })
  const write: MarkedOutput = {
    output: {
      kind: 'disk',
      sequence: 3n,
      disk: 0,
      operation: 'write',
      sector: 0n,
      lengthBytes: 1,
      data: new Uint8Array(1),
    },
    markerIndex: end(4),
  }
  backup.onReplayed(replayed(5, [markedFrame(0, 1), text(1, 2), markedFrame(2, 3), write]), 2)
  // The console is confirmed beyond what this backup has replayed; the switch has only the first frame.
  backup.onMessage({ kind: 'confirmed', ends: { frame: 1n, console: 5n } }, 3)
  backup.onReplayed(replayed(9, [text(4, 6), markedFrame(5, 7), text(6, 8)]), 4)
  backup.onChannelClosed(5)
  const [live] = only(backup.onArbiterAnswer({ result: 'granted', generation: 3 }, 6), 'goLive')
  assert.deepEqual(
    live?.unconfirmed,
    [markedFrame(2, 3), markedFrame(5, 7), text(6, 8)],
    'in order, with their positions; a disk write is in flight in the machine, not here, so it is issued once',
  )
})

test('at go-live the switch learns which inbound frames are in the log', () => {
  const backup = join()
  backup.onMessage(entries(batchAt(0, 2, 17n)), 1)
  backup.onMessage(entries(batchAt(2, 2)), 1)
  backup.onChannelClosed(2)
  backup.onArbiterAnswer({ result: 'granted', generation: 3 }, 3)
  const [live] = only(backup.onReplayed(replayed(4), 4), 'goLive')
  assert.equal(live?.coveredFrameId, 17n)
})

test('a live backup is a primary in its new generation, alone, and its log goes on', () => {
  const backup = join()
  backup.onMessage(welcome(2), 1)
  backup.onMessage(entries(batchAt(0, 2)), 1)
  backup.onReplayed(replayed(2, [markedFrame(0, 1)]), 1)
  assert.throws(() => backup.toPrimary(), /no primary/)
  backup.onChannelClosed(2)
  backup.onArbiterAnswer({ result: 'granted', generation: 3 }, 3)
  const primary = backup.toPrimary()
  assert.deepEqual(primary.start(0), [{ kind: 'resumeHart' }])
  const { state, generation, logEnd, unconfirmedOutputs } = primary.status
  assert.deepEqual(
    { state, generation, logEnd, unconfirmedOutputs },
    {
      state: 'alone',
      generation: 3,
      logEnd: 2n,
      unconfirmedOutputs: 1,
    },
  )
  primary.onConfirmed('frame', 0n)
  assert.equal(primary.status.unconfirmedOutputs, 0)
})

test('a divergence is reported, never papered over: the backup ends, also when it was about to go live', () => {
  const divergence = {
    kind: 'missingOutput',
    agreedEnd: end(0),
    index: end(1),
    count: 5n as never,
    expected: 'x',
    found: 'y',
  } as const
  const backup = join()
  backup.onMessage(entries(batchAt(0, 2)), 1)
  assert.deepEqual(kindsOf(backup.onDivergence(divergence, 2)), ['reportDivergence', 'send', 'closeChannel', 'halt'])
  const winner = join()
  winner.onMessage(entries(batchAt(0, 2)), 1)
  winner.onChannelClosed(2)
  winner.onArbiterAnswer({ result: 'granted', generation: 3 }, 3)
  assert.deepEqual(kindsOf(winner.onDivergence(divergence, 4)), ['reportDivergence', 'closeChannel', 'halt'])
  assert.equal(winner.state, 'halted')
})

test('goodbye: the primary ended in good order, so nobody fails over', () => {
  const backup = join()
  const effects = backup.onMessage({ kind: 'goodbye', reason: 'powered off' }, 1)
  assert.deepEqual(effects.at(-1), { kind: 'halt', reason: 'goodbye', detail: 'powered off' })
  assert.deepEqual(backup.onChannelClosed(2), [])
})

test('a backup whose own host ends it says goodbye, and its primary goes on without it', () => {
  const effects = join().onShutdown('down', 1)
  assert.deepEqual(effects[0], { kind: 'send', message: { kind: 'goodbye', reason: 'down' } })
  assert.deepEqual(effects.at(-1)?.kind, 'halt')
})

test('an unpaired backup never asks: it halts with the reason', () => {
  const unpaired = () => {
    const backup = new Backup({ identity, replica: 'b' }, 0)
    backup.onChannelOpen(0)
    return backup
  }
  const reason = (effects: readonly BackupEffect[]) =>
    only(effects, 'halt').map((halt) => `${halt.reason}: ${halt.detail}`)[0]
  assert.match(reason(unpaired().onChannelClosed(1))!, /^neverPaired/)
  assert.match(reason(unpaired().onMessage({ kind: 'refuse', reason: 'other config' }, 1))!, /^refused: other config/)
  const other = { ...accepted, identity: { ...identity, imageDigest: 9n } }
  assert.match(reason(unpaired().onMessage(other, 1))!, /^refused: other boot image/)
  const revised = { ...accepted, discipline: { kind: 'epoch', protocol: 'revised', instructions: 1000 } } as const
  assert.match(reason(unpaired().onMessage(revised, 1))!, /^refused: other discipline: epoch .* revised .*; here exact/)
  assert.match(reason(unpaired().onMessage(welcome(2), 1))!, /^neverPaired/)
})

test('a primary that does not answer the hello is not waited for, and no machine goes live for it', () => {
  const backup = new Backup({ identity, replica: 'b' }, 100)
  assert.equal(backup.dueMs, Number.POSITIVE_INFINITY)
  backup.onChannelOpen(100)
  assert.equal(backup.dueMs, 100 + defaultReplicationPolicy.helloTimeoutMs)
  assert.deepEqual(backup.onTick(backup.dueMs - 1), [])
  const effects = backup.onTick(backup.dueMs)
  assert.deepEqual(kindsOf(effects), ['closeChannel', 'halt'])
  assert.equal(only(effects, 'halt')[0]?.reason, 'neverPaired')
})

test('a gap in the log and bytes that are no message are a lost primary, and nothing of them is acknowledged', () => {
  const gap = join()
  const effects = gap.onMessage(entries(batchAt(3, 1)), 1)
  assert.deepEqual(kindsOf(effects), ['closeChannel', 'testAndSet'])
  assert.deepEqual(kindsOf(join().onBadMessage('wrong checksum', 1)), ['closeChannel', 'testAndSet'])
})

test('a backup that moved on with its primary asks in the generation it was welcomed to', () => {
  const backup = join()
  backup.onMessage(welcome(4), 1)
  assert.deepEqual(only(backup.onChannelClosed(2), 'testAndSet'), [{ kind: 'testAndSet', generation: 4 }])
})
