/**
 * The log as a backup has it: whose it is, how far it was received, how far its machine has replayed it, and since when the rest waits,
 * which is the execution lag.
 *
 *   ├──── replayed ────┼──── received, and so acknowledged ────┤
 *                                                             end
 *
 * Everything that was received is replayed before the backup goes live (invariant 7); `isReplayed` says that it is.
 */

import { assert } from '../base/assert.ts'
import type { LogBatch } from '../log/batch.ts'
import type { LogEnd } from '../log/entry.ts'
import type { BackupEffect } from './effects.ts'
import type { Hello } from './hello.ts'
import { LogTail } from './log-tail.ts'
import type { Generation, Progress } from './messages.ts'

export class ReceivedLog {
  readonly #effects: BackupEffect[]
  #hold: Generation = 0
  #runId = 0n
  #tail: LogTail
  #replayedEnd: LogEnd
  #replayedCount = 0n
  #coveredFrameId: bigint | undefined
  /** When the batches arrived that are not replayed yet. */
  #arrivals: { readonly end: LogEnd; readonly atMs: number }[] = []

  /**
   * @param nextIndex index of the first entry that the machine lacks
   * @param coveredFrameId the last inbound frame in the log below it
   * @param effects where batches are put for the replayer, in order
   */
  constructor(nextIndex: LogEnd, coveredFrameId: bigint | undefined, effects: BackupEffect[]) {
    this.#effects = effects
    this.#tail = new LogTail(nextIndex)
    this.#replayedEnd = nextIndex
    this.#coveredFrameId = coveredFrameId
  }

  /** The machine is another one, which lacks the entries from `nextIndex` on. */
  restart(nextIndex: LogEnd, coveredFrameId: bigint | undefined): void {
    this.#tail = new LogTail(nextIndex)
    this.#replayedEnd = nextIndex
    this.#replayedCount = 0n
    this.#coveredFrameId = coveredFrameId
    this.#arrivals = []
  }

  /** This primary's log is followed from here on. */
  onAccepted({ hold, runId }: Hello): void {
    this.#hold = hold
    this.#runId = runId
  }

  /** Of the primary whose log it is; 0: nobody's yet. */
  get hold(): Generation {
    return this.#hold
  }

  /** That primary's name for this run of the machine. */
  get runId(): bigint {
    return this.#runId
  }

  /** What siblings may lack. */
  get tail(): LogTail {
    return this.#tail
  }

  /** Every entry below it was received. */
  get end(): LogEnd {
    return this.#tail.end
  }

  /** The last inbound frame in it. */
  get coveredFrameId(): bigint | undefined {
    return this.#coveredFrameId
  }

  /** Every entry below it is replayed. */
  get replayedEnd(): LogEnd {
    return this.#replayedEnd
  }

  get isReplayed(): boolean {
    return this.#replayedEnd === this.end
  }

  /** It goes to the replayer. */
  receive(batch: LogBatch, nowMs: number): void {
    this.#tail.append(batch)
    this.#arrivals.push({ end: this.end, atMs: nowMs })
    if (batch.lastFrameId !== undefined) this.#coveredFrameId = batch.lastFrameId
    this.#effects.push({ kind: 'replay', batch })
  }

  /** @param count attempted instructions so far */
  onReplayed(replayedEnd: LogEnd, count: bigint): void {
    assert(replayedEnd >= this.#replayedEnd && replayedEnd <= this.end, 'replays what was received, in order')
    this.#replayedEnd = replayedEnd
    this.#replayedCount = count
    while (this.#arrivals[0] && this.#arrivals[0].end <= replayedEnd) this.#arrivals.shift()
  }

  progress(nowMs: number): Progress {
    const oldest = this.#arrivals[0]
    return {
      receivedEnd: this.end,
      replayedEnd: this.#replayedEnd,
      replayedCount: this.#replayedCount,
      lagMs: oldest === undefined ? 0 : nowMs - oldest.atMs,
    }
  }
}
