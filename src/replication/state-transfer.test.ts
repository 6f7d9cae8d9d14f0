/** A backup for a machine that runs already (VMware FT, "Starting and restarting FT VMs"): the protocol's part. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  ack,
  batchAt,
  end,
  entries,
  helloFrom,
  identity,
  kindsOf,
  markedFrame,
  only,
  released,
  welcome,
} from '../../test/support/replication.ts'
import { Backup } from './backup.ts'
import type { BackupEffect, PrimaryEffect } from './effects.ts'
import type { Message } from './messages.ts'
import { defaultReplicationPolicy } from './policy.ts'
import { Primary } from './primary.ts'
import type { PrimaryOptions } from './primary-options.ts'
import { decodeState, stateMessages, type TransferredState } from './transferred-state.ts'

const { timeoutMs, heartbeatMs } = defaultReplicationPolicy.detector
const hart = Uint8Array.of(1, 2, 3)
const host = Uint8Array.of(4)

const sent = (effects: readonly (PrimaryEffect | BackupEffect)[]) =>
  (effects as readonly PrimaryEffect[]).flatMap((effect) => (effect.kind === 'send' ? [effect.message.kind] : []))

/** A primary that is alone in generation 5, and has written ten entries. */
function alone(options: Partial<PrimaryOptions> = {}): Primary {
  const primary = new Primary({ identity, replica: 'a', generation: 5, runId: 7n, state: 'alone', ...options })
  primary.start(0)
  primary.onBatch(batchAt(0, 10, 77n), 0)
  return primary
}

function saysHello(primary: Primary, replica = 'b', channel = 1): PrimaryEffect[] {
  primary.onChannelOpen(channel, 0)
  return primary.onMessage(channel, helloFrom(replica), 0)
}

/** With a backup `b` on channel 1 whose state was sent, at entry 10. */
function copied(options: Partial<PrimaryOptions> = {}): Primary {
  const primary = alone(options)
  saysHello(primary)
  primary.onCopied(1, hart, host, 1)
  return primary
}

test('a backup that has nothing is accepted, and the machine is copied for it: nobody waits for it meanwhile', () => {
  const primary = alone()
  const effects = saysHello(primary)
  assert.deepEqual(sent(effects), ['hello'])
  assert.equal(only(effects, 'startCopy')[0]?.copy, 1)
  assert.deepEqual(only(effects, 'openGeneration'), [])
  primary.onBatch(batchAt(10, 2), 1)
  assert.deepEqual(released(primary.onOutputs([markedFrame(0, 11)])), [0])
  assert.deepEqual(primary.status.backups, [])
  assert.equal(primary.state, 'alone')
})

test('pages are let out as far as the backup has taken them, and not further', () => {
  const primary = alone()
  const [start] = only(saysHello(primary), 'startCopy')
  assert.equal(start!.creditBytes, defaultReplicationPolicy.transferWindowBytes)
  assert.deepEqual(sent(primary.onPages(1, new Uint8Array(5000), 1)), ['pages'])
  assert.deepEqual(only(primary.onMessage(1, { kind: 'taken', totalBytes: 2000 }, 2), 'allowPages'), [
    { kind: 'allowPages', copy: 1, bytes: 2000 },
  ])
  assert.deepEqual(only(primary.onMessage(1, { kind: 'taken', totalBytes: 5000 }, 3), 'allowPages'), [
    { kind: 'allowPages', copy: 1, bytes: 3000 },
  ])
  assert.deepEqual(
    only(primary.onMessage(1, { kind: 'taken', totalBytes: 5001 }, 4), 'backupLost')[0]?.cause,
    'protocol',
  )
})

test('eligibility: outputs wait from the state on, BEFORE the arbiter is asked to list the new backup', () => {
  const primary = alone()
  saysHello(primary)
  const effects = primary.onCopied(1, hart, host, 1)
  assert.deepEqual(only(effects, 'openGeneration'), [])
  primary.onBatch(batchAt(10, 2), 2)
  assert.deepEqual(released(primary.onOutputs([markedFrame(0, 11)])), [], 'its entry is not acknowledged')
  primary.onDisksFlushed(1)
  assert.equal(primary.state, 'alone')
  const acknowledged = primary.onMessage(1, ack(12, 12), 3)
  assert.deepEqual(kindsOf(acknowledged), ['openGeneration', 'release'])
  assert.deepEqual(only(acknowledged, 'openGeneration')[0], { kind: 'openGeneration', generation: 5, eligible: ['b'] })
  const granted = primary.onArbiterAnswer({ result: 'granted', generation: 6 }, 4)
  assert.deepEqual(sent(granted), ['welcome'])
  assert.equal(primary.state, 'protected')
})

