/**
 * VMware FT (2010), "Disk reads on the backup": the option by which the backup reads the disk itself, and its corner rules, on
 * the parts that hold them.
 */

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { arbiterClient, makeImage, patienceMs, startTestServer, temporaryFolder } from '../../../src/disk/test-disk.ts'
import { failingStores, newBackend, read, replayed, until, write } from '../../../src/host/disk-backend.test-support.ts'
import { Obligations } from '../../../src/hypervisor/obligations.ts'
import { Recorder } from '../../../src/hypervisor/recorder.ts'
import { Replayer } from '../../../src/hypervisor/replayer.ts'
import { decodeBatch, type LogBatch } from '../../../src/log/batch.ts'
import { logIndex, type MarkedOutput } from '../../../src/log/entry.ts'
import { instructionCount } from '../../../src/machine/types.ts'
import { Backup } from '../../../src/replication/backup.ts'
import type { BackupEffect, PrimaryEffect } from '../../../src/replication/effects.ts'
import type { Message } from '../../../src/replication/messages.ts'
import { defaultReplicationPolicy } from '../../../src/replication/policy.ts'
import { Primary } from '../../../src/replication/primary.ts'
import { fullReach } from '../../../src/replication/reach.ts'
import { batchAt, end, entries, hello, identity, marked, only, welcome } from '../../support/replication.ts'
import { ToyMachine, toyHabits } from '../../support/toy-machine.ts'

const habits = { ...toyHabits, diskEvery: 11 }

/** Listed in generation 2. */
function listedBackup(): Backup {
  const policy = {
    ...defaultReplicationPolicy,
    detector: { ...defaultReplicationPolicy.detector, timeoutMs: 1e9, logSilenceMs: 1e9 },
  }
  const backup = new Backup({ identity, replica: 'b', policy }, 0)
  backup.onChannelOpen(0)
  backup.onMessage(hello('a', { role: 'primary', generation: 2, runId: 7n, hold: 1 }), 0)
  backup.onMessage(welcome(2, [{ replica: 'b', address: '' }]), 0)
  return backup
}

/** Ticks as often as it asks for. @returns what it does at `untilMs` */
function tickUntil(backup: Backup, fromMs: number, untilMs: number): BackupEffect[] {
  for (let nowMs = fromMs; nowMs < untilMs; nowMs = Math.min(untilMs, Math.max(nowMs + 1, backup.dueMs)))
    assert.deepEqual(only(backup.onTick(nowMs), 'halt'), [])
  return backup.onTick(untilMs)
}

/** What a disk gave for each request that was read. */
type Given = Map<bigint, Uint8Array>

/** A recording of a toy machine that uses its disk, whose reads fail if `fails` says so. */
function record(leavesOutReads: boolean, fails: (nth: number) => boolean = () => false) {
  const recorder = new Recorder(new ToyMachine(habits), logIndex(0n), new Obligations(), { leavesOutReads })
  recorder.apply({ kind: 'boot', rngSeed: new Uint8Array(64), wallClockNs: 0n })
  const given: Given = new Map()
  const outputs: MarkedOutput[] = []
  let reads = 0
  for (let turn = 0; turn < 60; turn++) {
    recorder.apply({ kind: 'clock', ticks: recorder.machine.ticks, ratePer2p32: 1n << 30n, capTicks: 50n })
    for (const { sequence, operation, lengthBytes } of recorder.machine.inFlightDiskRequests()) {
      const answer = { kind: 'diskCompletion', sequence } as const
      if (operation !== 'read') outputs.push(...recorder.apply({ ...answer, status: 'ok' }))
      else {
        const data = new Uint8Array(lengthBytes).fill(1 + turn)
        given.set(sequence, data)
        const isError = fails(reads++)
        outputs.push(...recorder.apply(isError ? { ...answer, status: 'ioError' } : { ...answer, status: 'ok', data }))
      }
    }
    const until = instructionCount(recorder.machine.count + 60n)
    for (let isOver = false; !isOver; ) {
      const ran = recorder.run(until)
      outputs.push(...ran.outputs)
      isOver = ran.stop.kind !== 'outputs'
    }
    for (const { lengthBytes } of [...recorder.obligations.entropyRequests]) {
      outputs.push(...recorder.apply({ kind: 'entropy', bytes: new Uint8Array(lengthBytes) }))
    }
  }
  recorder.entryDigest()
  return { recorder, batches: recorder.takeBatches(), given, outputs, reads }
}

