/**
 * A running machine becomes a second one, which goes on from the log: FT VMotion (VMware FT, "Starting and restarting FT
 * VMs"). The writer of the log copies its machine between slices, in rounds (machine/page-copy.ts), and stops it for the
 * last one only:
 *
 *   Recorder ──pages──► … ──pages──► │ hart stands: last pages, state │ ──► entries from here on, to both
 *      runs on, the copy lags          `position` = (count, log index)
 *
 *   other side: loadPages … loadPages, then `openState` ──► a Replayer at that position, which has the digest of the original
 *
 * The digest travels with the state and is compared there, so a page that was missed is noticed before anybody counts on
 * the new machine.
 *
 * A guest may write faster than pages travel. Then the rounds do not get shorter, and the guest gets a smaller share of
 * time, until they do. After `maxRounds` the last one begins, however long it takes.
 */

import { assert, WorldError } from '../base/assert.ts'
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { pageBytes } from '../base/units.ts'
import { type LogIndex, logIndex } from '../log/entry.ts'
import type { Machine, MachineCopy } from '../machine/types.ts'
import { Obligations } from './obligations.ts'
import type { Recorder } from './recorder.ts'
import { Replayer } from './replayer.ts'

export interface CopyPolicy {
  /** Pages in one piece: what the hart copies between two slices. */
  readonly piecePages: number
  /** The last round begins when no more than so many pages are due: they are copied while the guest stands. */
  readonly lastPages: number
  /** The guest's share of time, in percent, by rounds: later ones have the last. */
  readonly guestPercents: readonly number[]
  readonly maxRounds: number
}

/**
 * A piece of 256 KiB is copied in about the time of a slice, so the guest goes on at half its speed or more. 512 pages, 2 MiB,
 * are copied and hashed in less than 5 ms. Three rounds are enough for a guest that writes less than we copy.
 */
export const defaultCopyPolicy: CopyPolicy = {
  piecePages: 64,
  lastPages: 512,
  guestPercents: [100, 100, 100, 50, 25, 10, 5],
  maxRounds: 30,
}

/** What the other side continues from. */
export interface CopiedState {
  readonly pages: readonly Uint8Array[]
  /** For `openState`. */
  readonly state: Uint8Array
  /** Index of the first entry that the copy lacks. */
  readonly nextIndex: LogIndex
}

export class LiveCopy {
  readonly #recorder: Recorder
  readonly #copy: MachineCopy
  readonly #policy: CopyPolicy
  #isReadyToFinish = false
  #placeCount: bigint | undefined

  constructor(recorder: Recorder, policy: CopyPolicy = defaultCopyPolicy) {
    this.#recorder = recorder
    this.#policy = policy
    this.#copy = recorder.machine.startCopy()
  }

  get round(): number {
    return this.#copy.round
  }

  /** The share of time, in percent, that the guest should have while this round lasts. */
  get guestPercent(): number {
    const { guestPercents } = this.#policy
    return guestPercents[Math.min(this.#copy.round, guestPercents.length) - 1]!
  }

  /** The most that `nextPiece` returns. */
  get pieceBytes(): number {
    return this.#policy.piecePages * (pageBytes + 4) + this.#policy.piecePages * 8 * 4
  }

  /** Little enough is due: it is time for `finish`. */
  get isReadyToFinish(): boolean {
    return this.#isReadyToFinish
  }

  /** Some pages; may be empty. When a round is complete the next one begins. */
  nextPiece(): Uint8Array {
    const piece = this.#copy.takePages(this.#policy.piecePages)
    if (this.#copy.duePages === 0) this.#beginRound()
    return piece
  }

  /** Only now it is known how much is due: in the middle of a round, what was written since it began is not counted. */
  #beginRound(): void {
    this.#copy.beginRound()
    const { duePages, round } = this.#copy
    const { lastPages, maxRounds } = this.#policy
    this.#isReadyToFinish = duePages <= lastPages || round >= maxRounds
  }

  /**
   * Gives the copy its place in the log: an entry where the machine stands now, to be taken and sent before `finish`. Without
   * one the copy could have run beyond the last entry. Another backup that took over at that entry would go on from
   * before this one's state, and this one would take its log for the continuation of its own.
   */
  fixPlace(): void {
    this.#recorder.entryDigest()
    this.#placeCount = this.#recorder.machine.count
  }

  /** The last round, with the machine standing still. Everything that was recorded before must have been taken and sent. */
  finish(): CopiedState {
    const { machine, obligations, nextIndex } = this.#recorder
    assert(!this.#recorder.hasPending, 'entries before the copy are sent before it')
    assert(this.#placeCount === machine.count, 'a copy is made where the log has an entry')
    const digest = machine.digest()
    const pages: Uint8Array[] = []
    while (this.#copy.duePages > 0) pages.push(this.#copy.takePages(this.#policy.piecePages))
    const writer = new ByteWriter(4096)
    writer.u64(nextIndex).u64(digest)
    obligations.save(writer)
    writer.raw(this.#copy.takeState())
    this.#copy.end()
    return { pages: pages.filter(({ length }) => length > 0), state: writer.finish(), nextIndex }
  }

  /** Nobody wants it any more. */
  abandon(): void {
    this.#copy.end()
  }
}

/**
 * The other side: all pages are loaded into this machine, and `state` comes from `finish`.
 * @throws WorldError `copy-differs` when it does not make the same machine
 */
export function openState(machine: Machine, state: Uint8Array): Replayer {
  const reader = new ByteReader(state)
  const nextIndex = logIndex(reader.u64())
  const digest = reader.u64()
  const obligations = new Obligations()
  obligations.load(reader)
  machine.loadState(reader.raw(reader.remaining))
  if (machine.digest() !== digest) {
    throw new WorldError('copy-differs', 'the copied machine is not the one it was copied from (its digest differs)')
  }
  for (const request of machine.inFlightDiskRequests()) obligations.onOutput(request)
  return new Replayer(machine, nextIndex, obligations)
}
