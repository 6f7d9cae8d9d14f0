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
  marked,
  markedFrame,
  only,
  released,
  welcome,
} from '../../test/support/replication.ts'
import type { BootArtefacts } from '../log/boot-artefacts.ts'
import type { PrimaryEffect } from './effects.ts'
import type { Message } from './messages.ts'
import { defaultReplicationPolicy } from './policy.ts'
import { Primary } from './primary.ts'
import type { PrimaryOptions } from './primary-options.ts'
import { fullReach } from './reach.ts'

function start(options: Partial<PrimaryOptions> = {}): Primary {
  const primary = new Primary({ identity, replica: 'a', generation: 1, runId: 7n, state: 'starting', ...options })
  primary.start(0)
  return primary
}

/** A primary in generation 2 with the named backups, each on the channel of its position, at time 0. */
function protectedBy(backups: readonly string[], options: Partial<PrimaryOptions> = {}): Primary {
  const primary = start({ policy: { ...defaultReplicationPolicy, backups: backups.length }, ...options })
  backups.forEach((name, channel) => {
    primary.onChannelOpen(channel, 0)
    primary.onMessage(channel, helloFrom(name), 0)
  })
  primary.onArbiterAnswer({ result: 'granted', generation: 2 }, 0)
  assert.equal(primary.state, 'protected')
  return primary
}

test('Output Rule: no output is released before its marker is acknowledged', () => {
  const primary = protectedBy(['b'])
  assert.deepEqual(released(primary.onBatch(batchAt(0, 3), 1)), [])
  assert.deepEqual(released(primary.onOutputs([markedFrame(0, 1), markedFrame(1, 2)])), [])
  assert.deepEqual(released(primary.onMessage(0, ack(1), 2)), [], 'the entry before the marker is not enough')
  assert.deepEqual(released(primary.onMessage(0, ack(2), 3)), [0])
  const effects = primary.onMessage(0, ack(3), 4)
  assert.deepEqual(only(effects, 'release'), [
    { kind: 'release', outputs: [markedFrame(1, 2)], afterAcknowledged: end(3) },
  ])
})

test('Output Rule: an acknowledgement that came before the output is as good as one after', () => {
  const primary = protectedBy(['b'])
  primary.onBatch(batchAt(0, 3), 1)
  primary.onMessage(0, ack(3), 2)
  assert.deepEqual(released(primary.onOutputs([markedFrame(0, 2), markedFrame(1, 3)])), [0])
})

test('Output Rule: every eligible backup must acknowledge, nothing is k-of-n', () => {
  const primary = protectedBy(['b', 'c', 'd'])
  primary.onBatch(batchAt(0, 2), 1)
  primary.onOutputs([markedFrame(0, 1)])
  assert.deepEqual(released(primary.onMessage(0, ack(2), 2)), [])
  assert.deepEqual(released(primary.onMessage(2, ack(2), 2)), [])
  assert.deepEqual(released(primary.onMessage(1, ack(2), 2)), [0])
})

test('only the output waits: disk reads and entropy requests do not, writes, flushes, frames, console and power do', () => {
  const primary = protectedBy(['b'])
  const disk = { kind: 'disk', disk: 0, sector: 0n, lengthBytes: 512 } as const
  const bytes = new Uint8Array(1)
  const effects = primary.onOutputs([
    marked({ ...disk, sequence: 0n, operation: 'write', data: bytes }, 0),
    marked({ ...disk, sequence: 1n, operation: 'read' }, 1),
    marked({ kind: 'entropyRequest', sequence: 2n, lengthBytes: 8 }, 2),
    marked({ ...disk, sequence: 3n, operation: 'flush' }, 3),
    marked({ kind: 'console', sequence: 4n, bytes }, 4),
    marked({ kind: 'power', sequence: 5n, action: 'off', failed: false }, 5),
    marked({ ...disk, sequence: 6n, operation: 'discard' }, 6),
  ])
  assert.deepEqual(released(effects), [1, 2])
  primary.onBatch(batchAt(0, 7), 1)
  assert.deepEqual(released(primary.onMessage(0, ack(7), 1)), [0, 3, 4, 5, 6])
  assert.ok(!kindsOf(effects).includes('pauseHart'), 'the machine runs on')
})

