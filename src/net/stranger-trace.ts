/**
 * Lines about strangers: the first of a burst at once, the others counted, so that a flood of them cannot fill the trace.
 */

const burstMs = 10_000

export class StrangerTrace {
  readonly #purpose: string
  readonly #trace: (line: string) => void
  #timer: NodeJS.Timeout | undefined
  #more = 0

  constructor(purpose: string, trace: (line: string) => void) {
    this.#purpose = purpose
    this.#trace = trace
  }

  /** @param from who it was, as far as the kernel knows */
  turnedAway(from: string, reason: string): void {
    if (this.#timer) {
      this.#more++
      return
    }
    this.#trace(`${this.#purpose}: turned away ${from}: ${reason}`)
    this.#timer = setTimeout(() => this.#endBurst(), burstMs).unref()
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#endBurst()
  }

  #endBurst(): void {
    this.#timer = undefined
    if (this.#more > 0) this.#trace(`${this.#purpose}: turned away ${this.#more} more`)
    this.#more = 0
  }
}
