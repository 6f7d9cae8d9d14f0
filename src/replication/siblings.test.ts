/** Several backups of one machine: the winner's way to live, the others' way to the winner, and who is too slow. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  ack,
  batchAt,
  end,
  entries,
  hello,
  identity,
  kindsOf,
  markedFrame,
  only,
  released,
  replayed,
  welcome,
} from '../../test/support/replication.ts'
import { Backup } from './backup.ts'
import type { Message } from './messages.ts'
import { defaultReplicationPolicy } from './policy.ts'
import { Primary } from './primary.ts'
import type { PrimaryOptions } from './primary-options.ts'

const policy = { ...defaultReplicationPolicy, backups: 2 }
const siblings = [
  { replica: 'b', address: 'unix:/b' },
  { replica: 'c', address: 'unix:/c' },
]

/** Backup `b`, listed together with `c` in generation 2 of primary `a`; it has the entries below `received`. */
function listed(received: number): Backup {
  const backup = new Backup({ identity, replica: 'b', address: 'unix:/b', policy }, 0)
  backup.onChannelOpen(0)
  backup.onMessage(hello('a', { role: 'primary', generation: 2, runId: 5n, hold: 1 }), 0)
  backup.onMessage(welcome(2, siblings), 0)
  for (let index = 0; index < received; index++) backup.onMessage(entries(batchAt(index)), 1)
  return backup
}

/** `b` has won generation 3; its connection to `c` is channel 9. */
function winner(received: number): Backup {
  const backup = listed(received)
  backup.onReplayed(replayed(received), 2)
  backup.onChannelClosed(3)
  const won = backup.onArbiterAnswer({ result: 'granted', generation: 3 }, 10)
  assert.deepEqual(only(won, 'callSiblings'), [{ kind: 'callSiblings', siblings: [siblings[1]] }])
  assert.deepEqual(only(won, 'goLive'), [], 'the siblings come first')
  const call: Message = { kind: 'call', generation: 3, replica: 'b', tailFrom: end(received) }
  assert.deepEqual(backup.onSiblingOpen(9, 'c'), [{ kind: 'sendPeer', channel: 9, message: call }])
  return backup
}

test('the winner takes the longest log tail, replays it, and only then goes live', () => {
  const backup = winner(2)
  assert.deepEqual(backup.onPeerMessage(9, entries(batchAt(2, 3)), 11), [], 'only the hello says whose log it is')
  const fromC = hello('c', { nextIndex: end(5), hold: 1 })
  assert.deepEqual(kindsOf(backup.onPeerMessage(9, fromC, 12)), ['replay'], 'the tail is not replayed yet')
  const [live] = only(backup.onReplayed(replayed(5), 13), 'goLive')
  assert.equal(live?.logEnd, 5n)
  assert.deepEqual(live?.joiners, [{ channel: 9, hello: fromC }])
})

test('what two siblings send twice is taken once', () => {
  const backup = winner(2)
  backup.onSiblingOpen(10, 'd')
  backup.onPeerMessage(9, entries(batchAt(2)), 11)
  for (const index of [2, 3]) backup.onPeerMessage(10, entries(batchAt(index)), 11)
  const taken = [
    ...backup.onPeerMessage(9, hello('c', { nextIndex: end(3), hold: 1 }), 12),
    ...backup.onPeerMessage(10, hello('d', { nextIndex: end(4), hold: 1 }), 12),
  ]
  assert.deepEqual(
    only(taken, 'replay').map(({ batch }) => Number(batch.firstIndex)),
    [2, 3],
  )
})

test('the tail of a sibling that has followed another winner is of another history: it is not taken', () => {
  const backup = winner(2)
  backup.onPeerMessage(9, entries(batchAt(2, 3)), 11)
  const [live] = only(backup.onPeerMessage(9, hello('c', { nextIndex: end(5), hold: 2 }), 12), 'goLive')
  assert.equal(live?.logEnd, 2n)
})

test('a sibling that cannot be reached, or says nothing, is waited for no longer than its time', () => {
  assert.deepEqual(kindsOf(winner(1).onSiblingUnreachable('c', 11)), ['closePeer', 'goLive'])
  assert.deepEqual(kindsOf(winner(1).onPeerClosed(9, 11)), ['goLive'])
  const silent = winner(1)
  assert.deepEqual(silent.onTick(10 + policy.tailTimeoutMs - 1), [])
  assert.equal(silent.dueMs, 10 + policy.tailTimeoutMs)
  assert.deepEqual(kindsOf(silent.onTick(10 + policy.tailTimeoutMs)), ['closePeer', 'goLive'])
})

const call: Message = { kind: 'call', generation: 3, replica: 'c', tailFrom: end(2) }