test('non-shared disks: what goes to a disk of which each replica has its own copy does not wait, what goes to others does', () => {
  const own = { sectors: 8n, readOnly: false, serial: 'own', isOwn: true }
  const shared = { sectors: 8n, readOnly: false, serial: 'shared' }
  const artefacts: BootArtefacts = {
    config: { ramBytes: 1 << 20, disks: [own, shared] },
    image: { kind: 'elf', file: new Uint8Array(1) },
    protection: { backups: 1, heartbeatMs: 1, timeoutMs: 1, digestEveryMs: 1, lagMs: 1, backupReads: false },
    discipline: { kind: 'exact' },
  }
  const primary = protectedBy(['b'], { artefacts })
  const request = { kind: 'disk', sector: 0n, lengthBytes: 512, operation: 'write', data: new Uint8Array(512) } as const
  const effects = primary.onOutputs([
    marked({ ...request, disk: 0, sequence: 0n }, 0),
    marked({ ...request, disk: 1, sequence: 1n }, 1),
    marked({ ...request, disk: 0, sequence: 2n, operation: 'flush' }, 2),
  ])
  assert.deepEqual(released(effects), [0, 2])
})

test('the primary flushes at once: a batch is sent in the moment it is written', () => {
  const primary = protectedBy(['b', 'c'])
  const batch = batchAt(0, 1)
  const sent = only(primary.onBatch(batch, 1), 'send').filter(({ message }) => message.kind === 'entries')
  assert.deepEqual(sent, [
    { kind: 'send', channel: 0, message: entries(batch) },
    { kind: 'send', channel: 1, message: entries(batch) },
  ])
})

test('a starting primary does not run its hart before the arbiter lists its backup', () => {
  const primary = start()
  assert.deepEqual(primary.onChannelOpen(7, 0), [])
  const joining = primary.onMessage(7, helloFrom('b'), 0)
  assert.deepEqual(kindsOf(joining), ['send', 'openGeneration'])
  assert.deepEqual(only(joining, 'openGeneration'), [{ kind: 'openGeneration', generation: 1, eligible: ['b'] }])
  const granted = primary.onArbiterAnswer({ result: 'granted', generation: 2 }, 1)
  assert.deepEqual(kindsOf(granted), ['enterGeneration', 'send', 'resumeHart'])
  assert.deepEqual(only(granted, 'send')[0]?.message, welcome(2, [{ replica: 'b', address: '' }]))
})

test('outputs are held for a backup BEFORE the arbiter is asked to list it, also by a primary that was alone', () => {
  const primary = start({ state: 'alone', nextIndex: end(10) })
  assert.deepEqual(released(primary.onOutputs([markedFrame(0, 9)])), [0], 'alone: nobody to wait for')
  primary.onChannelOpen(0, 0)
  primary.onMessage(0, helloFrom('b', 10), 0)
  assert.equal(primary.state, 'asking')
  primary.onBatch(batchAt(10, 1), 1)
  assert.deepEqual(released(primary.onOutputs([markedFrame(1, 10)])), [])
  primary.onArbiterAnswer({ result: 'granted', generation: 2 }, 2)
  assert.equal(primary.state, 'protected')
  assert.deepEqual(released(primary.onMessage(0, ack(11, 10), 3)), [1])
})