test('eligibility: a backup that has not said that its machine is whole is not named to the arbiter', () => {
  const primary = copied()
  assert.deepEqual(only(primary.onDisksFlushed(1), 'openGeneration'), [])
  assert.deepEqual(only(primary.onMessage(1, { kind: 'taken', totalBytes: 0 }, 2), 'openGeneration'), [])
  assert.equal(only(primary.onMessage(1, ack(10, 10), 3), 'openGeneration').length, 1)
})

test('eligibility: what the disks answered before is on stable storage before the arbiter lists the new backup', () => {
  const primary = alone()
  saysHello(primary)
  assert.deepEqual(only(primary.onCopied(1, hart, host, 1), 'flushDisks'), [{ kind: 'flushDisks', copy: 1 }])
  assert.deepEqual(only(primary.onMessage(1, ack(10, 10), 2), 'openGeneration'), [])
  assert.equal(only(primary.onDisksFlushed(1), 'openGeneration').length, 1)
  const failing = copied()
  assert.equal(only(failing.onFlushFailed(1, 'no space', 2), 'backupLost')[0]?.cause, 'disk')
  assert.deepEqual(only(failing.onMessage(1, ack(10, 10), 2), 'openGeneration'), [])
})

test('eligibility: a backup has all that was written until its own disks were copied before the arbiter lists it', () => {
  const primary = copied()
  primary.onDisksFlushed(1)
  // Goes to a disk of which each replica has its own copy, without waiting; the backup copies it, and lacks its entries.
  primary.onBatch(batchAt(10, 3), 2)
  assert.deepEqual(only(primary.onMessage(1, ack(10, 10), 3), 'openGeneration'), [])
  primary.onBatch(batchAt(13, 2), 4)
  assert.equal(
    only(primary.onMessage(1, ack(13, 10), 5), 'openGeneration').length,
    1,
    'what came later it need not have',
  )
})

test('no entry is lost between the final pause and the first batch: all that follow are sent behind the state', () => {
  const primary = alone()
  saysHello(primary)
  assert.deepEqual(sent(primary.onBatch(batchAt(10, 3), 1)), [], 'these are in the state')
  const [message] = only(primary.onCopied(1, hart, host, 1), 'send').map(({ message: sentOne }) => sentOne)
  assert.equal(message?.kind, 'state')
  const state = decodeState((message as Extract<Message, { kind: 'state' }>).bytes)
  assert.equal(state.nextIndex, 13n)
  assert.equal(state.generation, 6)
  assert.equal(state.coveredFrameId, 77n)
  assert.deepEqual([state.hart, state.host], [hart, host])
  assert.ok(sent(primary.onBatch(batchAt(13, 2), 2)).includes('entries'))
})

test('no output is lost: the state names those that left, and that their receivers have not confirmed', () => {
  const primary = alone()
  primary.onOutputs([markedFrame(0, 3), markedFrame(1, 4), markedFrame(2, 9)])
  primary.onConfirmed('frame', 0n)
  saysHello(primary)
  const [message] = only(primary.onCopied(1, hart, host, 1), 'send').map(({ message: sentOne }) => sentOne)
  const { unconfirmed } = decodeState((message as Extract<Message, { kind: 'state' }>).bytes)
  assert.deepEqual(unconfirmed, [markedFrame(1, 4), markedFrame(2, 9)])
})

test('a backup to be that is lost, silent or wrong is forgotten: nothing was held for it, and the arbiter is not asked', () => {
  const losses: ((primary: Primary) => PrimaryEffect[])[] = [
    (primary) => primary.onChannelClosed(1, 1),
    (primary) => primary.onMessage(1, { kind: 'goodbye', reason: 'down' }, 1),
    (primary) => primary.onMessage(1, welcome(1), 1),
    (primary) => {
      for (let nowMs = 0; nowMs < timeoutMs; nowMs += heartbeatMs) primary.onTick(nowMs)
      return primary.onTick(timeoutMs)
    },
  ]
  for (const lose of losses) {
    const primary = alone()
    saysHello(primary)
    const effects = lose(primary)
    assert.deepEqual(only(effects, 'endCopy'), [{ kind: 'endCopy', copy: 1 }])
    assert.equal(only(effects, 'backupLost').length, 1)
    assert.deepEqual(only(effects, 'openGeneration'), [])
    assert.deepEqual(primary.onCopied(1, hart, host, 5), [], 'a copy that nobody waits for')
    assert.equal(primary.state, 'alone')
  }
})

