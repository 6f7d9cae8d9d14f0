/**
 * A replica's connection to its own copy of the disk, which nobody else writes to: the real `OwnDiskRequests` and
 * `DisksWithCopies` over fake connections. Before it follows, a backup makes its copy equal to its primary's
 * (copy-line.ts).
 */

import { formatExportName } from '../disk/names.ts'
import { SteadyRequests } from '../disk/steady-requests.ts'
import type { DiskAnswer as LoggedDiskAnswer, NeededRead } from '../hypervisor/replayer.ts'
import type { DiskRequest, MarkedOutput } from '../log/entry.ts'
import { beginInTheMiddle, followInOrder } from '../replica/disk-requests.ts'
import { DisksWithCopies, type NearlyEqualCopies } from '../replica/disks-with-copies.ts'
import { OwnDiskRequests } from '../replica/own-disk.ts'
import { ReplayedReads } from '../replica/replayed-reads.ts'
import type { DisksPort } from '../replica/replica-world.ts'
import { type DiskLineOptions, readAgainMs, reconnectIntervalMs } from './disk-line.ts'
import { openSteadily } from './disk-link.ts'
import { copyAddress, copyName, machineName, token } from './names.ts'

export interface OwnDiskLineOptions extends DiskLineOptions {
  /** Another replica has a good copy, too. */
  readonly hasOther: () => boolean
  /** This copy has failed while another one is good. */
  readonly onFailed: (error: Error) => void
  readonly isPrimary: () => boolean
  /** All that it followed is on its copy: from here on that is the machine's disk. */
  readonly stampLive: (generation: number) => void
}

const secureAgainMs = 100

export class OwnDiskLine implements DisksPort {
  readonly steady: SteadyRequests
  readonly #requests: OwnDiskRequests
  readonly #disks: DisksWithCopies
  readonly #reads: ReplayedReads
  #hasBegun = false

  constructor(options: OwnDiskLineOptions) {
    const { actor, replica } = options
    const pass = { machine: machineName, generation: 0, replica, token }
    this.steady = new SteadyRequests({
      connect: () => {
        const exportName = formatExportName(copyName(replica), pass)
        openSteadily(this.steady, { ...options, host: replica, address: copyAddress(replica), exportName })
      },
      connectLater: () => actor.after(reconnectIntervalMs * 1000, () => this.steady.connect()),
      onFenced: options.onFenced,
      trace: (line) => {
        if (line.includes('is refused now')) options.onRestoreRefused()
      },
    })
    this.#requests = new OwnDiskRequests({
      ...options,
      steady: this.steady,
      later: (again) => actor.after(secureAgainMs * 1000, again),
      trace: () => {},
    })
    this.#reads = new ReplayedReads({
      readsAhead: options.readsAhead,
      inTurn: (request, begin) => this.#requests.inTurn(request, begin),
      read: (request, done) => this.#requests.read(request, done),
      later: (again) => actor.after(readAgainMs * 1000, again),
      onRead: options.onRead,
      trace: () => {},
    })
    const followers = [this.#requests, this.#reads]
    this.#disks = new DisksWithCopies({
      disks: {
        issue: (request) => this.#requests.issue(request),
        onReplayed: (outputs, answers) => followInOrder(outputs, answers, followers),
        readAgain: (need) => this.#reads.onNeeded(need),
        flush: (done) => done(),
        follow: (requests) => beginInTheMiddle(requests, followers),
        begin: () => this.#begin(),
        connect: (_generation, done) => {
          this.#reads.end()
          this.#begin()
          this.#requests.goLive(done)
        },
      },
      hasOwn: () => true,
      isPrimary: options.isPrimary,
      stampLive: options.stampLive,
    })
  }

  /** Its stamp says so, or need not. */
  get isSafe(): boolean {
    return this.#disks.isSafe
  }

  /** Of a backup, before it follows. */
  take(copies: NearlyEqualCopies): void {
    this.#disks.take(copies)
  }

  /** Of a machine's first replica: `done` when it has its copy, and what an earlier run of it had left on the way has drained. */
  start(done: () => void): void {
    this.#begin()
    this.#requests.goLive(done)
  }

  connect(generation: number): void {
    this.#disks.connect(generation)
  }

  issue(request: DiskRequest): void {
    this.#disks.issue(request)
  }

  onReplayed(outputs: readonly MarkedOutput[], answers: readonly LoggedDiskAnswer[]): void {
    this.#disks.onReplayed(outputs, answers)
  }

  readAgain(need: NeededRead): void {
    this.#disks.readAgain(need)
  }

  onRestored(inFlight: readonly DiskRequest[], done: () => void): void {
    this.#disks.onRestored(inFlight, done)
  }

  flush(done: () => void, failed: (detail: string) => void): void {
    this.#disks.flush(done, failed)
  }

  /** The replica has ended. */
  drop(): void {
    this.#reads.end()
    this.steady.drop()
  }

  #begin(): void {
    if (this.#hasBegun) return
    this.#hasBegun = true
    this.steady.connect()
  }
}