test('backup lost: its primary stops waiting only AFTER the arbiter dropped it', () => {
  const primary = protectedBy(['b'])
  primary.onBatch(batchAt(0, 2), 1)
  primary.onOutputs([markedFrame(0, 1)])
  const lost = primary.onChannelClosed(0, 2)
  assert.deepEqual(kindsOf(lost), ['closeChannel', 'backupLost', 'openGeneration'])
  assert.deepEqual(only(lost, 'openGeneration'), [{ kind: 'openGeneration', generation: 2, eligible: [] }])
  assert.equal(primary.state, 'asking')
  primary.onBatch(batchAt(2, 1), 3)
  assert.deepEqual(released(primary.onOutputs([markedFrame(1, 2)])), [])
  assert.deepEqual(released(primary.onMessage(0, ack(3), 4)), [], 'a late acknowledgement does not count')
  const granted = primary.onArbiterAnswer({ result: 'granted', generation: 3 }, 5)
  assert.deepEqual(kindsOf(granted), ['enterGeneration', 'release'])
  assert.deepEqual(released(granted), [0, 1])
  assert.equal(primary.state, 'alone')
  assert.deepEqual(released(primary.onOutputs([markedFrame(2, 3)])), [2])
})

test('the loser halts itself, and releases nothing more', () => {
  const primary = protectedBy(['b'])
  primary.onBatch(batchAt(0, 1), 1)
  primary.onOutputs([markedFrame(0, 0)])
  primary.onChannelClosed(0, 2)
  const refused = primary.onArbiterAnswer({ result: 'refused', detail: 'b holds generation 3' }, 3)
  assert.deepEqual(refused, [{ kind: 'halt', reason: 'lostArbitration', detail: 'b holds generation 3' }])
  assert.deepEqual(primary.onOutputs([markedFrame(1, 0)]), [])
  assert.deepEqual(primary.onBatch(batchAt(1, 1), 4), [])
  assert.deepEqual(primary.onTick(9999), [])
  assert.deepEqual(primary.onArbiterAnswer({ result: 'granted', generation: 3 }, 5), [])
})

test('arbiter unreachable: wait and ask the same again, never guess', () => {
  const primary = protectedBy(['b'])
  primary.onBatch(batchAt(0, 1), 1)
  primary.onOutputs([markedFrame(0, 0)])
  primary.onChannelClosed(0, 2)
  for (let round = 0; round < 5; round++) {
    const now = 1000 * (round + 1)
    assert.deepEqual(primary.onArbiterAnswer({ result: 'unreachable', detail: 'no route' }, now), [])
    assert.deepEqual(primary.onTick(now + 1), [])
    const again = primary.onTick(now + defaultReplicationPolicy.arbiterRetryMs)
    assert.deepEqual(again, [{ kind: 'openGeneration', generation: 2, eligible: [] }])
    assert.equal(primary.state, 'asking')
    assert.deepEqual(primary.onTick(now + 999), [], 'one open question')
  }
})

test('once it has asked in generation g it never resumes its old role in g: the backup that comes back is ignored', () => {
  const primary = protectedBy(['b'])
  primary.onBatch(batchAt(0, 1), 1)
  primary.onOutputs([markedFrame(0, 0)])
  const { timeoutMs } = defaultReplicationPolicy.detector
  for (let now = 50; now <= timeoutMs; now += 50) primary.onTick(now)
  assert.equal(primary.state, 'asking')
  assert.deepEqual(primary.onMessage(0, ack(1), timeoutMs + 1), [])
  assert.equal(primary.state, 'asking')
})

test('failure detection: a silent backup is lost after the time-out, not before', () => {
  const primary = protectedBy(['b'])
  const { timeoutMs } = defaultReplicationPolicy.detector
  for (let now = 50; now < timeoutMs; now += 50) assert.deepEqual(only(primary.onTick(now), 'backupLost'), [])
  const [lost] = only(primary.onTick(timeoutMs), 'backupLost')
  assert.equal(lost?.cause, 'silent')
})

test('failure detection watches acknowledgements too: a backup that is there but does not acknowledge is lost', () => {
  const primary = protectedBy(['b'])
  primary.onBatch(batchAt(0, 1), 0)
  const { timeoutMs } = defaultReplicationPolicy.detector
  const lost: string[] = []
  for (let now = 50; now <= timeoutMs + 500; now += 50) {
    primary.onMessage(0, ack(0), now)
    lost.push(...only(primary.onTick(now), 'backupLost').map(({ cause }) => `${cause} at ${now}`))
  }
  assert.deepEqual(lost, [`stalled at ${timeoutMs}`])
})

