/**
 * A logging channel on a line of so many bits a second: each message is under way as long as the line needs for it, one
 * after the other. Timers come a millisecond late, and a short message is through in a tenth of that: so the last stretch of a
 * wait is spun.
 */

import { encodeMessage } from '../../src/replication/message-codec.ts'
import type { Message } from '../../src/replication/messages.ts'

const timerErrorMs = 2

export class Line {
  readonly #bitsPerSecond: number
  readonly #deliver: (message: Message) => void
  readonly #underWay: { readonly atMs: number; readonly message: Message }[] = []
  #freeAtMs = 0

  /** @param bitsPerSecond 0: as fast as it goes */
  constructor(bitsPerSecond: number, deliver: (message: Message) => void) {
    this.#bitsPerSecond = bitsPerSecond
    this.#deliver = deliver
  }

  send(message: Message): void {
    if (this.#bitsPerSecond === 0) {
      this.#deliver(message)
      return
    }
    const takesMs = (encodeMessage(message).length * 8000) / this.#bitsPerSecond
    this.#freeAtMs = Math.max(performance.now(), this.#freeAtMs) + takesMs
    this.#underWay.push({ atMs: this.#freeAtMs, message })
    if (this.#underWay.length === 1) this.#wait()
  }

  #wait(): void {
    const [first] = this.#underWay
    if (!first) return
    const waitMs = first.atMs - performance.now()
    if (waitMs > timerErrorMs) setTimeout(() => this.#arrive(), waitMs - timerErrorMs)
    else setImmediate(() => this.#arrive())
  }

  #arrive(): void {
    while (this.#underWay.length > 0 && this.#underWay[0]!.atMs <= performance.now()) {
      const { message } = this.#underWay.shift()!
      this.#deliver(message)
    }
    this.#wait()
  }
}
