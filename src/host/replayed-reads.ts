/**
 * The disk reads that a backup does for itself (VMware FT, "Disk reads on the backup"): its machine makes a request again, and
 * this replica asks its disk, at once, because the log may have the answer without the data.
 *
 *   followed ──► read ──► error, or not what the primary has read? read again, for as long as it takes
 *                 ├──► given to the replayer
 *                 └──► the log says that the primary's read failed: nobody wants it any more
 *
 * What it reads is what the primary has read: requests that overlap are in order, and the primary does not change these
 * sectors before this backup has replayed the answer (replication/read-barrier.ts). Something else comes of a disk server
 * that has lost writes and is being given them again; or this backup was dropped, and does not know it yet; or the disk is
 * broken.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { NbdError } from '../disk/nbd-error.ts'
import type { DiskRequest } from '../log/entry.ts'

/** Between two attempts to read what the primary could read. */
export const readAgainMs = 100

export interface ReplayedReadsOptions {
  /** One attempt. @throws NbdError */
  readonly read: (request: DiskRequest) => Promise<Uint8Array>
  readonly onRead: (sequence: bigint, data: Uint8Array) => void
  readonly trace: (line: string) => void
}

export class ReplayedReads {
  readonly #options: ReplayedReadsOptions
  /** Wanted, and not given yet or not used yet. */
  readonly #wanted = new Map<bigint, DiskRequest>()

  constructor(options: ReplayedReadsOptions) {
    this.#options = options
  }

  /** Resolves when it was read, or when nobody wants it any more. One that was begun is not begun again. */
  async begin(request: DiskRequest, wasOther = false): Promise<void> {
    const { sequence } = request
    if (this.#wanted.has(sequence) && !wasOther) return
    this.#wanted.set(sequence, request)
    if (wasOther) {
      this.#options.trace(`disk: read ${sequence} gave something else than its primary has read; reading again`)
      await sleep(readAgainMs)
    }
    while (this.#wanted.get(sequence) === request) {
      try {
        const data = await this.#options.read(request)
        if (this.#wanted.get(sequence) === request) this.#options.onRead(sequence, data)
        return
      } catch (error) {
        if (!(error instanceof NbdError)) throw error
        this.#options.trace(`disk: what the primary could read cannot be read here: ${error.message}; reading again`)
        await sleep(readAgainMs)
      }
    }
  }

  /** The log has the answer, and the machine too. */
  onAnswer(sequence: bigint): void {
    this.#wanted.delete(sequence)
  }

  /** Live, or at its end: nobody wants any of them. */
  end(): void {
    this.#wanted.clear()
  }
}