test('heartbeats go out when nothing else does, and say how far the log is', () => {
  const primary = protectedBy(['b'])
  primary.onBatch(batchAt(0, 4), 10)
  const dueMs = 10 + defaultReplicationPolicy.detector.heartbeatMs
  assert.deepEqual(kindsOf(primary.onTick(dueMs - 1)), [])
  assert.equal(primary.dueMs, dueMs)
  assert.deepEqual(primary.onTick(dueMs), [
    { kind: 'send', channel: 0, message: { kind: 'heartbeat', logEnd: end(4), isRunning: true, reach: fullReach } },
  ])
})

test('a diverged backup is reported and takes the same path as a lost one', () => {
  const primary = protectedBy(['b'])
  primary.onBatch(batchAt(0, 2), 1)
  primary.onOutputs([markedFrame(0, 1)])
  const divergence = {
    kind: 'differentDigest',
    agreedEnd: end(0),
    index: end(1),
    count: 5n as never,
    expected: 'x',
    found: 'y',
  } as const
  const effects = primary.onMessage(0, { kind: 'diverged', divergence }, 2)
  assert.deepEqual(kindsOf(effects), ['reportDivergence', 'closeChannel', 'backupLost', 'openGeneration'])
  assert.deepEqual(released(effects), [])
  assert.deepEqual(released(primary.onArbiterAnswer({ result: 'granted', generation: 3 }, 3)), [0])
})

test('one of two backups lost: the other stays, and outputs wait for both until the record names one', () => {
  const primary = protectedBy(['b', 'c'])
  primary.onBatch(batchAt(0, 1), 1)
  primary.onOutputs([markedFrame(0, 0)])
  const lost = primary.onChannelClosed(0, 2)
  assert.deepEqual(only(lost, 'openGeneration'), [{ kind: 'openGeneration', generation: 2, eligible: ['c'] }])
  assert.deepEqual(released(primary.onMessage(1, ack(1), 3)), [])
  const granted = primary.onArbiterAnswer({ result: 'granted', generation: 3 }, 4)
  assert.deepEqual(released(granted), [0])
  assert.deepEqual(
    only(granted, 'send').map(({ channel, message }) => [channel, message]),
    [[1, welcome(3, [{ replica: 'c', address: '' }])]],
  )
  assert.equal(primary.state, 'protected')
})

test('a backup lost while the arbiter is being asked takes a second question, after the first is answered', () => {
  const primary = protectedBy(['b', 'c'])
  primary.onBatch(batchAt(0, 1), 1)
  primary.onOutputs([markedFrame(0, 0)])
  primary.onChannelClosed(0, 2)
  assert.deepEqual(only(primary.onChannelClosed(1, 3), 'openGeneration'), [])
  const granted = primary.onArbiterAnswer({ result: 'granted', generation: 3 }, 4)
  assert.deepEqual(only(granted, 'openGeneration'), [{ kind: 'openGeneration', generation: 3, eligible: [] }])
  assert.deepEqual(released(granted), [], 'c is still on record')
  assert.deepEqual(released(primary.onArbiterAnswer({ result: 'granted', generation: 4 }, 5)), [0])
  assert.equal(primary.state, 'alone')
})

test('inbound frames are covered once their entries are acknowledged, at once when nobody is to be waited for', () => {
  const primary = protectedBy(['b'])
  const covered = (effects: readonly PrimaryEffect[]) => only(effects, 'covered').map(({ frameId }) => frameId)
  assert.deepEqual(covered(primary.onBatch(batchAt(0, 2, 41n), 1)), [])
  assert.deepEqual(covered(primary.onBatch(batchAt(2, 2, 42n), 1)), [])
  assert.deepEqual(covered(primary.onBatch(batchAt(4, 1), 1)), [])
  assert.deepEqual(covered(primary.onMessage(0, ack(3), 2)), [41n])
  assert.deepEqual(covered(primary.onMessage(0, ack(5), 2)), [42n])
  const alone = start({ state: 'alone' })
  assert.deepEqual(covered(alone.onBatch(batchAt(0, 1, 7n), 1)), [7n])
})

