/**
 * How long things wait (a frame for its log entry, an output for its acknowledgements), counted in memory that two threads may
 * share: one adds, the other reads. Buckets grow by a quarter of an octave, so a quantile is right within a fifth, for one addition per thing.
 */

/** Bucket 0 ends at a microsecond, the last but one at 16 s; the last takes the rest. */
const bucketsPerOctave = 4
const octaves = 24
const bucketCount = octaves * bucketsPerOctave + 2

export interface DelaySummary {
  readonly count: number
  /** Upper bounds of the buckets that hold them; 0 without any. */
  readonly medianMs: number
  readonly p99Ms: number
}

export class DelayHistogram {
  readonly buffer: SharedArrayBuffer
  readonly #counts: Uint32Array

  /** Without a buffer: a new, empty one. */
  constructor(buffer = new SharedArrayBuffer(bucketCount * 4)) {
    this.buffer = buffer
    this.#counts = new Uint32Array(buffer)
  }

  add(delayNs: bigint): void {
    const us = Number(delayNs) / 1000
    const bucket = us <= 1 ? 0 : Math.min(bucketCount - 1, Math.ceil(Math.log2(us) * bucketsPerOctave))
    Atomics.add(this.#counts, bucket, 1)
  }

  /** By bucket. */
  get counts(): readonly number[] {
    return Array.from(this.#counts)
  }

  get summary(): DelaySummary {
    return summarizeDelays(this.counts)
  }
}

/** @param counts by bucket, as `DelayHistogram.counts` has them */
export function summarizeDelays(counts: readonly number[]): DelaySummary {
  const count = counts.reduce((sum, one) => sum + one, 0)
  return { count, medianMs: quantileMs(counts, count / 2), p99Ms: quantileMs(counts, count * 0.99) }
}

/** Bound of the first bucket at which at least `wanted` are reached. */
function quantileMs(counts: readonly number[], wanted: number): number {
  if (wanted === 0) return 0
  let sum = 0
  const bucket = counts.findIndex((count) => (sum += count) >= wanted)
  return 2 ** (bucket / bucketsPerOctave) / 1000
}
