/**
 * Notices that this replica stood still itself (a stopped process, a frozen host), by a gap between two of its ticks. What it
 * was sent meanwhile lies unread in its sockets, so no time limit may count the gap against anybody else.
 */

export class Standstill {
  readonly #limitMs: number
  #lastTickMs: number

  /** @param limitMs the time limit that it protects */
  constructor(limitMs: number, nowMs: number) {
    this.#limitMs = limitMs
    this.#lastTickMs = nowMs
  }

  /** The latest time for the next tick: several a limit, so that a gap between two of them means something. */
  get dueMs(): number {
    return this.#lastTickMs + this.#limitMs / 4
  }

  /** Ticks were not asked for up to now: there was nothing to limit. */
  restart(nowMs: number): void {
    this.#lastTickMs = nowMs
  }

  /**
   * Call at `dueMs`, or at any time before.
   * @returns the milliseconds since the last tick, if it stood still in them; otherwise 0
   */
  tick(nowMs: number): number {
    const sinceTickMs = nowMs - this.#lastTickMs
    this.#lastTickMs = nowMs
    return sinceTickMs > this.#limitMs / 2 ? sinceTickMs : 0
  }
}