const entriesOf = (batches: readonly LogBatch[]) => batches.flatMap((batch) => decodeBatch(batch.bytes))

/** Replays as a backup does that has read `given` by the time the log wants it. */
function replay(batches: readonly LogBatch[], given: Given) {
  const replayer = new Replayer(new ToyMachine(habits))
  for (const batch of batches) replayer.append(batch)
  for (;;) {
    const { state, outputs } = replayer.run(7n)
    // As a backup that reads at once, not knowing what came of the primary's read.
    for (const { output } of outputs)
      if (given.has(output.sequence)) replayer.provide(output.sequence, given.get(output.sequence)!)
    const isRead = state.kind === 'needsRead' && !state.need.difference && given.has(state.need.sequence)
    if (state.kind !== 'progress' && !isRead) return { replayer, state }
  }
}

test('Disk reads on the backup: what was read is not in the log, the backup reads it itself, and is the same machine', () => {
  const { recorder, batches, given, reads } = record(true)
  assert.ok(reads > 20, `${reads} reads`)
  const all = entriesOf(batches)
  assert.equal(all.filter(({ body }) => body.kind === 'diskRead').length, reads)
  assert.ok(all.every(({ body }) => body.kind !== 'diskCompletion' || body.data === undefined))
  const { replayer, state } = replay(batches, given)
  assert.equal(state.kind, 'needsEntries')
  assert.equal(replayer.machine.digest(), recorder.machine.digest())
})

test('Disk reads on the backup: until it has read, the backup stands at that entry, and may not go live', () => {
  const { batches, given } = record(true)
  const [first, ...others] = [...given.keys()]
  const { replayer, state } = replay(batches, new Map(others.map((sequence) => [sequence, given.get(sequence)!])))
  assert.deepEqual(state, { kind: 'needsRead', need: { sequence: first } })
  const { replayedEnd } = replayer
  assert.deepEqual([replayer.run(1n << 40n).state.kind, replayer.replayedEnd], ['needsRead', replayedEnd])
  assert.throws(() => replayer.goLive(), /everything acknowledged is replayed/)
  replayer.provide(first!, given.get(first!)!)
  replayer.run(1n << 40n)
  assert.ok(replayer.replayedEnd > replayedEnd)
})

test('Disk reads on the backup: something else than the primary has read is no answer; if it stays so, it is a divergence', () => {
  const { batches, given } = record(true)
  const [first] = given.keys()
  const { replayer, state } = replay(batches, new Map([...given, [first!, new Uint8Array(16).fill(0xee)]]))
  assert.ok(state.kind === 'needsRead')
  const { difference } = state.need
  const entry = entriesOf(batches).find(({ body }) => body.kind === 'diskRead' && body.sequence === first)
  assert.deepEqual([difference?.kind, difference?.index], ['differentRead', entry?.index])
  assert.equal(replayer.replayedEnd, entry?.index, 'the machine has not seen it')

  const stalled = () => {
    const backup = listedBackup()
    const [batch] = batches
    backup.onMessage(entries(batch!), 1)
    backup.onReplayed({ replayedEnd: replayer.replayedEnd, count: 1n, outputs: [], need: state.need }, 2)
    return backup
  }
  const { readStallMs } = defaultReplicationPolicy
  const backup = stalled()
  assert.deepEqual(only(tickUntil(backup, 3, 1 + readStallMs), 'halt'), [])
  const ended = backup.onTick(2 + readStallMs)
  assert.deepEqual(only(ended, 'reportDivergence'), [{ kind: 'reportDivergence', divergence: difference }])
  assert.equal(only(ended, 'halt')[0]?.reason, 'diverged')

  const mended = stalled()
  replayer.provide(first!, given.get(first!)!)
  replayer.run(1n << 40n)
  assert.ok(replayer.replayedEnd > entry!.index)
  mended.onReplayed({ replayedEnd: replayer.replayedEnd, count: 1n, outputs: [] }, 3)
  assert.deepEqual(only(tickUntil(mended, 3, 2 + readStallMs), 'halt'), [])
})

