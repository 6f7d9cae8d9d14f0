/**
 * What a disk has answered and might still lose: changes completed since the last flush that covers them. A disk server
 * whose host crashes comes back without some of them, and without a word about it: to the guest they are done. So whoever
 * sent them keeps them, and writes them again, in order and before anything else, when the server is back in a new boot.
 *
 *   completed ──► kept ──► a flush that *began* after the completion was answered ──► forgotten
 *                  │
 *                  └── overwritten by a later change of the same place ──► forgotten; of a part of it: that part is not written again
 *
 * Answered with an error covers nothing: all stays kept, and whoever sent it writes it again.
 *
 * A flush covers the writes completed before it began (virtio 1.2, 5.2.6.2; NBD, NBD_CMD_FLUSH): hence `beginFlush`, which
 * notes where it stands. To write what is kept again is harmless at any time when nothing else is in execution: a change
 * that overlaps a kept one and is newer is kept as well, or was never completed and will be issued again.
 *
 * Pure bookkeeping: no I/O, no clock. Bytes are kept by reference, so nobody may change them afterwards.
 */

import { type ByteRange, CoveredRanges } from './covered-ranges.ts'

/** A request that changes the disk. Offsets and lengths in bytes. */
export type DiskChange =
  | { readonly operation: 'write'; readonly offset: number; readonly data: Uint8Array }
  | { readonly operation: 'trim'; readonly offset: number; readonly lengthBytes: number }
  | {
      readonly operation: 'writeZeroes'
      readonly offset: number
      readonly lengthBytes: number
      /** Default true: the zeroes need not take space. */
      readonly mayTrim?: boolean
    }

/** Which changes a flush covers: those completed before it began. */
export type FlushReach = number

/** What one kept change costs beside its data, roughly: bounds the number of small ones. */
const overheadBytes = 256

export function lengthOf(change: DiskChange): number {
  return change.operation === 'write' ? change.data.length : change.lengthBytes
}

function partOf(change: DiskChange, { offset, lengthBytes }: ByteRange): DiskChange {
  if (change.operation !== 'write') return { ...change, offset, lengthBytes }
  const from = offset - change.offset
  return { ...change, offset, data: change.data.subarray(from, from + lengthBytes) }
}

function costOf(change: DiskChange): number {
  return overheadBytes + (change.operation === 'write' ? change.data.length : 0)
}

export class UnflushedWrites {
  /** By order of completion, which is also the order of the map. */
  readonly #kept = new Map<number, DiskChange>()
  /** The latest kept change of contents that begins at an offset. */
  readonly #latestAt = new Map<number, number>()
  #nextOrder = 0
  #bytes = 0

  get count(): number {
    return this.#kept.size
  }

  /** Memory that is kept, a little more than the data. */
  get bytes(): number {
    return this.#bytes
  }

  /** The disk has answered this change with success. */
  onCompleted(change: DiskChange): void {
    const order = this.#nextOrder++
    // A trim says nothing about contents (a store may do nothing), so it replaces nothing.
    if (change.operation !== 'trim') {
      const earlier = this.#latestAt.get(change.offset)
      if (earlier !== undefined && lengthOf(this.#kept.get(earlier)!) <= lengthOf(change)) this.#forget(earlier)
      this.#latestAt.set(change.offset, order)
    }
    this.#kept.set(order, change)
    this.#bytes += costOf(change)
  }

  /** A flush goes out now. Keep what this returns until its answer. */
  beginFlush(): FlushReach {
    return this.#nextOrder
  }

  /** The flush was answered with success, by the same boot of the server that it began in. */
  onFlushed(reach: FlushReach): void {
    for (const order of this.#kept.keys()) {
      if (order >= reach) break
      this.#forget(order)
    }
  }

  /**
   * What to write again after a crash of the disk server, in this order where ranges overlap. Of changes that overlap only what
   * no later one has overwritten: a disk that lost nothing never holds something older meanwhile. Whoever writes may be lost
   * in the middle, and whoever comes after it may know of a flush, and write nothing again.
   */
  inOrder(): DiskChange[] {
    const overwritten = new CoveredRanges()
    const parts: DiskChange[] = []
    for (const change of [...this.#kept.values()].reverse()) {
      const range = { offset: change.offset, lengthBytes: lengthOf(change) }
      // Only the disk knows what is there after a trim.
      const left = change.operation === 'trim' ? overwritten.missingIn(range) : overwritten.add(range)
      for (const part of left.reverse()) parts.push(partOf(change, part))
    }
    return parts.reverse()
  }

  /**
   * Makes `data`, read at `offset`, what it would be if the disk had lost nothing. For whoever reads a disk that is written by
   * somebody else, and may meet it after a crash and before its writer has written it again.
   */
  mend(offset: number, data: Uint8Array): void {
    let asRead: Uint8Array | undefined
    for (const change of this.#kept.values()) {
      const from = Math.max(offset, change.offset)
      const to = Math.min(offset + data.length, change.offset + lengthOf(change))
      if (from >= to) continue
      asRead ??= data.slice()
      if (change.operation === 'write') {
        data.set(change.data.subarray(from - change.offset, to - change.offset), from - offset)
      } else if (change.operation === 'writeZeroes') data.fill(0, from - offset, to - offset)
      // Only the disk knows what is there after a trim.
      else data.set(asRead.subarray(from - offset, to - offset), from - offset)
    }
  }

  #forget(order: number): void {
    const change = this.#kept.get(order)!
    this.#kept.delete(order)
    this.#bytes -= costOf(change)
    if (this.#latestAt.get(change.offset) === order) this.#latestAt.delete(change.offset)
  }
}
