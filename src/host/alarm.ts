/**
 * One timer for whatever is due next. Who has something to do at a time sets the alarm after each change; it rings once, at
 * the earliest time it was set to, and may ring for something that has been put off since: whoever is rung looks what is
 * due, and sets it again. So a deadline that moves with every message costs no timer operation, and a process that waits
 * wakes a few times a second only.
 */

/** A time that has passed already is not rung before this: other work comes in between. */
const leastDelayMs = 1

export class Alarm {
  readonly #onRing: () => void
  #timer: NodeJS.Timeout | undefined
  #ringsAtMs = Number.POSITIVE_INFINITY

  constructor(onRing: () => void) {
    this.#onRing = onRing
  }

  /** @param atMs as `performance.now()` says it; infinite: never */
  set(atMs: number): void {
    if (atMs >= this.#ringsAtMs || atMs === Number.POSITIVE_INFINITY) return
    clearTimeout(this.#timer)
    this.#ringsAtMs = atMs
    // Node's timers count whole milliseconds and may be early by a part of one: rounded up they are late instead.
    const delayMs = Math.max(leastDelayMs, Math.ceil(atMs - performance.now()))
    this.#timer = setTimeout(() => {
      this.#ringsAtMs = Number.POSITIVE_INFINITY
      this.#onRing()
    }, delayMs)
  }

  cancel(): void {
    clearTimeout(this.#timer)
    this.#ringsAtMs = Number.POSITIVE_INFINITY
  }
}