test('a backup that is called gives its tail, acknowledges nothing to its old primary any more, and follows the winner', () => {
  const backup = listed(4)
  const effects = backup.onPeerMessage(7, call, 20)
  assert.deepEqual(kindsOf(effects), ['closeChannel', 'adoptPeer', 'send', 'send', 'send'])
  const sent = only(effects, 'send').map(({ message }) => message)
  assert.deepEqual(
    sent.map((message) => (message.kind === 'entries' ? Number(message.batch.firstIndex) : message.kind)),
    [2, 3, 'hello'],
  )
  assert.equal(backup.state, 'rejoining')
  assert.deepEqual(
    backup.onMessage(hello('c', { role: 'primary', generation: 4, nextIndex: end(4), runId: 5n, hold: 3 }), 21),
    [],
  )
  assert.equal(backup.state, 'replaying')
  assert.deepEqual(kindsOf(backup.onMessage(entries(batchAt(4)), 22)), ['replay', 'send'])
  backup.onChannelClosed(23)
  assert.equal(backup.state, 'asking')
})

test('once it has asked it never resumes its old role: the loser waits for the winner, and halts when nobody calls', () => {
  const loser = listed(1)
  loser.onChannelClosed(3)
  assert.deepEqual(loser.onArbiterAnswer({ result: 'refused', detail: 'c won', holder: 'c' }, 4), [])
  assert.equal(loser.state, 'rejoining')
  assert.deepEqual(loser.onMessage(entries(batchAt(1)), 5).length, 2, 'its old primary is not heard: no hello')
  const waiting = listed(1)
  waiting.onChannelClosed(3)
  waiting.onArbiterAnswer({ result: 'refused', detail: 'c won', holder: 'c' }, 4)
  assert.equal(waiting.dueMs, 4 + policy.callMs)
  assert.deepEqual(waiting.onTick(4 + policy.callMs - 1), [])
  // Heir of a winner that may be lost: it asks for that one's generation, once.
  const asked = waiting.onTick(4 + policy.callMs)
  assert.deepEqual(only(asked, 'testAndSet'), [{ kind: 'testAndSet', generation: 3 }])
  const refused = waiting.onArbiterAnswer({ result: 'refused', detail: 'c went on', holder: 'c' }, 20_000)
  assert.deepEqual(only(refused, 'halt')[0]?.reason, 'lostArbitration')
})

test('two losses in a row: an heir of the winner takes over from it, and holds everything until it has backups of its own', () => {
  const heir = listed(2)
  heir.onReplayed(replayed(2), 2)
  heir.onPeerMessage(7, { ...call, generation: 3 } as Message, 5)
  assert.equal(heir.state, 'rejoining')
  heir.onChannelClosed(6)
  assert.equal(heir.dueMs, 6 + policy.headStartMs, 'the winner may call again')
  assert.deepEqual(only(heir.onTick(heir.dueMs), 'testAndSet'), [{ kind: 'testAndSet', generation: 3 }])
  heir.onArbiterAnswer({ result: 'granted', generation: 4 }, 2000)
  const [live] = only(heir.onTick(heir.dueMs), 'goLive')
  assert.equal(live?.generation, 4)
  const primary = heir.toPrimary()
  assert.equal(primary.state, 'asking')
})

test('who follows a winner, and is not welcomed yet, asks for the generation in which it is an heir; then for the one that lists it', () => {
  const heir = listed(2)
  heir.onPeerMessage(7, call, 5)
  heir.onMessage(hello('c', { role: 'primary', generation: 4, nextIndex: end(2), runId: 5n, hold: 3 }), 6)
  assert.equal(heir.state, 'replaying')
  const asked = heir.onChannelClosed(7)
  assert.deepEqual(only(asked, 'testAndSet'), [{ kind: 'testAndSet', generation: 3 }])
  // Generation 4 may be that of another heir of `c`, who lives. Only of `c`'s own it is told.
  const again = heir.onArbiterAnswer({ result: 'refused', detail: 'over', holder: 'c', eligibleIn: 4 }, 8)
  assert.deepEqual(again, [{ kind: 'testAndSet', generation: 4 }])
  const other = listed(2)
  other.onPeerMessage(7, call, 5)
  other.onMessage(hello('c', { role: 'primary', generation: 4, nextIndex: end(2), runId: 5n, hold: 3 }), 6)
  other.onChannelClosed(7)
  other.onArbiterAnswer({ result: 'refused', detail: 'd won', holder: 'd' }, 8)
  assert.equal(other.state, 'rejoining', 'the second winner is to call it')
})

