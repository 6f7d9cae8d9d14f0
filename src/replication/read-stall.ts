/**
 * A disk read that a backup does for itself (VMware FT, "Disk reads on the backup") and has not done as its primary did: its disk
 * has given nothing yet, or something else. The machine stands still meanwhile.
 *
 *   stands ──► read as the primary read it: over
 *      └─ readStallMs ──► nothing given: its primary is better off without it
 *                     └─► something else given: by then a disk server that had lost writes has them again, and a backup that
 *                         was dropped has heard of it. So it is a divergence.
 *
 * Time in which this replica stood still itself does not count: that it was dropped may lie unread in its socket.
 */

import type { Divergence } from '../log/divergence.ts'
import type { ReplayReport } from './backup-options.ts'
import { Standstill } from './standstill.ts'

export class ReadStall {
  readonly #limitMs: number
  readonly #standstill: Standstill
  #stalled: { readonly sinceMs: number; readonly difference: Divergence | undefined } | undefined

  constructor(limitMs: number) {
    this.#limitMs = limitMs
    this.#standstill = new Standstill(limitMs, Number.NEGATIVE_INFINITY)
  }

  /** The latest time for the next tick; infinite when no read is waited for. */
  get dueMs(): number {
    return this.#stalled ? Math.min(this.#endsMs, this.#standstill.dueMs) : Number.POSITIVE_INFINITY
  }

  get #endsMs(): number {
    return (this.#stalled?.sinceMs ?? Number.POSITIVE_INFINITY) + this.#limitMs
  }

  /** What the replayer waits for now, if anything. */
  onNeed(need: ReplayReport['need'], nowMs: number): void {
    if (!this.#stalled) this.#standstill.restart(nowMs)
    this.#stalled = need && { sinceMs: this.#stalled?.sinceMs ?? nowMs, difference: need.difference }
  }

  /** Another primary is followed now: what was waited for so far was another one's disk. */
  restart(nowMs: number): void {
    if (this.#stalled) this.#stalled = { ...this.#stalled, sinceMs: nowMs }
  }

  /** Call at `dueMs`, or at any time before, and before `hasEnded`. */
  onTick(nowMs: number): void {
    const stoodStillMs = this.#standstill.tick(nowMs)
    if (this.#stalled) this.#stalled = { ...this.#stalled, sinceMs: this.#stalled.sinceMs + stoodStillMs }
  }

  /** A read was waited for, for too long. */
  hasEnded(nowMs: number): boolean {
    return nowMs >= this.#endsMs
  }

  /** Something else was given, and for too long. */
  divergence(nowMs: number): Divergence | undefined {
    return this.hasEnded(nowMs) ? this.#stalled?.difference : undefined
  }
}
