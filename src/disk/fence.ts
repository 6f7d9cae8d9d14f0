/**
 * Keeps requests of an older generation off a machine's disks (ARCHITECTURE, invariant 9). One fence stands before all
 * exports of a machine. A request is asked for its permit when it arrives, and again in `enter`, at the moment it would
 * touch the image. Between `enter` and `leave` it is in execution: in the thread pool, in the kernel.
 *
 *   raise(record)   from now on older requests are refused
 *   whenDrained()   … and the last one that was in execution has finished: only now may a grant be answered
 *
 * The fence decides by the arbiter's record alone; it has no clock and never gives up waiting, because a request that
 * cannot be called back must not be overtaken.
 */

import { assert } from '../base/assert.ts'
import type { ArbiterRecord } from './arbiter-record.ts'

/** In whose name a connection sends requests. */
export type DiskPass =
  | { readonly kind: 'replica'; readonly replica: string; readonly generation: number }
  /** A tool on a stopped machine: good until the machine is started. */
  | { readonly kind: 'tool'; readonly generation: number }
  /** Changes nothing, so it needs no permission. */
  | { readonly kind: 'reader' }

/** Says that the request has finished. Call it exactly once. */
export type Leave = () => void

/** One request in execution; the same pass may be on many. */
interface Ticket {
  readonly pass: DiskPass
}

export class Fence {
  #record: ArbiterRecord
  readonly #executing = new Set<Ticket>()
  readonly #waiters: (() => void)[] = []

  constructor(record: ArbiterRecord) {
    this.#record = record
  }

  permits(pass: DiskPass): boolean {
    switch (pass.kind) {
      case 'replica':
        return this.#record.isHeldBy(pass.replica, pass.generation)
      case 'tool':
        return this.#record.fields.holder === null && this.#record.fields.generation === pass.generation
      case 'reader':
        return true
    }
  }

  /** Lets a request begin, or refuses it with undefined. */
  enter(pass: DiskPass): Leave | undefined {
    if (!this.permits(pass)) return undefined
    const ticket: Ticket = { pass }
    this.#executing.add(ticket)
    return () => {
      assert(this.#executing.delete(ticket), 'a request left the fence twice')
      this.#wakeIfDrained()
    }
  }

  /** The record has changed (and is durable): requests that it no longer permits are refused from now on. */
  raise(record: ArbiterRecord): void {
    assert(record.fields.generation >= this.#record.fields.generation, 'a generation went back')
    this.#record = record
    this.#wakeIfDrained()
  }

  /** Calls `then` once no request is in execution that the present record would refuse: at once if none is now. */
  whenDrained(then: () => void): void {
    if (this.#isDrained()) then()
    else this.#waiters.push(then)
  }

  #isDrained(): boolean {
    for (const { pass } of this.#executing) if (!this.permits(pass)) return false
    return true
  }

  #wakeIfDrained(): void {
    // One by one, because what one of them does may raise the fence again.
    while (this.#waiters.length > 0 && this.#isDrained()) this.#waiters.shift()!()
  }
}