test('Disk reads on the backup: one whose disk is out of reach leaves while its primary lives, and waits once it is gone', () => {
  const { readStallMs } = defaultReplicationPolicy
  const stalled = () => {
    const backup = listedBackup()
    backup.onMessage(entries(batchAt(0, 5)), 1)
    backup.onReplayed({ replayedEnd: end(2), count: 2n, outputs: [], need: {} }, 2)
    return backup
  }
  const left = tickUntil(stalled(), 3, 2 + readStallMs)
  assert.deepEqual(
    only(left, 'send').map(({ message }) => message.kind),
    ['goodbye'],
  )
  assert.equal(only(left, 'halt')[0]?.reason, 'diskStalled')
  const heir = stalled()
  heir.onChannelClosed(3)
  heir.onArbiterAnswer({ result: 'granted', generation: 3 }, 4)
  assert.deepEqual(tickUntil(heir, 5, 2 + 10 * readStallMs), [])
  assert.equal(only(heir.onReplayed({ replayedEnd: end(5), count: 5n, outputs: [] }, 9), 'goLive').length, 1)
})

// ---- (a) -----------------------------------------------------------------------------------------------------------------

/** A backup's disk on a real disk server; replica `a` holds the machine. */
async function backupDisk(t: TestContext, isOwn = false) {
  const folder = temporaryFolder()
  const path = makeImage(folder, 'disk.img')
  const { stores, wrapStore } = failingStores(t)
  const server = await startTestServer(t, folder, {
    exports: [{ name: 'disk0', path, machine: 'web', ...(isOwn ? { owner: 'b' } : {}) }],
    wrapStore,
  })
  const granted = await arbiterClient(t, server, 'a').start(patienceMs)
  assert.ok(granted.granted)
  const { backend, given } = newBackend(t, server, {
    replica: 'b',
    readsAhead: true,
    onAnswer: () => assert.fail('a backup answers nothing'),
    own: { disks: new Set(isOwn ? [0] : []), hasOther: () => true, onFailed: (error) => assert.fail(error.message) },
  })
  backend.begin()
  return { disk: backend, store: stores[0]!, given }
}

test('Disk reads on the backup, rule (a): if its read fails where the primary’s succeeded, it reads again until that succeeds', async (t) => {
  const { disk, store, given } = await backupDisk(t)
  store.failures.read = 3
  disk.onReplayed([replayed(read(1n, 3n))], [])
  await until(() => given.length > 0)
  assert.deepEqual(given, [[1n, 3]])
  assert.equal(store.failures.read, 0)
})

// ---- (b) -----------------------------------------------------------------------------------------------------------------

test('Disk reads on the backup, rule (b): if the primary’s read failed, the log says what came of it, and the backup’s own read is not used', () => {
  const { recorder, batches, given } = record(true, (nth) => nth % 3 === 1)
  const failed = entriesOf(batches).filter(({ body }) => body.kind === 'diskCompletion' && body.status === 'ioError')
  assert.ok(failed.length > 5)
  // The backup's disk can read all of it.
  const { replayer, state } = replay(batches, given)
  assert.equal(state.kind, 'needsEntries')
  assert.equal(replayer.machine.digest(), recorder.machine.digest())
})

test('Disk reads on the backup, rule (b): a read that the log has answered with an error is not tried any more', async (t) => {
  const { disk, store, given } = await backupDisk(t)
  store.failures.read = 1e9
  disk.onReplayed([replayed(read(1n, 3n))], [])
  await until(() => store.failures.read < 1e9)
  disk.onReplayed([], [{ index: logIndex(2n), sequence: 1n, status: 'ioError', isOwnRead: false }])
  store.failures.read = 0
  await sleep(300)
  assert.deepEqual(given, [])
})