test('a winner with heirs lets the switch forget no frame before those that it has named have the log', () => {
  const backup = listed(1)
  backup.onMessage(entries(batchAt(1, 1, 41n)), 1)
  backup.onReplayed(replayed(2), 2)
  backup.onChannelClosed(3)
  backup.onArbiterAnswer({ result: 'granted', generation: 3 }, 10)
  backup.onSiblingUnreachable('c', 11)
  const primary = backup.toPrimary()
  assert.deepEqual(only(primary.start(12), 'covered'), [])
  const granted = primary.onArbiterAnswer({ result: 'granted', generation: 4 }, 14)
  assert.deepEqual(only(granted, 'covered'), [{ kind: 'covered', frameId: 41n }])
})

test('a winner with heirs releases nothing before the arbiter lists backups of its own choice; those that follow are named first', () => {
  const backup = winner(5)
  backup.onPeerClosed(9, 11)
  const primary = backup.toPrimary()
  assert.equal(primary.state, 'asking')
  primary.onSiblingOpen(3, 11)
  primary.onMessage(3, hello('c', { nextIndex: end(3), hold: 1 }), 11)
  assert.deepEqual(only(primary.start(12), 'openGeneration'), [], 'it lacks entries still')
  primary.onBatch(batchAt(5), 12)
  assert.deepEqual(released(primary.onOutputs([markedFrame(0, 5)])), [])
  primary.onMessage(3, ack(5), 13)
  const asked = primary.onMessage(3, ack(6), 13)
  assert.deepEqual(only(asked, 'openGeneration'), [{ kind: 'openGeneration', generation: 3, eligible: ['c'] }])
  assert.deepEqual(released(asked), [])
  const granted = primary.onArbiterAnswer({ result: 'granted', generation: 4 }, 14)
  assert.deepEqual([primary.state, released(granted)], ['protected', [0]])
})

test('a loser whose primary holds the machine still halts: it was dropped', () => {
  const loser = listed(1)
  loser.onChannelClosed(3)
  const refused = loser.onArbiterAnswer({ result: 'refused', detail: 'a holds it', holder: 'a' }, 4)
  assert.equal(only(refused, 'halt')[0]?.reason, 'lostArbitration')
})

test('a backup that could win its own generation still is not called away from it', () => {
  const backup = listed(2)
  const stale = backup.onPeerMessage(7, { ...call, generation: 2 } as Message, 5)
  assert.deepEqual(kindsOf(stale), ['sendPeer', 'closePeer'])
  assert.equal(backup.state, 'replaying')
})

test('a backup that missed a change of generation asks for the one that lists it', () => {
  const backup = listed(1)
  backup.onChannelClosed(3)
  const again = backup.onArbiterAnswer({ result: 'refused', detail: 'over', holder: 'a', eligibleIn: 3 }, 4)
  assert.deepEqual(again, [{ kind: 'testAndSet', generation: 3 }])
})

// ---- the primary's side --------------------------------------------------------------------------------------------------

/** `b`, live since entry 5 in generation 3, after `a` (whose hold was 1). */
function goneLive(received = 5): Primary {
  const backup = winner(received)
  backup.onPeerClosed(9, 11)
  const primary = backup.toPrimary()
  assert.deepEqual(only(primary.start(11), 'openGeneration'), [{ kind: 'openGeneration', generation: 3, eligible: [] }])
  primary.onArbiterAnswer({ result: 'granted', generation: 4 }, 11)
  assert.equal(primary.state, 'alone')
  return primary
}

test('a sibling that lacks the end of the log gets it from the winner, and what the winner wrote since', () => {
  const primary = goneLive()
  primary.onBatch(batchAt(5, 2), 12)
  assert.deepEqual(only(primary.onSiblingOpen(3, 13), 'send')[0]?.message.kind, 'call')
  const joined = primary.onMessage(3, hello('c', { nextIndex: end(3), hold: 1 }), 14)
  const sent = only(joined, 'send').map(({ message }) => message)
  assert.deepEqual(
    sent.map((message) => (message.kind === 'entries' ? Number(message.batch.firstIndex) : message.kind)),
    ['hello', 3, 4, 5],
  )
})

test('eligibility is not recorded too early: a newcomer first acknowledges all that left without it', () => {
  const primary = goneLive()
  primary.onBatch(batchAt(5, 2), 12)
  assert.deepEqual(released(primary.onOutputs([markedFrame(0, 6)])), [0], 'alone: nobody to wait for')
  primary.onSiblingOpen(3, 13)
  assert.deepEqual(only(primary.onMessage(3, hello('c', { nextIndex: end(3), hold: 1 }), 14), 'openGeneration'), [])
  primary.onBatch(batchAt(7), 15)
  assert.deepEqual(released(primary.onOutputs([markedFrame(1, 7)])), [1], 'it catches up: outputs do not wait for it')
  const caughtUp = primary.onMessage(3, ack(7), 16)
  assert.deepEqual(only(caughtUp, 'openGeneration'), [], 'it lacks entry 7, whose output has left')
  primary.onBatch(batchAt(8), 17)
  assert.deepEqual(released(primary.onOutputs([markedFrame(2, 8)])), [], 'from here on outputs wait for it')
  const asked = only(primary.onMessage(3, ack(8), 18), 'openGeneration')
  assert.deepEqual(asked, [{ kind: 'openGeneration', generation: 4, eligible: ['c'] }])
  assert.deepEqual(released(primary.onMessage(3, ack(9), 19)), [2])
})

