/** Partial failure (docs/PROTOCOL.md): who takes over when a living replica loses its disk or LAN. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  batchAt,
  end,
  entries,
  hello,
  identity,
  kindsOf,
  markedFrame,
  only,
  welcome,
} from '../../test/support/replication.ts'
import { Backup } from './backup.ts'
import type { BackupEffect, PrimaryEffect } from './effects.ts'
import type { Message, Progress } from './messages.ts'
import { defaultReplicationPolicy } from './policy.ts'
import { Primary } from './primary.ts'
import { fullReach, isBetterPlaced, type Reach } from './reach.ts'

const noDisk: Reach = { disk: false, lan: true }
const noLan: Reach = { disk: true, lan: false }
const nothing: Reach = { disk: false, lan: false }
const { outOfReachMs } = defaultReplicationPolicy.detector
const { headStartMs } = defaultReplicationPolicy
const helloAs = (role: 'primary' | 'backup', replica: string): Message =>
  hello(replica, { role, generation: role === 'primary' ? 2 : 0, runId: 1n, hold: role === 'primary' ? 1 : 0 })

const heartbeat = (reach: Reach): Message => ({ kind: 'heartbeat', logEnd: end(0), isRunning: false, reach })

/** A backup that is listed in generation 2, at time 0. */
function listed(): Backup {
  const backup = new Backup({ identity, replica: 'b' }, 0)
  backup.onChannelOpen(0)
  backup.onMessage(helloAs('primary', 'a'), 0)
  backup.onMessage(welcome(2), 0)
  return backup
}

/** A primary in generation 2 with a backup that reaches `reach`, at time 0. */
function protectedWith(reach: Reach): Primary {
  const primary = new Primary({ identity, replica: 'a', generation: 1, runId: 1n, state: 'starting' })
  primary.start(0)
  primary.onChannelOpen(0, 0)
  primary.onMessage(0, helloAs('backup', 'b'), 0)
  primary.onArbiterAnswer({ result: 'granted', generation: 2 }, 0)
  const progress: Progress = { receivedEnd: end(0), replayedEnd: end(0), replayedCount: 0n, lagMs: 0 }
  primary.onMessage(0, { kind: 'ack', progress, reach }, 0)
  return primary
}

/** Lives with a heartbeat every 50 ms that tells this reach. @returns what the backup does, and when */
function follow(backup: Backup, reach: Reach, fromMs: number, toMs: number): [number, BackupEffect][] {
  const effects: [number, BackupEffect][] = []
  for (let now = fromMs; now <= toMs; now += 50) {
    for (const effect of backup.onMessage(heartbeat(reach), now)) effects.push([now, effect])
    for (const effect of backup.onTick(now)) effects.push([now, effect])
  }
  return effects
}

const asked = (effects: readonly [number, BackupEffect][]) =>
  effects.filter(([, { kind }]) => kind === 'testAndSet').map(([now]) => now)

test('only a backup that reaches all that its primary reaches, and more, is better placed, and it must reach the arbiter', () => {
  const better = [fullReach, noDisk, noLan, nothing].map((own) =>
    [fullReach, noDisk, noLan, nothing].map((other) => isBetterPlaced(own, other)),
  )
  assert.deepEqual(better, [
    // than: full, no disk, no LAN, nothing
    [false, true, true, true],
    [false, false, false, false],
    [false, false, false, true],
    [false, false, false, false],
  ])
})

test('a primary that alone lost its disk server or LAN is replaced, after the time-out and not before', () => {
  for (const lost of [noDisk, noLan, nothing]) {
    const backup = listed()
    const effects = follow(backup, lost, 50, 50 + outOfReachMs)
    assert.deepEqual(asked(effects), [50 + outOfReachMs])
    assert.equal(backup.state, 'asking')
  }
})

test('a disk server or LAN that neither reaches changes nothing, in whatever order they lose and find it', () => {
  for (const lost of [noDisk, noLan, nothing]) {
    const backup = listed()
    backup.onReach(lost, 0)
    assert.deepEqual(asked(follow(backup, lost, 50, 60_000)), [])
    // The backup finds it first, its primary soon after.
    backup.onReach(fullReach, 60_000)
    assert.deepEqual(asked(follow(backup, lost, 60_050, 60_000 + outOfReachMs - 50)), [])
    assert.deepEqual(asked(follow(backup, fullReach, 60_000 + outOfReachMs, 70_000)), [])
    assert.equal(backup.state, 'replaying')
  }
})

test('a backup that alone lost its disk server or LAN stays what it is: eligible, acknowledging, and quiet', () => {
  for (const lost of [noDisk, noLan, nothing]) {
    const backup = listed()
    assert.deepEqual(kindsOf(backup.onReach(lost, 10)), ['send'], 'it tells its primary at once')
    assert.deepEqual(asked(follow(backup, fullReach, 50, 60_000)), [])
    const effects = backup.onMessage(entries(batchAt(0, 3)), 60_001)
    const [ack] = only(effects, 'send')
    assert.ok(ack?.message.kind === 'ack' && ack.message.progress.receivedEnd === end(3))
    assert.deepEqual(ack.message.reach, lost)
  }
})