// ---- (c) -----------------------------------------------------------------------------------------------------------------

const ack = (received: number, done: number): Message => ({
  kind: 'ack',
  progress: { receivedEnd: end(received), replayedEnd: end(done), replayedCount: 0n, lagMs: 0 },
  reach: fullReach,
})

const released = (effects: readonly PrimaryEffect[]) =>
  only(effects, 'release').flatMap(({ outputs }) => outputs.map(({ output }) => Number(output.sequence)))

/** In generation 2, with these backups on channels 0, 1 … */
function protectedPrimary(...names: string[]): Primary {
  const policy = { ...defaultReplicationPolicy, backups: names.length }
  const primary = new Primary({ identity, replica: 'a', generation: 1, runId: 7n, state: 'starting', policy })
  primary.start(0)
  for (const [channel, name] of names.entries()) {
    primary.onChannelOpen(channel, 0)
    primary.onMessage(channel, hello(name), 0)
  }
  primary.onArbiterAnswer({ result: 'granted', generation: 2 }, 0)
  assert.equal(primary.state, 'protected')
  return primary
}

/** A write whose marker is entry `marker`, to sectors that entry `reads - 1` has read. */
const overwriting = (sequence: number, marker: number, reads: number): MarkedOutput => {
  return { ...marked(write(BigInt(sequence), 9n, 1), marker), afterReadsEnd: end(reads) }
}

test('Disk reads on the backup, rule (c): a write to sectors of an earlier read waits until the backup has done that read', () => {
  const primary = protectedPrimary('b')
  primary.onBatch(batchAt(0, 5), 1)
  primary.onOutputs([overwriting(0, 4, 3), marked(write(1n, 50n, 1), 4)])
  assert.deepEqual(released(primary.onMessage(0, ack(5, 2), 2)), [1], 'elsewhere on the disk nothing waits')
  assert.equal(primary.status.heldOutputs, 1)
  assert.deepEqual(released(primary.onMessage(0, ack(5, 3), 3)), [0])
})

test('Disk reads on the backup, rule (c): every backup is waited for, a lost one until the arbiter has dropped it', () => {
  const primary = protectedPrimary('b', 'c')
  primary.onBatch(batchAt(0, 5), 1)
  primary.onOutputs([overwriting(0, 4, 3)])
  primary.onMessage(0, ack(5, 5), 2)
  assert.deepEqual(released(primary.onMessage(1, ack(5, 2), 2)), [])
  assert.deepEqual(released(primary.onChannelClosed(1, 3)), [])
  assert.deepEqual(released(primary.onArbiterAnswer({ result: 'granted', generation: 3 }, 4)), [0])
})

test('Disk reads on the backup, rule (c): a write that is issued again at a failover waits as well', () => {
  const primary = protectedPrimary('b')
  primary.onBatch(batchAt(0, 5), 1)
  const reissued = (effects: readonly PrimaryEffect[]) => only(effects, 'reissue').flatMap(({ requests }) => requests)
  assert.deepEqual(reissued(primary.onReissue([{ output: write(0n, 9n, 1), afterReadsEnd: end(3) }])), [])
  assert.deepEqual(reissued(primary.onMessage(0, ack(5, 3), 2)), [write(0n, 9n, 1)])
})

