/** Ranges of a disk, joined where they meet: which bytes something holds for, and which of a range it does not. */

export interface ByteRange {
  readonly offset: number
  readonly lengthBytes: number
}

export class CoveredRanges {
  /** Beginnings and ends in turn, ascending: an odd position lies inside of a range. */
  readonly #bounds: number[] = []

  /** Covers the range. @returns those parts of it, ascending, that were not covered before */
  add(range: ByteRange): ByteRange[] {
    const parts = this.missingIn(range)
    if (parts.length === 0) return parts
    const end = range.offset + range.lengthBytes
    // Ranges that only touch become one.
    const first = this.#countBelow(range.offset)
    const last = this.#countBelow(end + 1)
    const opening = first % 2 === 0 ? [range.offset] : []
    const closing = last % 2 === 0 ? [end] : []
    this.#bounds.splice(first, last - first, ...opening, ...closing)
    return parts
  }

  /** The parts of a range, ascending, that are not covered. */
  missingIn({ offset, lengthBytes }: ByteRange): ByteRange[] {
    const end = offset + lengthBytes
    const parts: ByteRange[] = []
    let from = offset
    let next = this.#countBelow(offset + 1)
    if (next % 2 === 1) from = this.#bounds[next++]!
    for (; from < end; next += 2) {
      const to = Math.min(this.#bounds[next] ?? end, end)
      parts.push({ offset: from, lengthBytes: to - from })
      from = this.#bounds[next + 1] ?? end
    }
    return parts
  }

  /** How many bounds lie below a position. */
  #countBelow(position: number): number {
    let [low, high] = [0, this.#bounds.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#bounds[middle]! < position) low = middle + 1
      else high = middle
    }
    return low
  }
}
