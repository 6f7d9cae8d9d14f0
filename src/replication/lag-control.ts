/**
 * Keeps the backup's execution lag short, because failover takes at least that long (VMware FT, "Logging channel"): while the
 * lag stays above a set time, the primary's share of the processor is cut by a few percent at a time until the backup keeps
 * up, and given back after.
 *
 *   lag       ____/‾‾‾‾‾‾‾‾\__/\_______    a short peak (a busy host, a large batch) is not lag that stays
 *   share     ‾‾‾‾‾‾\_\_\_\____/‾/‾/‾‾‾
 *
 * What counts is the shortest lag within an interval. VMware allows a second; ours is 30 ms by default, because it is what a
 * client would wait for on top of detection and arbitration.
 */

export interface LagPolicy {
  /** Lag that stays above this cuts the share. Below half of it the share is given back. */
  readonly mostMs: number
  /** One step, in percent of the processor. */
  readonly stepPercent: number
  /** Time between steps: long enough for one to show its effect. */
  readonly stepIntervalMs: number
  /** Never less, in percent. */
  readonly leastPercent: number
}

export const defaultLagPolicy: LagPolicy = {
  mostMs: 30,
  stepPercent: 5,
  stepIntervalMs: 100,
  leastPercent: 10,
}

export class LagControl {
  readonly #policy: LagPolicy
  #cpuPercent = 100
  #intervalStartMs: number | undefined
  #shortestMs = Number.POSITIVE_INFINITY

  constructor(policy: LagPolicy = defaultLagPolicy) {
    this.#policy = policy
  }

  /** The share of real time the primary's hart may run. */
  get cpuPercent(): number {
    return this.#cpuPercent
  }

  /**
   * @param lagMs the longest of any backup, as it is now; undefined: there is none, and the primary gets all
   * @returns the new share if it changes
   */
  onLag(lagMs: number | undefined, nowMs: number): number | undefined {
    if (lagMs === undefined) return this.#giveAll()
    const { mostMs, stepPercent, stepIntervalMs, leastPercent } = this.#policy
    this.#intervalStartMs ??= nowMs
    this.#shortestMs = Math.min(this.#shortestMs, lagMs)
    if (nowMs - this.#intervalStartMs < stepIntervalMs) return undefined
    let next = this.#cpuPercent
    if (this.#shortestMs > mostMs) next = Math.max(leastPercent, next - stepPercent)
    else if (this.#shortestMs < mostMs / 2) next = Math.min(100, next + stepPercent)
    this.#intervalStartMs = nowMs
    this.#shortestMs = Number.POSITIVE_INFINITY
    if (next === this.#cpuPercent) return undefined
    this.#cpuPercent = next
    return next
  }

  #giveAll(): number | undefined {
    this.#intervalStartMs = undefined
    this.#shortestMs = Number.POSITIVE_INFINITY
    if (this.#cpuPercent === 100) return undefined
    this.#cpuPercent = 100
    return 100
  }
}