test('reach that comes and goes does not part the pair: every return starts the clock again', () => {
  const backup = listed()
  let now = 50
  for (let times = 0; times < 20; times++) {
    assert.deepEqual(asked(follow(backup, noLan, now, now + outOfReachMs - 50)), [])
    now += outOfReachMs
    backup.onMessage(heartbeat(fullReach), now)
  }
  // The other side of the same: the backup's own reach flutters.
  for (let times = 0; times < 20; times++) {
    backup.onReach(noLan, now)
    backup.onReach(fullReach, now)
    assert.deepEqual(asked(follow(backup, noLan, now, now + outOfReachMs - 50)), [])
    now += outOfReachMs
  }
})

test('a backup that is not listed yet does not ask: it would be refused, and that would be its end', () => {
  const backup = new Backup({ identity, replica: 'b' }, 0)
  backup.onChannelOpen(0)
  backup.onMessage(helloAs('primary', 'a'), 0)
  assert.deepEqual(asked(follow(backup, noLan, 50, 10_000)), [])
  backup.onMessage(welcome(2), 10_000)
  assert.deepEqual(asked(follow(backup, noLan, 10_050, 10_050 + outOfReachMs)), [10_000 + outOfReachMs])
})

test('a backup that stood still itself has learnt nothing about the reach of its primary', () => {
  const backup = listed()
  follow(backup, noLan, 50, 100)
  assert.deepEqual(only(backup.onTick(30_000), 'testAndSet'), [], 'stopped for half a minute; the news lie unread')
  assert.deepEqual(asked(follow(backup, fullReach, 30_050, 40_000)), [])
})

test('taking over for reach is a failover like any other: acknowledge no more, ask, win or halt', () => {
  const backup = listed()
  follow(backup, noDisk, 50, 50 + outOfReachMs)
  assert.deepEqual(backup.onMessage(entries(batchAt(0, 1)), 3000), [])
  assert.deepEqual(backup.onArbiterAnswer({ result: 'unreachable', detail: 'gone' }, 3000), [])
  assert.deepEqual(kindsOf(backup.onTick(3000 + defaultReplicationPolicy.arbiterRetryMs)), ['testAndSet'])
  const refused = backup.onArbiterAnswer({ result: 'refused', detail: 'a holds generation 3' }, 4000)
  assert.deepEqual(only(refused, 'halt')[0]?.reason, 'lostArbitration')
})

test('a primary tells its reach at once when it changes, and in every heartbeat', () => {
  const primary = protectedWith(fullReach)
  const reaches = (effects: readonly PrimaryEffect[]) =>
    only(effects, 'send').flatMap(({ message }) => (message.kind === 'heartbeat' ? [message.reach] : []))
  assert.deepEqual(reaches(primary.onReach(noLan, 1)), [noLan])
  assert.deepEqual(primary.onReach(noLan, 2), [], 'no news')
  primary.onTick(60)
  assert.deepEqual(reaches(primary.onTick(primary.dueMs)), [noLan])
})

test('a primary lets a better placed backup ask first, and waits with its outputs as ever', () => {
  const primary = protectedWith(fullReach)
  primary.onReach(noLan, 1)
  primary.onBatch(batchAt(0, 1), 2)
  primary.onOutputs([markedFrame(0, 0)])
  const lost = primary.onChannelClosed(0, 100)
  assert.deepEqual(kindsOf(lost), ['closeChannel', 'backupLost'])
  assert.equal(primary.state, 'asking')
  for (let now = 120; now < 100 + headStartMs; now += 20) assert.deepEqual(primary.onTick(now), [])
  const asks = primary.onTick(100 + headStartMs)
  assert.deepEqual(asks, [{ kind: 'openGeneration', generation: 2, eligible: [] }])
  // The backup was dead: nobody has taken over.
  const granted = primary.onArbiterAnswer({ result: 'granted', generation: 3 }, 2000)
  assert.deepEqual(kindsOf(granted), ['enterGeneration', 'release'])
})

test('a primary does not wait for a backup that is no better placed, or that will not ask', () => {
  const same = protectedWith(noLan)
  same.onReach(noLan, 1)
  assert.deepEqual(kindsOf(same.onChannelClosed(0, 2)), ['closeChannel', 'backupLost', 'openGeneration'])
  const goodbye = protectedWith(fullReach)
  goodbye.onReach(noLan, 1)
  const effects = goodbye.onMessage(0, { kind: 'goodbye', reason: 'ended' }, 2)
  assert.deepEqual(kindsOf(effects), ['closeChannel', 'backupLost', 'openGeneration'])
})

test('a backup lets a better placed primary ask first, and asks when nobody did', () => {
  const backup = listed()
  backup.onReach(noLan, 1)
  assert.deepEqual(kindsOf(backup.onChannelClosed(100)), ['closeChannel'])
  assert.equal(backup.state, 'asking')
  for (let now = 120; now < 100 + headStartMs; now += 20) assert.deepEqual(backup.onTick(now), [])
  assert.deepEqual(backup.onTick(100 + headStartMs), [{ kind: 'testAndSet', generation: 2 }])
})