test('a full gate stops the hart, and half an empty one starts it again', () => {
  const policy = { ...defaultReplicationPolicy, gate: { maxBytes: 100, maxOutputs: 10 } }
  const primary = protectedBy(['b'], { policy })
  primary.onBatch(batchAt(0, 4), 1)
  assert.deepEqual(kindsOf(primary.onOutputs([markedFrame(0, 0, 60)])), [])
  assert.deepEqual(primary.onOutputs([markedFrame(1, 1, 60)]), [{ kind: 'pauseHart', reason: 'gateFull' }])
  assert.deepEqual(kindsOf(primary.onMessage(0, ack(4), 2)), ['release'], 'released, but nobody confirmed them')
  assert.deepEqual(kindsOf(primary.onConfirmed('frame', 0n)), [])
  assert.deepEqual(kindsOf(primary.onConfirmed('frame', 1n)), ['resumeHart'])
})

test("the primary's log buffer full: the primary stops; acknowledged: it goes on", () => {
  const policy = { ...defaultReplicationPolicy, maxUnreceivedBytes: 1000 }
  const primary = protectedBy(['b'], { policy })
  primary.onBatch(batchAt(0, 1, undefined, 600), 1)
  assert.deepEqual(only(primary.onBatch(batchAt(1, 1, undefined, 600), 1), 'pauseHart'), [
    { kind: 'pauseHart', reason: 'logFull' },
  ])
  assert.deepEqual(kindsOf(primary.onMessage(0, ack(2), 2)), ['resumeHart'])
})

test("the backup's log buffer full of entries to replay stops the primary too", () => {
  const policy = { ...defaultReplicationPolicy, maxUnreplayedBytes: 1000 }
  const primary = protectedBy(['b'], { policy })
  primary.onBatch(batchAt(0, 1, undefined, 1200), 1)
  assert.deepEqual(kindsOf(primary.onMessage(0, ack(1, 0), 2)), [])
  assert.deepEqual(kindsOf(primary.onMessage(0, ack(1, 1), 2)), ['resumeHart'])
})

test('lag control: past 30 ms of lag the CPU share is cut a few percent at a time, and given back after', () => {
  const primary = protectedBy(['b'])
  const percents = (effects: readonly PrimaryEffect[]) => only(effects, 'setCpuPercent').map(({ percent }) => percent)
  assert.deepEqual(percents(primary.onMessage(0, ack(0, 0, 31), 100)), [])
  assert.deepEqual(percents(primary.onMessage(0, ack(0, 0, 31), 200)), [95])
  assert.deepEqual(percents(primary.onMessage(0, ack(0, 0, 31), 250)), [], 'one step has time to show its effect')
  assert.deepEqual(percents(primary.onMessage(0, ack(0, 0, 90), 300)), [90])
  assert.deepEqual(percents(primary.onMessage(0, ack(0, 0, 20), 400)), [])
  assert.deepEqual(percents(primary.onMessage(0, ack(0, 0, 5), 500)), [95])
  assert.deepEqual(percents(primary.onChannelClosed(0, 510)), [100], 'nobody is behind any more')
})

test('confirmations ride in front of the next entries or with the next tick, cumulative per kind', () => {
  const primary = protectedBy(['b'])
  primary.onBatch(batchAt(0, 3), 1)
  const consoleOutput = marked({ kind: 'console', sequence: 1n, bytes: new Uint8Array(1) }, 1)
  primary.onOutputs([markedFrame(0, 0), consoleOutput, markedFrame(2, 2)])
  primary.onMessage(0, ack(3), 1)
  primary.onConfirmed('frame', 0n)
  const sent = only(primary.onBatch(batchAt(3, 1), 2), 'send').map(({ message }) => message)
  assert.deepEqual(sent[0], { kind: 'confirmed', ends: { frame: 1n, console: 0n } })
  assert.equal(sent[1]?.kind, 'entries')
  primary.onConfirmed('console', 1n)
  primary.onConfirmed('frame', 99n)
  const ticked = only(primary.onTick(3), 'send').map(({ message }) => message)
  assert.deepEqual(ticked, [{ kind: 'confirmed', ends: { frame: 3n, console: 2n } }], 'never beyond what was released')
})

