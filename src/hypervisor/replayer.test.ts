import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type ToyHabits, ToyMachine, toyHabits } from '../../test/support/toy-machine.ts'
import { Prng } from '../base/prng.ts'
import { BatchBuilder, decodeBatch, type LogBatch } from '../log/batch.ts'
import type { LogEntry, MarkedOutput } from '../log/entry.ts'
import { logIndex } from '../log/entry.ts'
import { instructionCount } from '../machine/types.ts'
import { Recorder } from './recorder.ts'
import { Replayer } from './replayer.ts'

/** A recorder in a small random world: frames, clock entries, disk answers, console bytes, entropy, digests. */
function record(seed: number, rounds = 60, habits: ToyHabits = toyHabits) {
  const prng = new Prng(seed)
  const recorder = new Recorder(new ToyMachine(habits))
  const outputs: MarkedOutput[] = []
  const batches: LogBatch[] = []
  let frameId = 0n
  outputs.push(...recorder.apply({ kind: 'boot', rngSeed: prng.bytes(64), wallClockNs: 1n }))
  for (let round = 0; round < rounds; round++) {
    const until = recorder.machine.count + BigInt(prng.below(40))
    for (;;) {
      const ran = recorder.run(instructionCount(until))
      outputs.push(...ran.outputs)
      for (const { output } of ran.outputs) {
        if (output.kind === 'entropyRequest') {
          outputs.push(...recorder.apply({ kind: 'entropy', bytes: prng.bytes(output.lengthBytes) }))
        }
      }
      if (ran.stop.kind !== 'outputs') break
    }
    const request = recorder.machine.inFlightDiskRequests()[0]
    if (request && prng.chance(0.5)) {
      const completion = { kind: 'diskCompletion', sequence: request.sequence, status: 'ok' } as const
      outputs.push(
        ...recorder.apply(request.operation === 'read' ? { ...completion, data: prng.bytes(16) } : completion),
      )
    }
    if (prng.chance(0.5)) outputs.push(...recorder.apply({ kind: 'frame', frameId: frameId++, bytes: prng.bytes(4) }))
    if (prng.chance(0.2)) {
      const ticks = recorder.machine.ticks + BigInt(prng.below(1000))
      outputs.push(...recorder.apply({ kind: 'clock', ticks, ratePer2p32: 1n << 31n, capTicks: 50n }))
    }
    if (prng.chance(0.1)) recorder.entryDigest()
    if (prng.chance(0.3)) batches.push(...recorder.takeBatches())
  }
  recorder.entryDigest()
  batches.push(...recorder.takeBatches())
  return { recorder, outputs, batches }
}

const entriesOf = (batches: readonly LogBatch[]) => batches.flatMap((batch) => decodeBatch(batch.bytes))

function batchOf(entries: readonly Pick<LogEntry, 'count' | 'body'>[], first = 0n): LogBatch {
  const builder = new BatchBuilder(logIndex(first))
  for (const { count, body } of entries) builder.append(count, body)
  return builder.take()!.batch
}

function replayAll(batches: readonly LogBatch[], step = 1_000_000n, machine = new ToyMachine()) {
  const replayer = new Replayer(machine)
  const outputs: MarkedOutput[] = []
  for (const batch of batches) replayer.append(batch)
  for (;;) {
    const ran = replayer.run(step)
    outputs.push(...ran.outputs)
    if (ran.state.kind !== 'progress') return { replayer, outputs, state: ran.state }
  }
}

test('replaying a log makes the same machine and the same outputs, however the replay is sliced', () => {
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 1, max: 50 }), (seed, step) => {
      const { recorder, outputs, batches } = record(seed)
      const replayed = replayAll(batches, BigInt(step))
      assert.equal(replayed.state.kind, 'needsEntries')
      assert.equal(replayed.replayer.machine.digest(), recorder.machine.digest())
      assert.deepEqual(replayed.outputs, outputs)
      assert.equal(replayed.replayer.replayedEnd, recorder.nextIndex)
    }),
    { numRuns: 60 },
  )
})

test('the toy world is rich enough: frames, disk, console, entropy and several outputs of one instruction occur', () => {
  const { batches, outputs } = record(1, 300)
  const kinds = new Set(outputs.map(({ output }) => output.kind))
  assert.deepEqual([...kinds].sort(), ['console', 'disk', 'entropyRequest', 'frame'])
  const markers = entriesOf(batches).filter(({ body }) => body.kind === 'marker')
  assert.ok(markers.some((marker, position) => marker.count === markers[position + 1]?.count))
})

