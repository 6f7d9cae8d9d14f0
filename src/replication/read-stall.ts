/**
 * A disk read that a backup does for itself (VMware FT, "Disk reads on the backup") and has not done as its primary did: its disk
 * has given nothing yet, or something else. The machine stands still meanwhile.
 *
 *   stands ──► read as the primary read it: over
 *      └─ readStallMs ──► nothing given: its primary is better off without it
 *                     └─► something else given: by then a disk server that had lost writes has them again, and a backup that
 *                         was dropped has heard of it. So it is a divergence.
 */

import type { Divergence } from '../log/divergence.ts'
import type { ReplayReport } from './backup-options.ts'

export class ReadStall {
  readonly #limitMs: number
  #stalled: { readonly sinceMs: number; readonly difference: Divergence | undefined } | undefined

  constructor(limitMs: number) {
    this.#limitMs = limitMs
  }

  /** When it has lasted too long; infinite when no read is waited for. */
  get dueMs(): number {
    return (this.#stalled?.sinceMs ?? Number.POSITIVE_INFINITY) + this.#limitMs
  }

  /** The same of one that gave something else. */
  get divergesAtMs(): number {
    return this.#stalled?.difference ? this.dueMs : Number.POSITIVE_INFINITY
  }

  /** What the replayer waits for now, if anything. */
  onNeed(need: ReplayReport['need'], nowMs: number): void {
    this.#stalled = need && { sinceMs: this.#stalled?.sinceMs ?? nowMs, difference: need.difference }
  }

  /** Another primary is followed now: what was waited for so far was another one's disk. */
  restart(nowMs: number): void {
    if (this.#stalled) this.#stalled = { ...this.#stalled, sinceMs: nowMs }
  }

  /** Something else was given, and for too long. */
  divergence(nowMs: number): Divergence | undefined {
    return nowMs >= this.divergesAtMs ? this.#stalled?.difference : undefined
  }
}