test('goodbye: a clean end is told to the backups, and is no failover', () => {
  const primary = protectedBy(['b'])
  const effects = primary.onShutdown('powered off', 5)
  assert.deepEqual(effects[0], { kind: 'send', channel: 0, message: { kind: 'goodbye', reason: 'powered off' } })
  assert.deepEqual(effects.at(-1), { kind: 'halt', reason: 'shutdown', detail: 'powered off' })
  assert.deepEqual(primary.onChannelClosed(0, 6), [])
})

test('unprotect: the backup is told to end only AFTER the arbiter dropped it; until then outputs wait for it, and its word counts', () => {
  const primary = protectedBy(['b'])
  assert.deepEqual(primary.unprotect(), [{ kind: 'openGeneration', generation: 2, eligible: [] }])
  primary.onBatch(batchAt(0, 2), 1)
  assert.deepEqual(released(primary.onOutputs([markedFrame(0, 0), markedFrame(1, 1)])), [])
  assert.deepEqual(released(primary.onMessage(0, ack(1), 2)), [0], 'it still acknowledges')
  assert.deepEqual(primary.onArbiterAnswer({ result: 'unreachable', detail: 'no answer' }, 3), [])
  assert.equal(primary.state, 'asking')
  assert.deepEqual(kindsOf(primary.onTick(3 + defaultReplicationPolicy.arbiterRetryMs)).at(-1), 'openGeneration')
  const effects = primary.onArbiterAnswer({ result: 'granted', generation: 3 }, 300)
  assert.deepEqual(kindsOf(effects), ['enterGeneration', 'send', 'closeChannel', 'release'])
  assert.equal(only(effects, 'send')[0]?.message.kind, 'goodbye')
  assert.deepEqual(released(effects), [1])
  assert.equal(primary.state, 'alone')
  assert.deepEqual(primary.unprotect(), [], 'it is unprotected already')
})

test('unprotect: a backup that is lost before the arbiter answered is dropped all the same', () => {
  const primary = protectedBy(['b'])
  primary.unprotect()
  primary.onChannelClosed(0, 1)
  const effects = primary.onArbiterAnswer({ result: 'granted', generation: 3 }, 2)
  assert.deepEqual(kindsOf(effects), ['enterGeneration'])
  assert.equal(primary.state, 'alone')
})

test('a hello is refused, with the reason, unless everything agrees', () => {
  const refusal = (primary: Primary, message: Message) => {
    primary.onChannelOpen(9, 0)
    const effects = primary.onMessage(9, message, 0)
    const [sent] = only(effects, 'send')
    if (sent?.message.kind !== 'refuse') return undefined
    assert.deepEqual(kindsOf(effects), ['send', 'closeChannel'])
    return sent.message.reason
  }
  const hello = helloFrom('b') as Extract<Message, { kind: 'hello' }>
  assert.match(refusal(start(), { ...hello, identity: { ...identity, configDigest: 9n } })!, /machine config/)
  const epochs = { kind: 'epoch', protocol: 'original', instructions: 8000 } as const
  assert.equal(
    refusal(start(), { ...hello, discipline: epochs }),
    'other discipline: epoch discipline, original protocol, epochs of 8000 instructions; here exact discipline; write the same in both VM files',
  )
  for (const other of [{ protocol: 'revised' }, { instructions: 4000 }] as const) {
    const primary = start({ policy: { ...defaultReplicationPolicy, discipline: { ...epochs, ...other } } })
    assert.match(refusal(primary, { ...hello, discipline: epochs })!, /^other discipline: .*; here .*(revised|4000)/)
  }
  assert.match(refusal(start(), { ...hello, role: 'primary' })!, /another primary/)
  assert.match(refusal(start(), { ...hello, replica: 'a' })!, /"a" is here already/)
  assert.match(refusal(start(), helloFrom('b', 4))!, /log is at entry 0, the backup at 4/)
  assert.match(refusal(protectedBy(['b']), helloFrom('b'))!, /"b" is here already/)
  assert.match(refusal(protectedBy(['b']), helloFrom('c'))!, /protected already/)
  assert.equal(refusal(start(), hello), undefined)
})