test('a backup never runs past its log: it stands at the count of the last entry and waits', () => {
  fc.assert(
    fc.property(fc.nat(), (seed) => {
      const { batches } = record(seed)
      const replayer = new Replayer(new ToyMachine())
      for (const batch of batches) {
        replayer.append(batch)
        const lastCount = decodeBatch(batch.bytes).at(-1)!.count
        for (;;) {
          const { state } = replayer.run(3n)
          assert.ok(replayer.machine.count <= lastCount)
          if (state.kind === 'needsEntries') break
        }
        assert.equal(replayer.machine.count, lastCount)
        assert.equal(replayer.run(1_000_000n).state.kind, 'needsEntries')
        assert.equal(replayer.machine.count, lastCount)
      }
    }),
    { numRuns: 30 },
  )
})

test('a dropped input entry is noticed as a divergence', () => {
  const noticed = mutateEach((entries, position) => entries.toSpliced(position, 1))
  assert.ok(noticed > 20, `${noticed} mutations tried`)
})

test('an input shifted by one instruction is noticed as a divergence', () => {
  const noticed = mutateEach((entries, position) => {
    const entry = entries[position]!
    const next = entries[position + 1]
    // One instruction later, if no other entry stands in between.
    if (next === undefined || next.count <= entry.count) return undefined
    return entries.with(position, { ...entry, count: instructionCount(entry.count + 1n) })
  })
  assert.ok(noticed > 20, `${noticed} mutations tried`)
})

/** Replays a log with each of its frames mutated in turn. Every mutation must be noticed before the log's end. */
function mutateEach(mutate: (entries: LogEntry[], position: number) => LogEntry[] | undefined): number {
  const entries = entriesOf(record(4, 120).batches)
  let tried = 0
  for (const [position, { body }] of entries.entries()) {
    if (body.kind !== 'frame') continue
    const mutated = mutate(entries, position)
    if (mutated === undefined) continue
    tried++
    const { state } = replayAll([batchOf(mutated)])
    assert.equal(state.kind, 'diverged', `mutation of entry ${position} went unnoticed`)
    if (state.kind === 'diverged') assert.ok(state.divergence.index >= position)
  }
  return tried
}

test('a divergence names the interval in which the machines began to differ', () => {
  const { batches } = record(2)
  const replayer = new Replayer(new ToyMachine())
  const half = batches.length >> 1
  for (const batch of batches.slice(0, half)) replayer.append(batch)
  assert.equal(replayer.run(1_000_000n).state.kind, 'needsEntries')
  const before = replayer.replayedEnd
  ;(replayer.machine as ToyMachine).corrupt()
  for (const batch of batches.slice(half)) replayer.append(batch)
  const { state } = replayer.run(1_000_000n)
  assert.ok(state.kind === 'diverged')
  assert.ok(state.divergence.agreedEnd <= before && state.divergence.index >= before)
  assert.deepEqual(replayer.run(1_000_000n).state, state, 'a diverged replayer is finished for good')
  assert.throws(() => replayer.goLive(), /must not go live/)
})

test('markers are compared in kind, number, content and place', () => {
  const { batches } = record(3)
  const entries = entriesOf(batches)
  const position = entries.findIndex(({ body }) => body.kind === 'marker' && body.outputKind === 'frame')
  const entry = entries[position]!
  assert.ok(entry.body.kind === 'marker')
  const verdict = (list: LogEntry[]) => {
    const { state } = replayAll([batchOf(list)])
    return state.kind === 'diverged' ? state.divergence.kind : state.kind
  }
  const withBody = (changes: object) =>
    entries.with(position, { ...entry, body: { ...entry.body, ...changes } as never })
  assert.equal(verdict(entries), 'needsEntries')
  assert.equal(verdict(withBody({ checksum: 0n })), 'differentOutput')
  assert.equal(verdict(withBody({ sequence: 999n })), 'differentOutput')
  assert.equal(verdict(withBody({ outputKind: 'console' })), 'differentOutput')
  assert.equal(verdict(entries.toSpliced(position, 1).slice(0, position + 1)), 'unexpectedOutput')
  assert.equal(
    verdict(entries.with(position, { ...entry, count: instructionCount(entry.count - 1n) })),
    'missingOutput',
  )
  const late = entries.slice(0, position).concat({ ...entry, count: instructionCount(entry.count + 1n) })
  assert.equal(verdict(late), 'unexpectedOutput')
})

test('a digest that differs is a divergence', () => {
  const { batches } = record(5)
  const entries = entriesOf(batches)
  const last = entries.at(-1)!
  const { state } = replayAll([batchOf(entries.with(-1, { ...last, body: { kind: 'digest', digest: 1n } }))])
  assert.ok(state.kind === 'diverged')
  assert.equal(state.divergence.kind, 'differentDigest')
  assert.equal(state.divergence.index, last.index)
})

