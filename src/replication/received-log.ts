/**
 * The log as a backup has it: how far it was received, how far its machine has replayed it, and since when the rest waits,
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
import { LogTail } from './log-tail.ts'
import type { Progress } from './messages.ts'

export class ReceivedLog {
  /** What siblings may lack. */
  readonly tail: LogTail
  #replayedEnd: LogEnd
  #replayedCount = 0n
  #coveredFrameId: bigint | undefined
  /** When the batches arrived that are not replayed yet. */
  readonly #arrivals: { readonly end: LogEnd; readonly atMs: number }[] = []

  /**
   * @param nextIndex index of the first entry that the machine lacks
   * @param coveredFrameId the last inbound frame in the log below it
   */
  constructor(nextIndex: LogEnd, coveredFrameId: bigint | undefined) {
    this.tail = new LogTail(nextIndex)
    this.#replayedEnd = nextIndex
    this.#coveredFrameId = coveredFrameId
  }

  /** Every entry below it was received. */
  get end(): LogEnd {
    return this.tail.end
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

  receive(batch: LogBatch, nowMs: number): void {
    this.tail.append(batch)
    this.#arrivals.push({ end: this.end, atMs: nowMs })
    if (batch.lastFrameId !== undefined) this.#coveredFrameId = batch.lastFrameId
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
