/** Moving the machine to its backup on purpose: a failover that nobody has to find out about. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  ack,
  batchAt,
  entries,
  hello,
  identity,
  kindsOf,
  markedFrame,
  only,
  welcome,
} from '../../test/support/replication.ts'
import { logIndex } from '../log/entry.ts'
import { Backup } from './backup.ts'
import { Primary } from './primary.ts'

function protectedPrimary(): Primary {
  const primary = new Primary({ identity, replica: 'a', generation: 1, runId: 7n, state: 'starting' })
  primary.start(0)
  primary.onChannelOpen(1, 0)
  primary.onMessage(1, hello('b'), 0)
  primary.onArbiterAnswer({ result: 'granted', generation: 2 }, 0)
  return primary
}

test('move: the primary says so to its backup, ends, and releases nothing any more', () => {
  const primary = protectedPrimary()
  primary.onBatch(batchAt(0, 2), 1)
  primary.onOutputs([markedFrame(0, 1)])
  const effects = primary.handOver(2)
  assert.deepEqual(kindsOf(effects), ['send', 'closeChannel', 'halt'])
  assert.equal(only(effects, 'send')[0]?.message.kind, 'takeOver')
  assert.equal(only(effects, 'halt')[0]?.reason, 'handedOver')
  assert.deepEqual(primary.onMessage(1, ack(2), 3), [], 'what its backup acknowledges now is for nobody')
})

test('move: a backup that could not serve, or is none yet, is not given the machine', () => {
  const worse = protectedPrimary()
  worse.onMessage(1, ack(0, 0, 0, { disk: true, lan: false }), 1)
  assert.deepEqual(worse.handOver(2), [])
  assert.equal(worse.state, 'protected')
  const alone = new Primary({ identity, replica: 'a', generation: 1, runId: 7n, state: 'alone' })
  alone.start(0)
  alone.onBatch(batchAt(0, 1), 0)
  alone.onChannelOpen(1, 0)
  alone.onMessage(1, hello('b'), 0)
  alone.onCopied(1, new Uint8Array(), new Uint8Array(), 1)
  assert.deepEqual(alone.handOver(2), [])
})

test('move: the backup asks the arbiter at once, and goes live only by its word, after all that it acknowledged', () => {
  const backup = new Backup({ identity, replica: 'b' }, 0)
  backup.onChannelOpen(0)
  backup.onMessage(hello('a', { role: 'primary', generation: 2, runId: 7n }), 0)
  backup.onMessage(welcome(2), 0)
  backup.onMessage(entries(batchAt(0, 2)), 1)
  // A primary that still reaches more than this one: no head start for who has ended.
  backup.onReach({ disk: true, lan: false }, 1)
  const effects = backup.onMessage({ kind: 'takeOver', reason: 'moved' }, 2)
  assert.deepEqual(kindsOf(effects), ['closeChannel', 'testAndSet'])
  assert.deepEqual(only(backup.onArbiterAnswer({ result: 'granted', generation: 3 }, 3), 'goLive'), [])
  const report = { replayedEnd: logIndex(2n), count: 2n, outputs: [] }
  assert.equal(only(backup.onReplayed(report, 4), 'goLive')[0]?.generation, 3)
})
