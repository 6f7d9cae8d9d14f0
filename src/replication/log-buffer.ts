/**
 * What one backup has been sent and has not acknowledged, or not replayed, in bytes: the primary's view of the two log
 * buffers (VMware FT, "Logging channel"). A full buffer stops the primary; an empty one on the backup's side is harmless.
 *
 *   ├── replayed ──┼── in the backup's buffer ──┼── on its way ──┤
 *             replayedEnd                 receivedEnd         sentEnd
 */

import { assert } from '../base/assert.ts'
import type { LogEnd } from '../log/entry.ts'

interface SentBatch {
  readonly end: LogEnd
  readonly bytes: number
}

export class LogBuffer {
  #sentEnd: LogEnd
  #receivedEnd: LogEnd
  #replayedEnd: LogEnd
  /** Sent and not replayed, oldest first; those before `#firstUnreceived` are received. */
  #batches: SentBatch[] = []
  #firstUnreceived = 0
  #unreceivedBytes = 0
  #unreplayedBytes = 0

  /**
   * @param replayedEnd how far it has come in the log below `nextIndex`, at least: what it has to replay of that yet is not
   *   ours to count
   */
  constructor(nextIndex: LogEnd, replayedEnd: LogEnd = nextIndex) {
    this.#sentEnd = nextIndex
    this.#receivedEnd = nextIndex
    this.#replayedEnd = replayedEnd
  }

  get sentEnd(): LogEnd {
    return this.#sentEnd
  }

  get receivedEnd(): LogEnd {
    return this.#receivedEnd
  }

  get replayedEnd(): LogEnd {
    return this.#replayedEnd
  }

  get unreceivedBytes(): number {
    return this.#unreceivedBytes
  }

  get unreplayedBytes(): number {
    return this.#unreplayedBytes
  }

  onSent(end: LogEnd, bytes: number): void {
    assert(end > this.#sentEnd, 'batches are sent in order')
    this.#sentEnd = end
    this.#batches.push({ end, bytes })
    this.#unreceivedBytes += bytes
    this.#unreplayedBytes += bytes
  }

  /** Takes the backup's progress. False if it is impossible: backwards, or beyond what was sent. */
  onProgress(receivedEnd: LogEnd, replayedEnd: LogEnd): boolean {
    if (receivedEnd < this.#receivedEnd || receivedEnd > this.#sentEnd) return false
    if (replayedEnd < this.#replayedEnd || replayedEnd > receivedEnd) return false
    this.#receivedEnd = receivedEnd
    this.#replayedEnd = replayedEnd
    for (;;) {
      const batch = this.#batches[this.#firstUnreceived]
      if (batch === undefined || batch.end > receivedEnd) break
      this.#unreceivedBytes -= batch.bytes
      this.#firstUnreceived++
    }
    let replayed = 0
    for (const batch of this.#batches) {
      if (batch.end > replayedEnd) break
      this.#unreplayedBytes -= batch.bytes
      replayed++
    }
    this.#batches.splice(0, replayed)
    this.#firstUnreceived -= replayed
    return true
  }
}
