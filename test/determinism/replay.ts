/**
 * Replaying part of a recording in every way that must not matter: cut into slices, moved to a fresh machine by a
 * snapshot in the middle. The Replayer compares every output with its marker and every digest; what is added here is
 * the way of driving it, and a count of what was compared, so that a verdict is never about nothing.
 */

import assert from 'node:assert/strict'
import type { Prng } from '../../src/base/prng.ts'
import { Replayer } from '../../src/hypervisor/replayer.ts'
import { BatchBuilder, decodeBatch, type LogBatch } from '../../src/log/batch.ts'
import { type Divergence, describeDivergence } from '../../src/log/divergence.ts'
import type { LogEntry, LogIndex } from '../../src/log/entry.ts'
import type { Machine } from '../../src/machine/types.ts'

export interface ReplayDrive {
  /** Length of the next slice in instructions: the argument of `Replayer.run`. */
  readonly nextSlice: () => bigint
  /** Every so many instructions: snapshot, restore into a machine of `newMachine`, go on there. */
  readonly moveEvery?: bigint
  readonly newMachine?: () => Machine
  /** Called before each slice, after the machine's outputs were taken. */
  readonly beforeSlice?: (machine: Machine) => void
}

export interface ReplayResult {
  readonly divergence: Divergence | undefined
  readonly digests: number
  readonly outputs: number
  readonly slices: number
  readonly moves: number
  /** Where the last move went. */
  readonly machine: Machine
}

export function entriesOf(batches: readonly LogBatch[]): LogEntry[] {
  return batches.flatMap((batch) => decodeBatch(batch.bytes))
}

/** Entries as a batch again, with indexes from `first` on. */
export function batchOf(entries: readonly Pick<LogEntry, 'count' | 'body'>[], first: LogIndex): LogBatch {
  const builder = new BatchBuilder(first)
  for (const { count, body } of entries) builder.append(count, body)
  return builder.take()!.batch
}

/** Few enough that a batch stays small, and many enough that feeding costs nothing. */
const entriesPerBatch = 2000

/** A replayer and the entries it has still to be given. */
class Feed {
  readonly #entries: readonly LogEntry[]
  readonly #first: bigint
  #replayer: Replayer

  /** @param entries a run of consecutive entries; `machine` stands at the first of them */
  constructor(entries: readonly LogEntry[], machine: Machine) {
    this.#entries = entries
    this.#first = entries[0]!.index
    this.#replayer = new Replayer(machine, entries[0]!.index)
  }

  get replayer(): Replayer {
    return this.#replayer
  }

  /** False when all entries were given. */
  give(): boolean {
    const from = Number(this.#replayer.appendedEnd - this.#first)
    const next = this.#entries.slice(from, from + entriesPerBatch)
    if (next.length === 0) return false
    this.#replayer.append(batchOf(next, this.#replayer.appendedEnd))
    return true
  }

  /** Goes on in another machine. Only between instructions that left no outputs: after a run that said "progress". */
  moveTo(machine: Machine): void {
    const { machine: old, replayedEnd } = this.#replayer
    machine.restore(old.snapshot())
    assert.equal(machine.digest(), old.digest(), 'a restored machine has the digest of the original')
    this.#replayer = new Replayer(machine, replayedEnd)
  }
}

/** Replays all of `entries` from `machine`, which stands right before them. */
export function replay(entries: readonly LogEntry[], machine: Machine, drive: ReplayDrive): ReplayResult {
  const feed = new Feed(entries, machine)
  let [outputs, slices, moves] = [0, 0, 0]
  let nextMove = drive.moveEvery === undefined ? undefined : machine.count + drive.moveEvery
  for (;;) {
    const { replayer } = feed
    drive.beforeSlice?.(replayer.machine)
    const ran = replayer.run(drive.nextSlice())
    slices++
    outputs += ran.outputs.length
    if (ran.state.kind === 'diverged' || (ran.state.kind === 'needsEntries' && !feed.give())) {
      const divergence = ran.state.kind === 'diverged' ? ran.state.divergence : undefined
      const done = Number(replayer.replayedEnd - entries[0]!.index)
      const digests = entries.slice(0, done).filter(({ body }) => body.kind === 'digest').length
      return { divergence, digests, outputs, slices, moves, machine: replayer.machine }
    }
    if (ran.state.kind === 'progress' && nextMove !== undefined && replayer.machine.count >= nextMove) {
      assert.ok(drive.newMachine && drive.moveEvery)
      feed.moveTo(drive.newMachine())
      moves++
      nextMove = replayer.machine.count + drive.moveEvery
    }
  }
}

/** Replays, and fails with the divergence in words if there is one. */
export function assertReplays(entries: readonly LogEntry[], machine: Machine, drive: ReplayDrive): ReplayResult {
  const result = replay(entries, machine, drive)
  const { divergence } = result
  assert.equal(divergence && describeDivergence(divergence), undefined)
  return result
}

/** Slices whose lengths are spread over all magnitudes up to `longest`. */
export function randomSlices(prng: Prng, longest: number): () => bigint {
  return () => BigInt(Math.floor(longest ** (prng.below(1_000_000) / 1_000_000)))
}
