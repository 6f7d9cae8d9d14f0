/**
 * The disk reads that a backup does for itself (VMware FT, "Disk reads on the backup"): its machine makes a request again, and
 * this replica asks its disk, mostly at once, because the log may have the answer without the data.
 *
 *   replayed ──► read ──► error, or not what the primary has read? read again, for as long as it takes
 *                 ├──► given to the replayer
 *                 └──► the log has another answer, or the replica is live: nobody wants it any more
 *
 * What it reads is what the primary has read: requests that overlap are in order, and the primary does not change these
 * sectors before this backup has replayed the answer (replication/read-barrier.ts). Something else comes of a disk server
 * that has lost writes and is being given them again; or this backup was dropped, and does not know it yet; or the disk is
 * broken.
 *
 * Knows no connection and no clock: how to read, and when to try again, is its caller's.
 */

import { assert } from '../base/assert.ts'
import { NbdError } from '../disk/nbd-error.ts'
import type { DiskOutcome } from '../disk/steady-requests.ts'
import type { DiskAnswer, NeededRead } from '../hypervisor/replayer.ts'
import type { DiskRequest } from '../log/entry.ts'
import type { DiskFollower } from './disk-requests.ts'

export interface ReplayedReadsOptions {
  /** The log is going to leave out what is read: a read begins as soon as the machine asks. Otherwise when the log says so. */
  readonly readsAhead: boolean
  /** Calls `begin`, now or when what is in the way has ended, and keeps from the disk what comes later until `over`. */
  readonly inTurn: (request: DiskRequest, begin: (over: () => void) => void) => void
  /** One attempt. An outcome is the data, or the disk's own error. */
  readonly read: (request: DiskRequest, done: (outcome: DiskOutcome) => void) => void
  /** Between two attempts. */
  readonly later: (again: () => void) => void
  readonly onRead: (sequence: bigint, data: Uint8Array) => void
  readonly trace: (line: string) => void
}

interface OpenRead {
  readonly request: DiskRequest
  isBegun: boolean
}

export class ReplayedReads implements DiskFollower {
  readonly #options: ReplayedReadsOptions
  /** Those that the machine made again and its log has no answer to. */
  readonly #open = new Map<bigint, OpenRead>()
  #isOver = false

  constructor(options: ReplayedReadsOptions) {
    this.#options = options
  }

  /** The machine made this request again, a read or another. */
  onRequest(request: DiskRequest): void {
    if (request.operation !== 'read' || this.#isOver) return
    const open = { request, isBegun: false }
    this.#open.set(request.sequence, open)
    if (this.#options.readsAhead) this.#begin(open)
  }

  /** The log has the answer without its data. One that was begun is not begun again, unless it gave something else. */
  onNeeded({ sequence, difference }: NeededRead): void {
    if (this.#isOver) return
    const open = this.#open.get(sequence)
    assert(open, `disk read ${sequence} is not open`)
    if (!open.isBegun || difference) this.#begin(open, difference !== undefined)
  }

  /** The log has the answer, and the machine too. */
  onAnswer({ sequence }: Pick<DiskAnswer, 'sequence'>): void {
    this.#open.delete(sequence)
  }

  /** Live, or at its end: nobody wants any of them, nor what a hart that has not heard of it says later. */
  end(): void {
    this.#isOver = true
    this.#open.clear()
  }

  #begin(open: OpenRead, wasOther = false): void {
    open.isBegun = true
    this.#options.inTurn(open.request, (over) => {
      if (wasOther) {
        const { sequence } = open.request
        this.#options.trace(`disk: read ${sequence} gave something else than its primary has read; reading again`)
        this.#options.later(() => this.#attempt(open, over))
      } else this.#attempt(open, over)
    })
  }

  #attempt(open: OpenRead, over: () => void): void {
    const isWanted = (): boolean => this.#open.get(open.request.sequence) === open
    if (!isWanted()) {
      over()
      return
    }
    this.#options.read(open.request, (outcome) => {
      if (outcome instanceof NbdError) {
        this.#options.trace(`disk: what the primary could read cannot be read here: ${outcome.message}; reading again`)
        this.#options.later(() => this.#attempt(open, over))
        return
      }
      assert(outcome, 'a read that succeeds has data')
      if (isWanted()) this.#options.onRead(open.request.sequence, outcome)
      over()
    })
  }
}