test('a replica that has run past the end of the winner is refused, with the reason', () => {
  const primary = goneLive()
  for (const index of [5, 6, 7]) primary.onBatch(batchAt(index), 12)
  primary.onSiblingOpen(3, 13)
  const refused = primary.onMessage(3, hello('c', { nextIndex: end(7), hold: 1 }), 14)
  const [message] = only(refused, 'send').map((effect) => effect.message)
  assert.match(message?.kind === 'refuse' ? message.reason : '', /^it has run 2 log entries past the end/)
})

test('a backup at the same entry of another hold has another history: it is refused', () => {
  const primary = goneLive()
  primary.onBatch(batchAt(5, 2), 12)
  primary.onSiblingOpen(3, 13)
  const refused = primary.onMessage(3, hello('c', { nextIndex: end(7), hold: 2 }), 14)
  assert.equal(only(refused, 'send')[0]?.message.kind, 'refuse')
})

test('a sibling that comes too late, or with the log of another hold, needs the present state', () => {
  const refusal = (primary: Primary, from: Message) => {
    primary.onSiblingOpen(3, 20_000)
    const [message] = only(primary.onMessage(3, from, 20_001), 'send').map((effect) => effect.message)
    return message?.kind === 'refuse' ? message.reason : undefined
  }
  assert.match(refusal(goneLive(), hello('c', { nextIndex: end(3), hold: 2 }))!, /start it anew/)
  const late = goneLive()
  late.onTick(1000)
  late.onTick(1000 + policy.callMs)
  assert.match(refusal(late, hello('c', { nextIndex: end(3), hold: 1 }))!, /start it anew/)
  assert.equal(refusal(goneLive(), hello('c', { nextIndex: end(3), hold: 1 })), undefined)
})

/** A primary in generation 2 with backups `b` and `c` on channels 0 and 1. */
function protectedByTwo(options: Partial<PrimaryOptions> = {}): Primary {
  const primary = new Primary({
    identity,
    replica: 'a',
    generation: 1,
    runId: 5n,
    state: 'starting',
    policy,
    ...options,
  })
  primary.start(0)
  for (const [channel, replica] of ['b', 'c'].entries()) {
    primary.onChannelOpen(channel, 0)
    primary.onMessage(channel, hello(replica), 0)
  }
  primary.onArbiterAnswer({ result: 'granted', generation: 2 }, 0)
  assert.equal(primary.state, 'protected')
  return primary
}

test('a slow backup is dropped from the record while another keeps up; only then it is no longer waited for', () => {
  const primary = protectedByTwo()
  primary.onBatch(batchAt(0), 1)
  primary.onOutputs([markedFrame(0, 0)])
  primary.onMessage(0, ack(1), 2)
  primary.onMessage(1, ack(0, 0, policy.slowBackupMs + 1), 2)
  const dropped = primary.onTick(3)
  assert.deepEqual(
    only(dropped, 'backupLost').map(({ backup, cause }) => [backup, cause]),
    [['c', 'tooSlow']],
  )
  assert.deepEqual(only(dropped, 'openGeneration'), [{ kind: 'openGeneration', generation: 2, eligible: ['b'] }])
  assert.deepEqual(only(dropped, 'closeChannel'), [], 'it must not ask the arbiter before us')
  assert.deepEqual(released(dropped), [], 'the record lists it still')
  const granted = primary.onArbiterAnswer({ result: 'granted', generation: 3 }, 4)
  assert.deepEqual(
    only(granted, 'send').map(({ channel, message }) => [channel, message.kind]),
    [
      [0, 'welcome'],
      [1, 'goodbye'],
    ],
  )
  assert.deepEqual(released(granted), [0])
  assert.equal(primary.state, 'protected')
})

test('a backup alone is never too slow: without it the machine would have none', () => {
  const primary = protectedByTwo()
  const late = policy.slowBackupMs + 1
  primary.onMessage(0, ack(0, 0, late), 2)
  primary.onMessage(1, ack(0, 0, late), 2)
  assert.deepEqual(only(primary.onTick(3), 'openGeneration'), [])
})

test('a third backup of a machine that wants two is refused', () => {
  const primary = protectedByTwo()
  primary.onChannelOpen(5, 1)
  const [message] = only(primary.onMessage(5, hello('d'), 1), 'send').map((effect) => effect.message)
  assert.match(message?.kind === 'refuse' ? message.reason : '', /has its 2 backups/)
})
