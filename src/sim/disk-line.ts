/**
 * A replica's connection to its disk: the real `SteadyRequests` over fake connections, and the real `FollowedRequests` of a
 * backup, which knows by the log what may be lost. A backup that reads for itself has another connection, without a pass.
 */

import { formatExportName } from '../disk/names.ts'
import { type DiskOutcome, SteadyRequests } from '../disk/steady-requests.ts'
import type { DiskAnswer as LoggedDiskAnswer, NeededRead } from '../hypervisor/replayer.ts'
import type { DiskRequest, MarkedOutput } from '../log/entry.ts'
import {
  answerOf,
  beginInTheMiddle,
  type DiskAnswer,
  type DiskFollower,
  FollowedRequests,
  followInOrder,
  workOf,
} from '../replica/disk-requests.ts'
import { ReplayedReads } from '../replica/replayed-reads.ts'
import type { DisksPort } from '../replica/replica-world.ts'
import type { Actor } from './actor.ts'
import { openSteadily } from './disk-link.ts'
import { diskHost, exportName, machineName, token } from './names.ts'
import type { Network } from './network.ts'

export interface DiskLineOptions {
  readonly actor: Actor
  readonly network: Network
  readonly replica: string
  /** A backup reads as soon as its machine asks: the log is going to leave out what was read. */
  readonly readsAhead: boolean
  readonly onAnswer: (answer: DiskAnswer) => void
  /** A backup has read what its primary read. */
  readonly onRead: (sequence: bigint, data: Uint8Array) => void
  readonly onFenced: () => void
  /** The disk refuses to take again what its crash may have undone: the guest hears of it with its next flush. */
  readonly onRestoreRefused: () => void
  /** A flush for the sake of a new backup has failed. */
  readonly onFlushFailed: () => void
}

export const reconnectIntervalMs = 50
export const readAgainMs = 20

export class DiskLine implements DisksPort {
  readonly steady: SteadyRequests
  readonly #options: DiskLineOptions
  readonly #followed: FollowedRequests
  /** Of a backup. */
  readonly #reader: SteadyRequests
  readonly #reads: ReplayedReads
  readonly #followers: readonly DiskFollower[]
  #generation = 0

  constructor(options: DiskLineOptions) {
    this.#options = options
    this.#reader = new SteadyRequests({
      connect: () => this.#connect(this.#reader, exportName),
      connectLater: () => options.actor.after(reconnectIntervalMs * 1000, () => this.#reader.connect()),
      trace: () => {},
    })
    this.steady = new SteadyRequests({
      connect: () => {
        const pass = { machine: machineName, generation: this.#generation, replica: options.replica, token }
        this.#connect(this.steady, formatExportName(exportName, pass))
      },
      connectLater: () => options.actor.after(reconnectIntervalMs * 1000, () => this.steady.connect()),
      onFenced: options.onFenced,
      trace: (line) => {
        if (line.includes('is refused now')) options.onRestoreRefused()
      },
    })
    this.#followed = new FollowedRequests(this.steady.unflushed)
    this.#reads = new ReplayedReads({
      readsAhead: options.readsAhead,
      inTurn: (_request, begin) => begin(() => {}),
      read: (request, done) => this.#read(request, done),
      later: (again) => options.actor.after(readAgainMs * 1000, again),
      onRead: options.onRead,
      trace: () => {},
    })
    this.#followers = [this.#followed, this.#reads]
  }

  connect(generation: number): void {
    this.#followed.clear()
    this.#reads.end()
    this.#reader.drop()
    this.#generation = generation
    this.steady.connect()
  }

  issue(request: DiskRequest): void {
    this.steady.request(workOf(request), (outcome) => this.#options.onAnswer(answerOf(request, outcome)))
  }

  onReplayed(outputs: readonly MarkedOutput[], answers: readonly LoggedDiskAnswer[]): void {
    followInOrder(outputs, answers, this.#followers)
  }

  readAgain(need: NeededRead): void {
    this.#reads.onNeeded(need)
  }

  #read(request: DiskRequest, done: (outcome: DiskOutcome) => void): void {
    this.#reader.connect()
    this.#reader.request(workOf(request), (outcome) => {
      if (outcome instanceof Uint8Array) this.#followed.mend(request, outcome)
      done(outcome)
    })
  }

  /** The replica has ended. */
  drop(): void {
    this.#reads.end()
    this.#reader.drop()
    this.steady.drop()
  }

  onRestored(inFlight: readonly DiskRequest[], done: () => void): void {
    beginInTheMiddle(inFlight, this.#followers)
    done()
  }

  flush(done: () => void, failed: (detail: string) => void): void {
    this.steady.secure((error) => {
      if (error) {
        this.#options.onFlushFailed()
        failed(error.message)
      } else done()
    })
  }

  #connect(steady: SteadyRequests, name: string): void {
    const { actor, network } = this.#options
    openSteadily(steady, { actor, network, host: diskHost, address: 'disk', exportName: name })
  }
}
