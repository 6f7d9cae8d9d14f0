/**
 * Whether somebody whom this replica needs still answers: a small question is asked again and again, over a connection
 * that is there anyway, and any answer will do. A closed connection needs no time to be noticed; this is for cut cables
 * and frozen hosts, after which nothing comes and nothing ends.
 *
 * Silence is counted in ticks, not in time (as in hart-watch.ts): a process that stood still asked nothing.
 */

export interface ReachPolicy {
  /** A question in so many ticks. */
  readonly askEveryTicks: number
  /** So many ticks without an answer: out of reach. */
  readonly silenceTicks: number
}

/** Ticks are 500 ms. A second rides out a busy peer's pauses; what follows from silence waits for longer anyway. */
export const defaultReachPolicy: ReachPolicy = { askEveryTicks: 1, silenceTicks: 2 }

export class ReachProbe {
  readonly #policy: ReachPolicy
  readonly #ask: () => void
  #ticks = 0
  #lastAnswer = 0

  /** @param ask sends the question and returns at once; without a connection it does nothing */
  constructor(ask: () => void, policy = defaultReachPolicy) {
    this.#ask = ask
    this.#policy = policy
  }

  onAnswer(): void {
    this.#lastAnswer = this.#ticks
  }

  onTick(): void {
    if (this.#ticks++ % this.#policy.askEveryTicks === 0) this.#ask()
  }

  get silentTicks(): number {
    return this.#ticks - this.#lastAnswer
  }

  get isInReach(): boolean {
    return this.silentTicks < this.#policy.silenceTicks
  }
}
