/**
 * Effects are carried out in the order in which the roles returned them, also when carrying one out brings a new fact and
 * so new effects: those come after the rest (effects.ts says why).
 */
export class EffectQueue {
  readonly #waiting: (() => void)[] = []
  #isRunning = false

  /** Carries these out, after all that wait already; returns at once when called from within an effect. */
  run<Effect>(effects: readonly Effect[], carryOut: (effect: Effect) => void): void {
    for (const effect of effects) this.#waiting.push(() => carryOut(effect))
    if (this.#isRunning) return
    this.#isRunning = true
    try {
      for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) next()
    } finally {
      this.#isRunning = false
    }
  }
}