test('a channel that says something else than hello, or nothing, is closed, and nobody is lost by it', () => {
  const primary = protectedBy(['b'])
  primary.onChannelOpen(5, 0)
  assert.deepEqual(kindsOf(primary.onMessage(5, ack(0), 1)), ['closeChannel'])
  primary.onChannelOpen(6, 0)
  let now = 0
  const closed: number[] = []
  while (now < 6000) {
    now += 50
    primary.onMessage(0, ack(0), now)
    closed.push(...only(primary.onTick(now), 'closeChannel').map(({ channel }) => channel))
  }
  assert.deepEqual(closed, [6])
  assert.equal(primary.state, 'protected')
})

test('an impossible acknowledgement is a protocol violation: the backup is dropped, nothing is released on its word', () => {
  for (const wrong of [ack(9), ack(1, 2), ack(0)]) {
    const primary = protectedBy(['b'])
    primary.onBatch(batchAt(0, 2), 1)
    primary.onMessage(0, ack(1), 1)
    primary.onOutputs([markedFrame(0, 1)])
    const effects = primary.onMessage(0, wrong, 2)
    assert.deepEqual(only(effects, 'backupLost')[0]?.cause, 'protocol')
    assert.deepEqual(released(effects), [])
  }
})

test('an unprotected machine is the same primary with nobody to wait for', () => {
  const primary = new Primary({ identity, replica: 'a', generation: 1, runId: 7n, state: 'alone' })
  assert.deepEqual(primary.start(0), [{ kind: 'resumeHart' }])
  primary.onBatch(batchAt(0, 1), 1)
  assert.deepEqual(released(primary.onOutputs([markedFrame(0, 0)])), [0])
  assert.deepEqual(primary.onTick(10_000), [])
  const waiting = start()
  assert.deepEqual(waiting.runAlone(), [{ kind: 'resumeHart' }])
  assert.equal(waiting.state, 'alone')
})

test('a backup without a machine is given it before its hello, and nobody is waited for meanwhile', () => {
  const artefacts: BootArtefacts = {
    config: { ramBytes: 64 << 20, disks: [] },
    image: { kind: 'elf', file: Uint8Array.of(1, 2, 3) },
    protection: { backups: 1, heartbeatMs: 50, timeoutMs: 2000, digestEveryMs: 1000, lagMs: 30, backupReads: false },
    discipline: { kind: 'exact' },
  }
  const fetch: Message = { kind: 'fetch', machine: 'shop', instructionTableHash: 1n, offset: 0 }
  const answers = (primary: Primary, message: Message) => {
    primary.onChannelOpen(9, 0)
    return only(primary.onMessage(9, message, 4000), 'send').map(({ message: answer }) => answer)
  }
  const primary = start({ artefacts })
  assert.deepEqual(
    answers(primary, fetch).map(({ kind }) => kind),
    ['artefacts'],
  )
  assert.equal(primary.status.backups.length, 0, 'nobody is waited for yet')
  assert.deepEqual(primary.onTick(5000), [], 'who asks is not silent')
  assert.deepEqual(kindsOf(primary.onMessage(9, helloFrom('b'), 5001)), ['send', 'openGeneration'])
  assert.match((answers(start({ artefacts }), { ...fetch, machine: 'bank' })[0] as { reason: string }).reason, /bank/)
  assert.match((answers(start(), fetch)[0] as { reason: string }).reason, /name a VM file/)
})

test("the primary's hello names the run, so that both replicas number outputs for the switch alike", () => {
  const primary = start()
  primary.onChannelOpen(1, 0)
  const [accept] = only(primary.onMessage(1, helloFrom('b'), 0), 'send')
  assert.equal((accept!.message as Extract<Message, { kind: 'hello' }>).runId, 7n)
})