test('Disk reads on the backup, rule (c): the log of a write names the reads before it; the same on both sides', () => {
  const { outputs, batches, given } = record(true)
  const reads = entriesOf(batches).filter(({ body }) => body.kind === 'diskRead')
  const requests = new Map(outputs.map(({ output }) => [output.sequence, output]))
  let overlapping = 0
  for (const { output, markerIndex, afterReadsEnd } of outputs) {
    if (output.kind !== 'disk' || output.operation !== 'write') continue
    const before = reads.filter(({ index, body }) => {
      const request = body.kind === 'diskRead' && requests.get(body.sequence)
      return index < markerIndex && request && request.kind === 'disk' && request.sector === output.sector
    })
    const last = before.at(-1)
    assert.equal(afterReadsEnd, last && last.index + 1n)
    if (last) overlapping++
  }
  assert.ok(overlapping > 10)
  const { replayer } = replay(batches, given)
  const live = replayer.goLive()
  for (const { output, afterReadsEnd } of live.reissue) {
    const original = outputs.find((marked) => marked.output.sequence === output.sequence)
    if (output.operation === 'write') assert.equal(afterReadsEnd, original?.afterReadsEnd)
  }
})

test('Disk reads on the backup, rule (c): who may find its reads overwritten cannot follow any more', () => {
  const primary = protectedPrimary('b')
  primary.onBatch(batchAt(0, 5), 1)
  primary.onOutputs([overwriting(0, 4, 3)])
  assert.deepEqual(released(primary.onMessage(0, ack(5, 5), 2)), [0])
  primary.onChannelClosed(0, 3)
  primary.onArbiterAnswer({ result: 'granted', generation: 3 }, 4)
  const answers = (channel: number, done: number) => {
    primary.onChannelOpen(channel, 5)
    const back = hello('b', { nextIndex: end(5), replayedEnd: end(done), hold: 1 })
    return only(primary.onMessage(channel, back, 6), 'send').map(({ message }) => message.kind)
  }
  assert.deepEqual(answers(7, 2), ['refuse'])
  assert.deepEqual(answers(8, 3), ['hello'])
})

test('Disk reads on the backup, rule (c), with a copy of its own: while that is made, the primary’s copy is not changed before the backup’s read', () => {
  const own = { sectors: 100n, readOnly: false, serial: 'own', isOwn: true }
  const primary = new Primary({
    identity,
    replica: 'a',
    generation: 1,
    runId: 7n,
    state: 'alone',
    artefacts: {
      config: { ramBytes: 1 << 20, disks: [own] },
      image: { kind: 'elf', file: new Uint8Array(1) },
      protection: { backups: 1, heartbeatMs: 1, timeoutMs: 1, digestEveryMs: 1, lagMs: 1, backupReads: true },
      discipline: { kind: 'exact' },
    },
  })
  primary.start(0)
  primary.onBatch(batchAt(0, 5), 1)
  assert.deepEqual(released(primary.onOutputs([overwriting(0, 4, 3)])), [0], 'alone')
  primary.onChannelOpen(0, 1)
  primary.onMessage(0, hello('b'), 1)
  primary.onCopied(0, new Uint8Array(1), new Uint8Array(1), 2)
  primary.onDisksFlushed(0)
  primary.onBatch(batchAt(5, 5), 3)
  const outputs = [overwriting(1, 8, 4), overwriting(2, 8, 8), marked(write(3n, 50n, 1), 9)]
  assert.deepEqual(released(primary.onOutputs(outputs)), [1, 3], 'what was read before the state is in the state')
  assert.deepEqual(released(primary.onMessage(0, ack(10, 7), 4)), [])
  assert.deepEqual(released(primary.onMessage(0, ack(10, 8), 5)), [2])
  primary.onArbiterAnswer({ result: 'granted', generation: 2 }, 6)
  assert.deepEqual(released(primary.onOutputs([overwriting(4, 9, 9)])), [4], 'from here on it reads its own')
})

test('Disk reads on the backup, rule (c), with a copy of its own: what the log changes next waits for the backup’s read', async (t) => {
  const { disk, store, given } = await backupDisk(t, true)
  store.failures.read = 2
  disk.onReplayed([replayed(read(1n, 3n))], [])
  await until(() => store.failures.read < 2)
  disk.onReplayed([replayed(write(2n, 3n, 0xaa)), replayed(read(3n, 3n))], [])
  await until(() => given.length === 2)
  assert.deepEqual(given, [
    [1n, 3],
    [3n, 0xaa],
  ])
})