test('a backup that is lost while it joins is forgotten too, and what was held for it is released', () => {
  const primary = copied()
  primary.onBatch(batchAt(10, 2), 2)
  primary.onOutputs([markedFrame(0, 11)])
  const effects = primary.onChannelClosed(1, 3)
  assert.deepEqual(released(effects), [0])
  assert.deepEqual(only(effects, 'openGeneration'), [])
  assert.equal(primary.state, 'alone')
  assert.deepEqual(primary.onDisksFlushed(1), [])
})

test('backups to be are served one after the other, and no more than are wanted', () => {
  const primary = alone({ policy: { ...defaultReplicationPolicy, backups: 2 } })
  assert.equal(only(saysHello(primary, 'b', 1), 'startCopy').length, 1)
  assert.deepEqual(only(saysHello(primary, 'c', 2), 'startCopy'), [])
  assert.deepEqual(sent(saysHello(primary, 'd', 3)), ['refuse'])
  assert.equal(only(primary.onCopied(1, hart, host, 1), 'startCopy')[0]?.copy, 2)
})

test('a primary that its operator unprotects, or ends, tells those that were to be its backups', () => {
  for (const finish of [
    (primary: Primary) => primary.unprotect(),
    (primary: Primary) => primary.onShutdown('down', 2),
  ]) {
    const copying = alone()
    saysHello(copying)
    assert.deepEqual(sent(finish(copying)), ['goodbye'])
    const joining = copied()
    joining.onBatch(batchAt(10, 2), 2)
    joining.onOutputs([markedFrame(0, 11)])
    assert.deepEqual(sent(finish(joining)), ['goodbye'])
  }
})

// ---- the backup's side -------------------------------------------------------------------------------------------------

const accept: Message = { ...(helloFrom('a', 10) as object), role: 'primary', generation: 6, runId: 7n } as Message

const state: TransferredState = {
  nextIndex: end(10),
  generation: 6,
  coveredFrameId: 77n,
  unconfirmed: [markedFrame(5, 8)],
  hart,
  host,
}

/** Accepted by a primary whose log is at entry 10. */
function restoring(): Backup {
  const backup = new Backup({ identity, replica: 'b' }, 0)
  backup.onChannelOpen(0)
  backup.onMessage(accept, 0)
  assert.equal(backup.state, 'restoring')
  return backup
}

function withState(): Backup {
  const backup = restoring()
  for (const piece of stateMessages(state)) backup.onMessage(piece, 1)
  return backup
}

test('pages go into the machine as they come, and are said to be taken when they are in it', () => {
  const backup = restoring()
  const bytes = new Uint8Array(100)
  assert.deepEqual(backup.onMessage({ kind: 'pages', bytes }, 1), [{ kind: 'loadPages', bytes }])
  assert.deepEqual(only(backup.onPagesLoaded(100, 2), 'send'), [
    { kind: 'send', message: { kind: 'taken', totalBytes: 100 } },
  ])
})

test('entries that follow the state are replayed in order, and acknowledged as soon as the machine is whole', () => {
  const backup = withState()
  assert.deepEqual(kindsOf(backup.onMessage(entries(batchAt(10, 2)), 2)), ['replay'])
  const effects = backup.onRestored(3)
  assert.equal(backup.state, 'replaying')
  const [message] = only(effects, 'send').map(({ message: sentOne }) => sentOne)
  assert.equal((message as Extract<Message, { kind: 'ack' }>).progress.receivedEnd, 12n)
})

test('what the hart reports before the state is in it is of an empty machine; afterwards it counts, the backup being whole or not', () => {
  const backup = restoring()
  assert.equal(backup.hasMachine, false)
  assert.deepEqual(backup.onReplayed({ replayedEnd: end(0), count: 0n, outputs: [] }, 1), [])
  for (const piece of stateMessages(state)) backup.onMessage(piece, 1)
  backup.onMessage(entries(batchAt(10, 2)), 2)
  backup.onStateLoaded()
  assert.equal(backup.hasMachine, true)
  assert.deepEqual(backup.onReplayed({ replayedEnd: end(12), count: 99n, outputs: [markedFrame(6, 11)] }, 3), [])
  backup.onRestored(4)
  backup.onChannelClosed(5)
  const granted = backup.onArbiterAnswer({ result: 'granted', generation: 7 }, 6)
  const [goLive] = only(granted, 'goLive')
  assert.deepEqual(
    goLive?.unconfirmed,
    [markedFrame(5, 8), markedFrame(6, 11)],
    'what it printed and sent meanwhile is kept',
  )
})

