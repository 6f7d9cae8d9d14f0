/**
 * Keeps the backup's execution lag short, because failover takes at least that long (VMware FT, "Logging channel"): past
 * one second of lag the primary's share of the processor is cut by a few percent at a time until the backup keeps up,
 * and given back after.
 */

export interface LagPolicy {
  /** Above this the share is cut. */
  readonly tooLongMs: number
  /** Below this it is given back. */
  readonly shortMs: number
  /** One step, in percent of the processor. */
  readonly stepPercent: number
  /** Time between steps: long enough for one to show its effect. */
  readonly stepIntervalMs: number
  /** Never less, in percent. */
  readonly leastPercent: number
}

export const defaultLagPolicy: LagPolicy = {
  tooLongMs: 1000,
  shortMs: 500,
  stepPercent: 5,
  stepIntervalMs: 100,
  leastPercent: 10,
}

export class LagControl {
  readonly #policy: LagPolicy
  #cpuPercent = 100
  #lastStepMs = Number.NEGATIVE_INFINITY

  constructor(policy: LagPolicy = defaultLagPolicy) {
    this.#policy = policy
  }

  /** The share of real time the primary's hart may run. */
  get cpuPercent(): number {
    return this.#cpuPercent
  }

  /** Takes the longest lag of any backup; returns the new share if it changes. */
  onLag(lagMs: number, nowMs: number): number | undefined {
    const { tooLongMs, shortMs, stepPercent, stepIntervalMs, leastPercent } = this.#policy
    if (nowMs - this.#lastStepMs < stepIntervalMs) return undefined
    let next = this.#cpuPercent
    if (lagMs > tooLongMs) next = Math.max(leastPercent, next - stepPercent)
    else if (lagMs < shortMs) next = Math.min(100, next + stepPercent)
    if (next === this.#cpuPercent) return undefined
    this.#lastStepMs = nowMs
    this.#cpuPercent = next
    return next
  }
}
