import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { bareGuestSectors } from '../../test/determinism/bare-guest.ts'
import { newBareMachine } from '../../test/determinism/bare-recording.ts'
import { MemoryDisk } from '../../test/support/memory-disk.ts'
import { type Station, SyntheticWorld } from '../../test/support/synthetic-world.ts'
import { ToyMachine, toyHabits } from '../../test/support/toy-machine.ts'
import { Prng } from '../base/prng.ts'
import { MiB } from '../base/units.ts'
import { createEngine } from '../engine/wasm-engine.ts'
import { decodeBatch } from '../log/batch.ts'
import { createMachine } from '../machine/machine.ts'
import { wildWriter } from '../machine/test-support/wild-writer.ts'
import { instructionCount, type Machine } from '../machine/types.ts'
import { type CopiedState, type CopyPolicy, defaultCopyPolicy, LiveCopy, openState } from './live-copy.ts'
import { Recorder } from './recorder.ts'
import type { Replayer } from './replayer.ts'

const smallSteps: CopyPolicy = { ...defaultCopyPolicy, piecePages: 8, lastPages: 4 }

class Chatter implements Station {
  readonly #prng: Prng
  constructor(seed: number) {
    this.#prng = new Prng(seed)
  }
  onFrame(): Uint8Array[] {
    return this.#prng.chance(0.7) ? [this.#prng.bytes(80)] : []
  }
  onTick(): Uint8Array[] {
    return [this.#prng.bytes(100), this.#prng.bytes(60)]
  }
}

/** The bare guest with disk, network and timer, all in use. */
function newWorld(seed: number): SyntheticWorld {
  return new SyntheticWorld(newBareMachine(), {
    seed,
    disk: new MemoryDisk(bareGuestSectors),
    station: new Chatter(seed),
    psPerInstruction: { least: 50_000, most: 200_000 },
    longestSlice: 5000n,
  })
}

/** Copies the recorder's machine, which goes on by `meanwhile` until the last round. */
function copyLive(recorder: Recorder, to: Machine, meanwhile: () => void, policy = smallSteps): CopiedState {
  const copy = new LiveCopy(recorder, policy)
  while (!copy.isReadyToFinish) {
    to.loadPages(copy.nextPiece())
    meanwhile()
  }
  copy.fixPlace()
  recorder.takeBatches()
  const copied = copy.finish()
  for (const pages of copied.pages) to.loadPages(pages)
  return copied
}

/** Replays everything the recorder has written since. */
function follow(replayer: Replayer, recorder: Recorder): void {
  for (const batch of recorder.takeBatches()) replayer.append(batch)
  for (;;) {
    const { state } = replayer.run(100_000n)
    if (state.kind === 'diverged') assert.fail(`diverged: ${JSON.stringify(state.divergence, (_, v) => String(v))}`)
    if (state.kind === 'needsEntries') return
  }
}

test('a machine copied while disk, network and timer are busy follows the log from there on', () => {
  let inFlight = 0
  fc.assert(
    fc.property(fc.nat(), (seed) => {
      const world = newWorld(seed)
      const prng = new Prng(seed)
      world.powerOn()
      world.runTo(BigInt(50_000 + prng.below(200_000)))
      const to = newBareMachine()
      const policy = { ...smallSteps, piecePages: 64 }
      const meanwhile = (): void => world.runTo(world.machine.count + BigInt(prng.below(3000)))
      const { state, nextIndex } = copyLive(world.recorder, to, meanwhile, policy)
      inFlight += world.machine.inFlightDiskRequests().length
      const replayer = openState(to, state)
      assert.equal(replayer.replayedEnd, nextIndex)
      assert.equal(to.digest(), world.machine.digest())
      for (let round = 0; round < 5; round++) {
        world.runTo(world.machine.count + BigInt(prng.below(40_000)))
        world.recorder.entryDigest()
        follow(replayer, world.recorder)
      }
      assert.equal(replayer.digestsCompared, 5n)
      assert.equal(replayer.replayedEnd, world.recorder.nextIndex)
    }),
    { numRuns: 4 },
  )
  assert.ok(inFlight > 0, 'a copy with requests in flight')
})

test('a copy that goes live owes what the original owed: entropy that nobody has answered yet', () => {
  const recorder = new Recorder(new ToyMachine({ ...toyHabits, entropyEvery: 3 }))
  recorder.apply({ kind: 'boot', rngSeed: new Uint8Array(64), wallClockNs: 1n })
  while (recorder.obligations.entropyRequests.length === 0) recorder.run(instructionCount(recorder.machine.count + 50n))
  const to = new ToyMachine()
  const replayer = openState(to, copyLive(recorder, to, () => {}).state)
  assert.deepEqual(replayer.goLive().recorder.obligations.entropyRequests, recorder.obligations.entropyRequests)
})

test('a copy is made where the log has an entry: no other backup can take over before it and be followed by it', () => {
  const recorder = wildRecorder()
  const copy = new LiveCopy(recorder, smallSteps)
  while (!copy.isReadyToFinish) copy.nextPiece()
  recorder.run(instructionCount(recorder.machine.count + 10_000n))
  recorder.takeBatches()
  assert.throws(() => copy.finish(), /where the log has an entry/)
  copy.fixPlace()
  const last = recorder
    .takeBatches()
    .flatMap(({ bytes }) => decodeBatch(bytes))
    .at(-1)!
  const { nextIndex } = copy.finish()
  assert.equal(last.count, recorder.machine.count)
  assert.equal(last.index + 1n, nextIndex)
})

test('a page that was missed is noticed before anybody follows the copy', () => {
  const recorder = wildRecorder()
  const copy = new LiveCopy(recorder, smallSteps)
  const to = newWildMachine()
  while (!copy.isReadyToFinish) to.loadPages(copy.nextPiece())
  recorder.run(instructionCount(recorder.machine.count + 10_000n))
  copy.fixPlace()
  recorder.takeBatches()
  const { pages, state } = copy.finish()
  for (const piece of pages.slice(1)) to.loadPages(piece)
  assert.throws(() => openState(to, state), { code: 'copy-differs' })
})

test('a guest that writes faster than it is copied gets less time, and is copied all the same', () => {
  const recorder = wildRecorder()
  const percents = new Set<number>()
  const copy = new LiveCopy(recorder, { ...smallSteps, maxRounds: 1000 })
  const to = newWildMachine()
  while (!copy.isReadyToFinish) {
    percents.add(copy.guestPercent)
    to.loadPages(copy.nextPiece())
    recorder.run(instructionCount(recorder.machine.count + BigInt(100 * copy.guestPercent)))
  }
  assert.ok(percents.size > 3 && copy.round < 1000, `${[...percents]}, ${copy.round} rounds`)
  copy.fixPlace()
  recorder.takeBatches()
  const { pages, state } = copy.finish()
  for (const piece of pages) to.loadPages(piece)
  openState(to, state)
})

test('a guest that never writes less is stopped after the last round, however much is due', () => {
  const recorder = wildRecorder()
  const to = newWildMachine()
  const meanwhile = (): void => void recorder.run(instructionCount(recorder.machine.count + 100_000n))
  const { pages, state } = copyLive(recorder, to, meanwhile, { ...smallSteps, maxRounds: 3 })
  assert.ok(pages.length > 1)
  openState(to, state)
})

function newWildMachine(): Machine {
  return createMachine({ ramBytes: 64 * MiB, disks: [] }, wildWriter(), createEngine)
}

function wildRecorder(): Recorder {
  const recorder = new Recorder(newWildMachine())
  recorder.apply({ kind: 'boot', rngSeed: new Uint8Array(64), wallClockNs: 1n })
  recorder.run(instructionCount(2_000_000n))
  return recorder
}
