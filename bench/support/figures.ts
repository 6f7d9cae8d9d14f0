/** Arithmetic over measured values. */

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((x, y) => x - y)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Undefined of no values. */
export function medianOf(values: readonly number[]): number | undefined {
  return values.length > 0 ? median(values) : undefined
}

/** `share` from 0 to 1: the value that this share of the values does not exceed. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((x, y) => x - y)
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]!
}

/** Of positive values: what ratios are averaged by. */
export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length)
}

export function round2(value: number): number {
  return Math.round(value * 100) / 100
}

export function round3(value: number): number {
  return Math.round(value * 1000) / 1000
}
