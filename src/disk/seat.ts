/**
 * A replica has one connection to a disk: the newest. When a connection breaks, the server may not have noticed yet, and
 * requests of it may be anywhere: in the kernel's socket buffer, in the server's queue, in execution. The replica connects
 * again and issues again what was not answered; the guest goes on and writes newer data to the same sectors. An old copy
 * that landed after that would undo it. The generation is the same, so the fence does not help.
 *
 *   take()         from now on the earlier connections' requests are refused, and `lost` tells them so
 *   whenDrained()  … and the last of those in execution has finished: only now may the newest connection begin
 */

import { assert } from '../base/assert.ts'
import type { Leave } from './fence.ts'

/** One connection's right to be the newest. */
export class SeatHold {
  readonly connection: object
  readonly #lost = new AbortController()
  executing = 0

  constructor(connection: object) {
    this.connection = connection
  }

  /** Fires when a newer connection has taken the seat. */
  get lost(): AbortSignal {
    return this.#lost.signal
  }

  lose(): void {
    this.#lost.abort()
  }
}

export class Seat {
  #newest: SeatHold | undefined
  /** Earlier connections that have requests in execution. */
  readonly #leaving = new Set<SeatHold>()
  readonly #waiters: (() => void)[] = []

  /** A connection that takes it again (NBD lets a client ask about an export before it opens it) keeps it. */
  take(connection: object): SeatHold {
    const earlier = this.#newest
    if (earlier?.connection === connection) return earlier
    this.#newest = new SeatHold(connection)
    if (earlier) {
      if (earlier.executing > 0) this.#leaving.add(earlier)
      earlier.lose()
    }
    return this.#newest
  }

  /** Lets a request begin, or refuses it with undefined. */
  enter(hold: SeatHold): Leave | undefined {
    if (hold !== this.#newest) return undefined
    hold.executing++
    return () => {
      assert(hold.executing > 0, 'a request left its seat twice')
      hold.executing--
      if (hold.executing > 0 || !this.#leaving.delete(hold)) return
      // One by one, because what one of them does may make a newer connection take the seat.
      while (this.#waiters.length > 0 && this.#leaving.size === 0) this.#waiters.shift()!()
    }
  }

  /** Calls `then` once no request of an earlier connection is in execution: at once if none is now. */
  whenDrained(then: () => void): void {
    if (this.#leaving.size === 0) then()
    else this.#waiters.push(then)
  }
}
