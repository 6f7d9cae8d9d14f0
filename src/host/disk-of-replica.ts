/**
 * One disk of the machine, from a replica's side: of which kinds there are two.
 *
 * - `SharedDisk`: one for both replicas, a part of the world outside. Only the primary changes it; a backup keeps what its
 *   log says is written and not flushed, and begins with that when it goes live.
 * - `OwnDisk`: each replica has its own copy, a part of the machine (VMware FT: non-shared disks). A backup makes the same
 *   changes to its copy as its machine replays (replica/own-disk.ts); the primary's answers are in the log, and its own are
 *   thrown away.
 *
 * What the guest reads is in the log, or a backup reads it too (replica/replayed-reads.ts): then from a shared disk without a pass,
 * which is good for reading only and in every generation, and from its own copy in turn with the changes that it makes there.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { bootIdOf, type ReplicaPass } from '../disk/names.ts'
import { NbdClient } from '../disk/nbd-client.ts'
import { NbdError } from '../disk/nbd-error.ts'
import { SteadyDisk } from '../disk/steady-disk.ts'
import type { DiskOutcome } from '../disk/steady-requests.ts'
import { tellOutcome } from '../disk/tell-outcome.ts'
import type { DiskAnswer as LoggedDiskAnswer } from '../hypervisor/replayer.ts'
import type { DiskRequest } from '../log/entry.ts'
import type { Endpoint } from '../net/address.ts'
import { answerOf, type DiskAnswer, FollowedRequests, workOf } from '../replica/disk-requests.ts'
import { OwnDiskRequests } from '../replica/own-disk.ts'

export interface DiskEvents {
  readonly onAnswer: (answer: DiskAnswer) => void
  /** The arbiter has given the disk to a later generation: this replica must stop. */
  readonly onFenced: (error: Error) => void
  /** This replica's own copy has failed while another replica has a good one. */
  readonly onOwnDiskFailed: (error: Error) => void
  readonly trace: (line: string) => void
}

export interface DiskPlace {
  readonly endpoint: Endpoint
  readonly exportName: string
}

export interface DiskOfReplica {
  readonly inFlight: number
  /** A backup's copies are equal to the primary's, up to what its machine changes from now on. */
  begin(pass: ReplicaPass): void
  /** The replica is live, with this pass. Requests that were issued before wait for it. @throws NbdError */
  goLive(pass: ReplicaPass): Promise<void>
  issue(request: DiskRequest): void
  /** A backup's machine made this request again. */
  followRequest(request: DiskRequest): void
  /**
   * … and wants what it reads: calls `begin` when what was asked of this disk before it, and is in its way, has ended, and
   * keeps back what comes later until `over`.
   */
  inTurn(request: DiskRequest, begin: (over: () => void) => void): void
  /** One attempt to read it. */
  read(request: DiskRequest, done: (outcome: DiskOutcome) => void): void
  /** … and its log has the answer. */
  followAnswer(answer: LoggedDiskAnswer): void
  /** What the disk has answered and might lose is on stable storage, where a new backup would have to know it. @throws NbdError */
  secure(): Promise<void>
  close(): Promise<void>
  /** For a replica that halts: no request is sent again, none is waited for. */
  drop(): void
}

export class SharedDisk implements DiskOfReplica {
  readonly #steady: SteadyDisk
  readonly #place: DiskPlace
  readonly #events: DiskEvents
  readonly #followed: FollowedRequests
  /** A backup's connection, made for its first read. */
  #reader: SteadyDisk | undefined

  constructor(place: DiskPlace, events: DiskEvents) {
    this.#place = place
    this.#events = events
    this.#steady = new SteadyDisk({ bootIdOf, onFenced: events.onFenced, trace: events.trace })
    this.#followed = new FollowedRequests(this.#steady.unflushed)
  }

  get inFlight(): number {
    return this.#steady.inFlight
  }

  begin(): void {}

  async goLive(pass: ReplicaPass): Promise<void> {
    this.#followed.clear()
    void this.#reader?.close()
    const { endpoint, exportName } = this.#place
    await this.#steady.connect(() => NbdClient.connect({ ...endpoint, exportName, pass }))
  }