test('a hart that waits where the log says it ran on is a divergence', () => {
  const { batches } = record(6, 60, { ...toyHabits, waitEvery: 0 })
  const { state } = replayAll(batches, 1_000_000n, new ToyMachine({ ...toyHabits, waitEvery: 10 }))
  assert.ok(state.kind === 'diverged')
  assert.equal(state.divergence.kind, 'stopped')
})

test('a gap in the log and a count that goes back are refused', () => {
  const power = { kind: 'powerButton' } as const
  const replayer = new Replayer(new ToyMachine())
  assert.throws(() => replayer.append(batchOf([{ count: instructionCount(1n), body: power }], 1n)), /log-gap|due/)
  replayer.append(batchOf([{ count: instructionCount(9n), body: power }]))
  assert.throws(() => replayer.append(batchOf([{ count: instructionCount(8n), body: power }], 1n)), /lies before/)
})

test('go-live continues the log at the next index, with the machine the primary would have', () => {
  const { batches, recorder } = record(7)
  const { replayer } = replayAll(batches)
  const live = replayer.goLive()
  assert.equal(live.recorder.nextIndex, recorder.nextIndex)
  assert.deepEqual(live.outputs, [])
  assert.deepEqual(live.reissue, recorder.machine.inFlightDiskRequests())
  const until = instructionCount(recorder.machine.count + 500n)
  const frame = { kind: 'frame', frameId: 99n, bytes: Uint8Array.of(1) } as const
  assert.deepEqual(live.recorder.apply(frame), recorder.apply(frame))
  assert.deepEqual(live.recorder.run(until), recorder.run(until))
  assert.deepEqual(live.recorder.takeBatches(), recorder.takeBatches())
  assert.throws(() => replayer.run(1n), /replays nothing/)
})

test('everything appended is replayed before going live', () => {
  const { batches } = record(8)
  const replayer = new Replayer(new ToyMachine())
  for (const batch of batches) replayer.append(batch)
  replayer.run(5n)
  assert.throws(() => replayer.goLive(), /replayed before going live/)
})

test('outputs whose markers were lost with the primary get new markers, and a disk request among them is issued once', () => {
  let lostDiskRequests = 0
  let lostFrames = 0
  for (let seed = 0; seed < 20; seed++) {
    const entries = entriesOf(record(seed).batches)
    for (let length = 2; length < entries.length; length++) {
      // Cut between the markers of one instruction's outputs: the first arrived, the others did not.
      if (entries[length]!.body.kind !== 'marker' || entries[length]!.count !== entries[length - 1]!.count) continue
      const { replayer, outputs } = replayAll([batchOf(entries.slice(0, length))])
      const live = replayer.goLive()
      for (const { output, markerIndex } of live.outputs) {
        const entry = entries[Number(markerIndex)]!
        assert.ok(entry.body.kind === 'marker' && entry.body.sequence === output.sequence)
        if (output.kind === 'disk') lostDiskRequests++
        if (output.kind === 'frame') lostFrames++
      }
      const issued = [...outputs, ...live.outputs].map(({ output }) => output.sequence)
      assert.equal(new Set(issued).size, issued.length)
      for (const request of live.reissue) {
        assert.ok(!live.outputs.some(({ output }) => output.sequence === request.output.sequence))
      }
      assert.deepEqual(
        live.recorder.machine.inFlightDiskRequests().map(({ sequence }) => sequence),
        [...live.reissue, ...live.outputs.filter(({ output }) => output.kind === 'disk')].map(
          ({ output }) => output.sequence,
        ),
      )
    }
  }
  assert.ok(lostFrames > 0 && lostDiskRequests > 0, `${lostFrames} frames, ${lostDiskRequests} disk requests`)
})

test('an entropy request without its answer in the log is still owed at go-live', () => {
  const entries = entriesOf(record(9, 300).batches)
  const request = entries.findIndex(({ body }) => body.kind === 'marker' && body.outputKind === 'entropyRequest')
  assert.ok(request > 0)
  const owed = (length: number) => replayAll([batchOf(entries.slice(0, length))]).replayer.goLive().recorder.obligations
  assert.equal(owed(request + 1).entropyRequests.length, 1)
  const answer = entries.findIndex(({ body }, position) => position > request && body.kind === 'entropy')
  assert.equal(owed(answer + 1).entropyRequests.length, 0)
})

test('a power-off whose boot did not follow is owed', () => {
  const recorder = new Recorder(new ToyMachine())
  recorder.apply({ kind: 'boot', rngSeed: new Uint8Array(64), wallClockNs: 1234n })
  const [off] = recorder.apply({ kind: 'powerButton' })
  assert.deepEqual(recorder.obligations.powerRequest, off?.output)
  recorder.apply({ kind: 'boot', rngSeed: new Uint8Array(64), wallClockNs: 5678n })
  assert.equal(recorder.obligations.powerRequest, undefined)
})
