/**
 * The newest part of the log, kept for others: the entries that another backup of the same machine may lack. A backup keeps
 * what not every backup has acknowledged, as far as it knows: whoever goes live may have to fetch it from here, and a
 * primary that went live sends it on to the backups it inherits.
 *
 *   ├── forgotten: every backup has it ──┼── kept batches ──┤
 *                                   firstIndex             end
 *
 * The batches are those of the primary that wrote them, so all replicas cut the log at the same places.
 */

import { assert } from '../base/assert.ts'
import { batchEnd, type LogBatch } from '../log/batch.ts'
import type { LogEnd } from '../log/entry.ts'

/** Twice what a primary lets be unacknowledged: more only grows while an arbiter is out of reach. */
const maxBytes = 32 * 1024 * 1024

export class LogTail {
  #batches: LogBatch[] = []
  #bytes = 0
  #end: LogEnd

  /** @param nextIndex index of the first entry to come */
  constructor(nextIndex: LogEnd) {
    this.#end = nextIndex
  }

  get end(): LogEnd {
    return this.#end
  }

  append(batch: LogBatch): void {
    assert(batch.firstIndex === this.#end, 'a log has no gaps')
    this.#end = batchEnd(batch)
    this.#batches.push(batch)
    this.#bytes += batch.bytes.length
    while (this.#bytes > maxBytes) this.#forgetFirst()
  }

  /** Everybody has the entries below `end`. */
  forgetBelow(end: LogEnd): void {
    while (this.#batches[0] && batchEnd(this.#batches[0]) <= end) this.#forgetFirst()
  }

  /** The batches from this index on; undefined if it lies before what is kept, beyond the end, or within a batch. */
  from(index: LogEnd): readonly LogBatch[] | undefined {
    if (index === this.#end) return []
    const first = this.#batches.findIndex(({ firstIndex }) => firstIndex === index)
    return first < 0 ? undefined : this.#batches.slice(first)
  }

  forgetAll(): void {
    this.#batches = []
    this.#bytes = 0
  }

  #forgetFirst(): void {
    this.#bytes -= this.#batches.shift()!.bytes.length
  }
}
