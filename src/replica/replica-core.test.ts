import assert from 'node:assert/strict'
import { test } from 'node:test'
import { batchAt, end, entries, helloFrom, identity, markedFrame } from '../../test/support/replication.ts'
import { Backup } from '../replication/backup.ts'
import type { Message } from '../replication/messages.ts'
import { stateMessages } from '../replication/transferred-state.ts'
import { ReplicaCore } from './replica-core.ts'
import type { ReplicaWorld } from './replica-world.ts'

/** A backup to be, and what its core asks of its disks, in order. */
function newcomer() {
  const asked: string[] = []
  let finishCopies = (): void => {}
  const nothing = (): void => {}
  const world: ReplicaWorld = {
    hart: { instructions: 0n, send: nothing, sendInput: nothing, acknowledged: nothing },
    peers: { send: nothing, close: nothing },
    toPrimary: { send: ({ kind }) => asked.push(`send ${kind}`), close: nothing },
    disks: {
      issue: nothing,
      onReplayed: (outputs) => asked.push(`follow ${outputs.length}`),
      readAgain: nothing,
      onRestored: (_inFlight, done) => {
        asked.push('copy the rest')
        finishCopies = done
      },
      flush: nothing,
      connect: nothing,
    },
    network: undefined,
    console: {
      write: nothing,
      onRegenerated: nothing,
      goLive: nothing,
      printed: new Uint8Array(),
      beginAt: nothing,
    },
    arbiter: { openGeneration: nothing, testAndSet: nothing },
    nowMs: () => 0,
    setAlarm: nothing,
    adoptPeer: nothing,
    callSiblings: nothing,
    onPowerOff: nothing,
    onHalt: (_reason, detail) => assert.fail(detail),
  }
  const core = new ReplicaCore(world)
  const report = (replayedEnd: number, outputs = 0): void => {
    core.onHart({
      kind: 'replayed',
      replayedEnd: end(replayedEnd),
      outputs: Array.from({ length: outputs }, (_, index) => markedFrame(index, replayedEnd - 1)),
      diskAnswers: [],
      need: undefined,
    })
  }
  const begin = (): void => {
    core.becomeBackup(new Backup({ identity, replica: 'b' }, 0))
    core.onPrimaryOpen()
    asked.length = 0
  }
  return { core, report, begin, asked, finishCopies: () => finishCopies() }
}

function acceptedAt(nextIndex: number): Message {
  return { ...(helloFrom('a', nextIndex) as object), role: 'primary', generation: 6, runId: 7n } as Message
}

test('a backup that gets a running machine follows nothing with its disks before that machine is here, whatever its hart says', () => {
  const { core, report, begin, asked, finishCopies } = newcomer()
  // The hart's first turn may be early or late.
  report(0)
  begin()
  report(0)
  core.onPrimaryMessage(acceptedAt(10))
  report(0)
  assert.deepEqual(asked, [], "its disks are not as good as the primary's yet")
  const state = { nextIndex: end(10), generation: 6, coveredFrameId: undefined, unconfirmed: [] }
  const bytes = { hart: Uint8Array.of(1), host: Uint8Array.of(2) }
  for (const piece of stateMessages({ ...state, ...bytes })) core.onPrimaryMessage(piece)
  core.onPrimaryMessage(entries(batchAt(10, 2)))
  core.onHart({ kind: 'restored', inFlight: [] })
  report(12, 1)
  assert.deepEqual(asked, ['copy the rest', 'follow 1'], 'which waits for the copy, there')
  finishCopies()
  assert.deepEqual(asked.slice(2), ['send ack'])
})

test('a backup that follows from the first entry on follows with its disks at once', () => {
  const { core, report, begin, asked } = newcomer()
  begin()
  core.onPrimaryMessage(acceptedAt(0))
  core.onPrimaryMessage(entries(batchAt(0, 2)))
  report(2, 1)
  assert.ok(asked.includes('follow 1'))
})