  issue(request: DiskRequest): void {
    tellOutcome(this.#steady.request(workOf(request)), (outcome) => this.#events.onAnswer(answerOf(request, outcome)))
  }

  followRequest(request: DiskRequest): void {
    this.#followed.onRequest(request)
  }

  /** Nobody but the primary changes it, and the primary waits for this backup's reads. */
  inTurn(_request: DiskRequest, begin: (over: () => void) => void): void {
    begin(() => {})
  }

  read(request: DiskRequest, done: (outcome: DiskOutcome) => void): void {
    this.#reader ??= this.#connectReader()
    tellOutcome(this.#reader.request(workOf(request)), (outcome) => {
      if (outcome instanceof Uint8Array) this.#followed.mend(request, outcome)
      done(outcome)
    })
  }

  #connectReader(): SteadyDisk {
    const { endpoint, exportName } = this.#place
    const reader = new SteadyDisk({ bootIdOf, trace: this.#events.trace })
    void reader.connect(() => NbdClient.connect({ ...endpoint, exportName }))
    return reader
  }

  followAnswer(answer: LoggedDiskAnswer): void {
    this.#followed.onAnswer(answer)
  }

  async secure(): Promise<void> {
    await this.#steady.secure()
  }

  async close(): Promise<void> {
    await Promise.all([this.#reader?.close(), this.#steady.close()])
  }

  drop(): void {
    this.#reader?.drop()
    this.#steady.drop()
  }
}

/** An orderly end waits so long for a disk. */
const closeTimeoutMs = 2000
/** Between two attempts to bring what was followed to stable storage. */
const secureAgainMs = 1000

/** The connection of an `OwnDiskRequests`, which decides. */
export class OwnDisk implements DiskOfReplica {
  readonly #steady: SteadyDisk
  readonly #place: DiskPlace
  readonly #requests: OwnDiskRequests
  #isConnected = false
  #isDropped = false
  #secureAgain: NodeJS.Timeout | undefined

  constructor(place: DiskPlace, hasOther: () => boolean, events: DiskEvents) {
    this.#place = place
    const steady = new SteadyDisk({ bootIdOf, onFenced: events.onFenced, trace: events.trace })
    this.#steady = steady
    this.#requests = new OwnDiskRequests({
      steady: {
        request: (work, answered) => tellOutcome(steady.request(work), answered),
        secure: (answered) =>
          tellOutcome(
            steady.secure().then(() => undefined),
            (outcome) => answered(outcome instanceof NbdError ? outcome : undefined),
          ),
      },
      hasOther,
      onAnswer: events.onAnswer,
      onFailed: events.onOwnDiskFailed,
      later: (again) => {
        this.#secureAgain = setTimeout(again, secureAgainMs)
      },
      trace: events.trace,
    })
  }

  get inFlight(): number {
    return this.#steady.inFlight
  }

  /** Its connection is the right to the copy, in whatever generation; it takes that from every earlier one. */
  begin(pass: ReplicaPass): void {
    if (this.#isConnected) return
    this.#isConnected = true
    const { endpoint, exportName } = this.#place
    void this.#steady.connect(() => NbdClient.connect({ ...endpoint, exportName, pass }))
  }

  /**
   * Resolves when all that it followed is on stable storage, which may need several attempts; later requests have their turn after
   * it anyway.
   */
  async goLive(pass: ReplicaPass): Promise<void> {
    this.begin(pass)
    await new Promise<void>((resolve) => this.#requests.goLive(resolve))
  }

  issue(request: DiskRequest): void {
    this.#requests.issue(request)
  }

  followRequest(request: DiskRequest): void {
    this.#requests.onRequest(request)
  }

  /** What the machine changes afterwards waits until it was read. */
  inTurn(request: DiskRequest, begin: (over: () => void) => void): void {
    this.#requests.inTurn(request, begin)
  }

  /** It has its turn already. */
  read(request: DiskRequest, done: (outcome: DiskOutcome) => void): void {
    this.#requests.read(request, done)
  }

  followAnswer(answer: LoggedDiskAnswer): void {
    this.#requests.onAnswer(answer)
  }

  /** A backup has what it needs on its own copy. */
  async secure(): Promise<void> {}

  async close(): Promise<void> {
    clearTimeout(this.#secureAgain)
    const changesAreOver = (): Promise<void> => new Promise((resolve) => this.#requests.afterChanges(resolve))
    if (!this.#isDropped) await Promise.race([changesAreOver(), sleep(closeTimeoutMs)])
    await this.#steady.close()
  }

  drop(): void {
    this.#isDropped = true
    clearTimeout(this.#secureAgain)
    this.#steady.drop()
  }
}
