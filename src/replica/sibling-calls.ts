/**
 * The calls of a backup that won to its siblings: the other backups of the machine that it took over. Each is tried again and
 * again for a while, also when its connection has ended, because it may be frozen, or busy with its own question to the
 * arbiter. What is said on the connections is the role's business.
 */

import type { ChannelId } from '../replication/effects.ts'
import type { ReplicaName, Sibling } from '../replication/messages.ts'

export interface SiblingDialer {
  nowMs(): number
  after(delayMs: number, run: () => void): void
  /** Connects. Either is called, once; `opened` before anything that the sibling says. */
  dial(sibling: Sibling, opened: (channel: ChannelId) => void, failed: () => void): void
  isOpen(channel: ChannelId): boolean
}

export interface SiblingCallEvents {
  readonly onOpen: (channel: ChannelId, replica: ReplicaName) => void
  readonly onUnreachable: (replica: ReplicaName) => void
}

export interface SiblingCallTimes {
  /** For so long each is tried … */
  readonly callMs: number
  /** … with so much between two attempts. */
  readonly callAgainMs: number
}

export class SiblingCalls {
  readonly #dialer: SiblingDialer
  readonly #times: SiblingCallTimes
  readonly #events: SiblingCallEvents
  #isClosed = false

  constructor(dialer: SiblingDialer, times: SiblingCallTimes, events: SiblingCallEvents) {
    this.#dialer = dialer
    this.#times = times
    this.#events = events
  }

  call(siblings: readonly Sibling[]): void {
    const untilMs = this.#dialer.nowMs() + this.#times.callMs
    for (const sibling of siblings) this.#call(sibling, untilMs)
  }

  /** Nobody is called any more, and nothing is reported. */
  close(): void {
    this.#isClosed = true
  }

  #call(sibling: Sibling, untilMs: number): void {
    if (this.#isClosed || this.#dialer.nowMs() >= untilMs) return
    const again = (): void => this.#later(() => this.#call(sibling, untilMs))
    this.#dialer.dial(
      sibling,
      (channel) => {
        if (this.#isClosed) return
        this.#events.onOpen(channel, sibling.replica)
        this.#whenClosed(channel, again)
      },
      () => {
        if (this.#isClosed) return
        this.#events.onUnreachable(sibling.replica)
        again()
      },
    )
  }

  #whenClosed(channel: ChannelId, then: () => void): void {
    this.#later(() => (this.#dialer.isOpen(channel) ? this.#whenClosed(channel, then) : then()))
  }

  #later(run: () => void): void {
    this.#dialer.after(this.#times.callAgainMs, run)
  }
}
