/**
 * When a replica's own copies of disks begin to follow, and when they are the machine's disks. A backup makes no change to
 * them before they are as good as its primary's:
 *
 *   it follows from the first entry on   nothing has changed since they were copied: at its first replay, or when it goes live
 *   it gets the state of a running one   after one more round, the last; only then is its machine whole
 *
 * Live, they are the machine's disks when all that it followed is on stable storage: then they are stamped (copy-state.ts).
 * For a machine whose disks are all shared there is nothing to wait for.
 */

import { assert } from '../base/assert.ts'
import type { DiskAnswer as LoggedDiskAnswer, NeededRead } from '../hypervisor/replayer.ts'
import type { DiskRequest, MarkedOutput } from '../log/entry.ts'
import type { DisksPort } from './replica-world.ts'

/** Copies that are nearly as good as the primary's. */
export interface NearlyEqualCopies {
  /** The last round, after the state of the running machine was taken. An error was told where it belongs. */
  finish(done: () => void): void
  close(): void
}

/** A replica's disks, shared and own. */
export interface DisksOfReplica extends Pick<DisksPort, 'issue' | 'onReplayed' | 'readAgain' | 'flush'> {
  /** A backup begins in the middle: its machine has these requests under way. */
  follow(requests: readonly DiskRequest[]): void
  /** Own copies are equal to the primary's: changes that were followed are made from now on. */
  begin(): void
  /** @param done all that was followed is on stable storage */
  connect(generation: number, done: () => void): void
}

export interface DisksWithCopiesOptions {
  readonly disks: DisksOfReplica
  readonly hasOwn: () => boolean
  /** This replica holds the machine, still. */
  readonly isPrimary: () => boolean
  /** From here on its own copies are the machine's disks. */
  readonly stampLive: (generation: number) => void
}

export class DisksWithCopies implements DisksPort {
  readonly #options: DisksWithCopiesOptions
  /** Of a backup, until they are as good as the primary's. */
  #copies: NearlyEqualCopies | undefined
  #isSafe = true

  constructor(options: DisksWithCopiesOptions) {
    this.#options = options
  }

  /**
   * What this replica followed before it went live is on its own copies. Before that nobody should begin to copy them: with this replica's end the copies that were live before would be the newest, and be overwritten.
   */
  get isSafe(): boolean {
    return this.#isSafe
  }

  /** A backup has found its primary, and has these. */
  take(copies: NearlyEqualCopies): void {
    this.#copies = copies
  }

  issue(request: DiskRequest): void {
    this.#options.disks.issue(request)
  }

  onReplayed(outputs: readonly MarkedOutput[], answers: readonly LoggedDiskAnswer[]): void {
    this.#keep()
    this.#options.disks.onReplayed(outputs, answers)
  }

  readAgain(need: NeededRead): void {
    this.#options.disks.readAgain(need)
  }

  onRestored(inFlight: readonly DiskRequest[], done: () => void): void {
    const { disks, hasOwn } = this.#options
    const copies = this.#copies
    assert(copies || !hasOwn(), 'own copies are finished before they follow')
    this.#copies = undefined
    disks.follow(inFlight)
    const begin = (): void => {
      disks.begin()
      done()
    }
    if (copies) copies.finish(begin)
    else begin()
  }

  flush(done: () => void, failed: (detail: string) => void): void {
    this.#options.disks.flush(done, failed)
  }

  connect(generation: number): void {
    const { disks, hasOwn, isPrimary, stampLive } = this.#options
    this.#keep()
    this.#isSafe = !hasOwn()
    disks.connect(generation, () => {
      this.#isSafe = true
      if (isPrimary() && hasOwn()) stampLive(generation)
    })
  }

  /** It follows from the first entry on: its copies are as good as the primary's, which have not changed since. */
  #keep(): void {
    if (!this.#copies) return
    this.#copies.close()
    this.#copies = undefined
    this.#options.disks.begin()
  }
}
