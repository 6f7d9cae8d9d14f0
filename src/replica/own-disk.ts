/**
 * What a replica does with its own copy of a disk (VMware FT: non-shared disks), as a backup and live: in which order, what an
 * error means, and when all that it followed is safe.
 *
 *   backup:  what its machine replays ──► its turn ──► the copy        (the log has the answers)
 *   live:    what its machine asks for ──► its turn, after all that was followed ──► the copy ──► the guest
 *
 * Everything overlapping goes in the order of the log, although the log may have answered the first already; a flush goes after
 * every change before it, for the same reason. A side whose copy fails is removed while another replica has a good one.
 *
 * Sans I/O: how the copy is reached, and what is written again to it, is `SteadyRequests`'s.
 */

import { sectorBytes } from '../base/units.ts'
import { NbdError } from '../disk/nbd-error.ts'
import type { DiskOutcome, DiskWork, SteadyRequests } from '../disk/steady-requests.ts'
import { Turns } from '../disk/turns.ts'
import type { DiskAnswer as LoggedDiskAnswer } from '../hypervisor/replayer.ts'
import type { DiskRequest } from '../log/entry.ts'
import { answerOf, type DiskAnswer, type DiskFollower, workOf } from './disk-requests.ts'

/** A backup whose copy is so far behind counts as failed: what its disk has not taken is this process's memory. */
const maxBehindBytes = 256 * 1024 * 1024

export interface OwnDiskOptions {
  /** The way to the copy. */
  readonly steady: Pick<SteadyRequests, 'request' | 'secure'>
  /** Whether another replica has a good copy: then an error here is no error of the machine's. */
  readonly hasOther: () => boolean
  readonly onAnswer: (answer: DiskAnswer) => void
  /** This copy has failed while another replica has a good one. */
  readonly onFailed: (error: Error) => void
  /** Calls it after a while, for as long as this replica lives. */
  readonly later: (again: () => void) => void
  readonly trace: (line: string) => void
}

export class OwnDiskRequests implements DiskFollower {
  readonly #options: OwnDiskOptions
  readonly #turns = new Turns()
  /** Changes that it followed, and the log has no answer to. */
  readonly #open = new Set<bigint>()
  #behindBytes = 0
  #isLive = false

  constructor(options: OwnDiskOptions) {
    this.#options = options
  }

  /** A backup's machine made this request again. */
  onRequest(request: DiskRequest): void {
    const { onFailed } = this.#options
    const work = workOf(request)
    if (work.operation === 'read') return
    if (work.operation !== 'flush') this.#open.add(request.sequence)
    const lengthBytes = work.operation === 'write' ? work.data.length : 0
    this.#behindBytes += lengthBytes
    if (this.#behindBytes > maxBehindBytes && !this.#isLive) {
      onFailed(new Error(`it is ${this.#behindBytes} bytes behind the primary's`))
    }
    this.#perform(work, (outcome) => {
      this.#behindBytes -= lengthBytes
      if (outcome instanceof NbdError) onFailed(outcome)
    })
  }

  /**
   * … and its log has the answer, which is the primary's disk's: this one answers for itself. But where the primary could not make
   * a change, and told its guest so because it did not know yet of a good copy here, the two differ: this side must be copied anew.
   */
  onAnswer({ sequence, status }: Pick<LoggedDiskAnswer, 'sequence' | 'status'>): void {
    if (!this.#open.delete(sequence) || status !== 'ioError') return
    this.#options.onFailed(new Error('the primary could not make a change that was made here: the copies differ'))
  }

  /**
   * This replica is live. Later requests have their turn after what it followed.
   * @param done all that it followed is on stable storage. A disk that fails to do that, with no other copy to be had, is asked
   *   again and again: no guest hears of it, and what is kept is written again before the guest's next flush
   */
  goLive(done: () => void): void {
    this.#isLive = true
    this.#turns.afterChanges(() => this.#secure(done))
  }

  #secure(done: () => void): void {
    const { steady, hasOther, onFailed, later, trace } = this.#options
    steady.secure((error) => {
      if (!error) done()
      else if (hasOther()) onFailed(error)
      else {
        trace(
          `own copy: what was followed is not on stable storage yet, and no backup is started before: ${error.message}`,
        )
        later(() => this.#secure(done))
      }
    })
  }

  /** A live replica's machine asks for this. */
  issue(request: DiskRequest): void {
    const { hasOther, onAnswer, onFailed } = this.#options
    this.#perform(workOf(request), (outcome) => {
      if (outcome instanceof NbdError && hasOther()) onFailed(outcome)
      else onAnswer(answerOf(request, outcome))
    })
  }

  /** A backup is going to read: what its machine changes afterwards waits until `over`. */
  inTurn({ sector, lengthBytes }: DiskRequest, begin: (over: () => void) => void): void {
    const range = { offset: Number(sector) * sectorBytes, lengthBytes, isChange: false }
    this.#turns.inTurn(range, begin)
  }

  /** One attempt of a backup to read what has its turn. */
  read(request: DiskRequest, done: (outcome: DiskOutcome) => void): void {
    this.#options.steady.request(workOf(request), done)
  }

  /** Calls `then` when every change that was asked for has ended. */
  afterChanges(then: () => void): void {
    this.#turns.afterChanges(then)
  }

  #perform(work: DiskWork, done: (outcome: DiskOutcome) => void): void {
    const { steady } = this.#options
    if (work.operation === 'flush') {
      // The primary's copy had answered what the guest flushes, and this one may not have yet.
      this.#turns.afterChanges(() => steady.request(work, done))
      return
    }
    const lengthBytes = work.operation === 'write' ? work.data.length : work.lengthBytes
    const range = { offset: work.offset, lengthBytes, isChange: work.operation !== 'read' }
    this.#turns.inTurn(range, (over) =>
      steady.request(work, (outcome) => {
        over()
        done(outcome)
      }),
    )
  }
}
