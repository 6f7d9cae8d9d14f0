/**
 * One timer for whatever is due next. Who has something to do at a time sets the alarm after each change; it rings once, at
 * the earliest time it was set to, and may ring for something that has been put off since: whoever is rung looks what is
 * due, and sets it again. So a deadline that moves with every message costs no timer operation, and a process that waits
 * wakes a few times a second only.
 */

/** A time that has passed already is not rung before this: other work comes in between. */
const leastDelayMs = 1

export interface AlarmClock {
  nowMs(): number
  /** Rings after so many whole milliseconds. @returns what calls that off */
  after(delayMs: number, ring: () => void): () => void
}

export class Alarm {
  readonly #clock: AlarmClock
  readonly #onRing: () => void
  #callOff: () => void = () => {}
  #ringsAtMs = Number.POSITIVE_INFINITY

  constructor(clock: AlarmClock, onRing: () => void) {
    this.#clock = clock
    this.#onRing = onRing
  }

  /** @param atMs as its clock says it; infinite: never */
  set(atMs: number): void {
    if (atMs >= this.#ringsAtMs || atMs === Number.POSITIVE_INFINITY) return
    this.#callOff()
    this.#ringsAtMs = atMs
    // Timers may count whole milliseconds and be early by a part of one: rounded up they are late instead.
    const delayMs = Math.max(leastDelayMs, Math.ceil(atMs - this.#clock.nowMs()))
    this.#callOff = this.#clock.after(delayMs, () => {
      this.#ringsAtMs = Number.POSITIVE_INFINITY
      this.#onRing()
    })
  }

  cancel(): void {
    this.#callOff()
    this.#ringsAtMs = Number.POSITIVE_INFINITY
  }
}