test('a backup whose machine is not whole was never eligible: it halts with a clear line when its primary is lost', () => {
  const losses: ((backup: Backup) => BackupEffect[])[] = [
    (backup) => backup.onChannelClosed(2),
    (backup) => backup.onBadMessage('no message', 2),
    (backup) => {
      for (let nowMs = 0; nowMs < timeoutMs; nowMs += heartbeatMs) backup.onTick(nowMs)
      return backup.onTick(timeoutMs + 1)
    },
  ]
  for (const begin of [restoring, withState]) {
    for (const lose of losses) {
      const effects = lose(begin())
      assert.deepEqual(only(effects, 'testAndSet'), [])
      assert.equal(only(effects, 'halt')[0]?.reason, 'neverPaired')
    }
  }
})

test('entries before the state, a state with a gap, and a machine that came out wrong end the backup, not the primary', () => {
  const early = restoring().onMessage(entries(batchAt(0)), 1)
  assert.equal(only(early, 'halt')[0]?.reason, 'neverPaired')
  const gap = restoring().onMessage({ kind: 'state', lengthBytes: 10, offset: 5, bytes: new Uint8Array(2) }, 1)
  assert.equal(only(gap, 'halt')[0]?.reason, 'neverPaired')
  const wrong = withState().onRestoreFailed('its digest differs', 2)
  assert.deepEqual(sent(wrong), ['goodbye'])
  assert.equal(only(wrong, 'halt')[0]?.detail, 'its digest differs')
})

test('a backup that began in the middle goes live as one that followed from the first entry', () => {
  const backup = withState()
  backup.onMessage(entries(batchAt(10, 2)), 2)
  backup.onRestored(3)
  const asking = backup.onChannelClosed(4)
  assert.deepEqual(only(asking, 'testAndSet'), [{ kind: 'testAndSet', generation: 6 }])
  backup.onArbiterAnswer({ result: 'granted', generation: 7 }, 5)
  const [goLive] = only(backup.onReplayed({ replayedEnd: end(12), count: 99n, outputs: [] }, 6), 'goLive')
  assert.equal(goLive?.logEnd, 12n)
  assert.equal(goLive?.coveredFrameId, 77n)
  assert.equal(goLive?.runId, 7n)
  assert.deepEqual(goLive?.unconfirmed, [markedFrame(5, 8)])
  // And gives a backup of its own the same.
  const primary = backup.toPrimary()
  primary.start(0)
  saysHello(primary, 'c', 4)
  const [piece] = only(primary.onCopied(4, hart, host, 7), 'send').map(({ message }) => message)
  const given = decodeState((piece as Extract<Message, { kind: 'state' }>).bytes)
  assert.equal(given.coveredFrameId, 77n)
  assert.deepEqual(given.unconfirmed, [markedFrame(5, 8)])
})

test('a state survives the channel, in as many pieces as it takes', () => {
  const large = { ...state, coveredFrameId: undefined, hart: new Uint8Array(3 << 20).fill(7) }
  const pieces = stateMessages(large) as Extract<Message, { kind: 'state' }>[]
  assert.equal(pieces.length, 4)
  const backup = restoring()
  const effects = pieces.flatMap((piece) => backup.onMessage(piece, 1))
  assert.deepEqual(only(effects, 'loadState'), [{ kind: 'loadState', state: large }])
})

test('a backup that was dropped while it was frozen does not take the place of another one of its name', () => {
  const asksAgainIn = (eligibleIn: number): number => {
    const backup = withState()
    backup.onRestored(3)
    backup.onChannelClosed(4)
    const answer = { result: 'refused', detail: 'a holds it', holder: 'a', eligibleIn } as const
    return only(backup.onArbiterAnswer(answer, 5), 'testAndSet').length
  }
  assert.equal(asksAgainIn(7), 1, 'the next generation, of which its primary could not tell it any more')
  assert.equal(asksAgainIn(8), 0, 'dropped in generation 7, and in 8 another process has its name')
})
