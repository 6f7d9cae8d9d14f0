/**
 * One disk of the machine, from a replica's side: of which kinds there are two.
 *
 * - `SharedDisk`: one for both replicas, a part of the world outside. Only the primary changes it; a backup keeps what its
 *   log says is written and not flushed, and begins with that when it goes live.
 * - `OwnDisk`: each replica has its own copy, a part of the machine (VMware FT: non-shared disks). A backup makes the same
 *   changes to its copy as its machine replays; the primary's answers are in the log, and its own are thrown away.
 *
 * What the guest reads is in the log, or a backup reads it too (replica/replayed-reads.ts): then from a shared disk without a pass,
 * which is good for reading only and in every generation, and from its own copy in turn with the changes that it makes there.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { sectorBytes } from '../base/units.ts'
import { bootIdOf, type ReplicaPass } from '../disk/names.ts'
import { NbdClient } from '../disk/nbd-client.ts'
import { NbdError } from '../disk/nbd-error.ts'
import { SteadyDisk } from '../disk/steady-disk.ts'
import type { DiskOutcome, DiskWork } from '../disk/steady-requests.ts'
import { Turns } from '../disk/turns.ts'
import type { DiskAnswer as LoggedDiskAnswer } from '../hypervisor/replayer.ts'
import type { DiskRequest } from '../log/entry.ts'
import type { Endpoint } from '../net/address.ts'
import { answerOf, type DiskAnswer, FollowedRequests, workOf } from '../replica/disk-requests.ts'

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
    answerWith(this.#steady.request(workOf(request)), request, (answer) => this.#events.onAnswer(answer))
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

/** A backup whose copy is so far behind counts as failed: what its disk has not taken is this process's memory. */
const maxBehindBytes = 256 * 1024 * 1024

/** An orderly end waits so long for a disk. */
const closeTimeoutMs = 2000

export class OwnDisk implements DiskOfReplica {
  readonly #steady: SteadyDisk
  readonly #place: DiskPlace
  readonly #turns = new Turns()
  readonly #events: DiskEvents
  /** Whether another replica has a good copy: then an error here is no error of the machine's. */
  readonly #hasOther: () => boolean
  #behindBytes = 0
  #isConnected = false
  #isLive = false
  #isDropped = false

  constructor(place: DiskPlace, hasOther: () => boolean, events: DiskEvents) {
    this.#place = place
    this.#events = events
    this.#hasOther = hasOther
    this.#steady = new SteadyDisk({ bootIdOf, onFenced: events.onFenced, trace: events.trace })
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
   * Resolves when all that it followed is on stable storage; later requests have their turn after it anyway.
   * @throws NbdError it is not, and no guest has heard of that; it is kept, and written again before the guest's next flush
   */
  async goLive(pass: ReplicaPass): Promise<void> {
    this.begin(pass)
    this.#isLive = true
    try {
      await this.#turns.afterChanges(() => this.#steady.secure())
    } catch (error) {
      if (error instanceof NbdError && this.#hasOther()) this.#events.onOwnDiskFailed(error)
      throw error
    }
  }

  issue(request: DiskRequest): void {
    answerWith(this.#perform(workOf(request)), request, (answer, error) => {
      if (error && this.#hasOther()) this.#events.onOwnDiskFailed(error)
      else this.#events.onAnswer(answer)
    })
  }

  followRequest(request: DiskRequest): void {
    const work = workOf(request)
    if (work.operation === 'read') return
    const lengthBytes = work.operation === 'write' ? work.data.length : 0
    this.#behindBytes += lengthBytes
    if (this.#behindBytes > maxBehindBytes && !this.#isLive) {
      this.#events.onOwnDiskFailed(new Error(`it is ${this.#behindBytes} bytes behind the primary's`))
    }
    this.#perform(work)
      .catch((error) => {
        if (!(error instanceof NbdError)) throw error
        this.#events.onOwnDiskFailed(error)
      })
      .finally(() => {
        this.#behindBytes -= lengthBytes
      })
  }

  /** What the machine changes afterwards waits until it was read. */
  inTurn({ sector, lengthBytes }: DiskRequest, begin: (over: () => void) => void): void {
    const range = { offset: Number(sector) * sectorBytes, lengthBytes, isChange: false }
    void this.#turns.inTurn(range, () => new Promise<void>(begin))
  }

  /** It has its turn already. */
  read(request: DiskRequest, done: (outcome: DiskOutcome) => void): void {
    tellOutcome(this.#steady.request(workOf(request)), done)
  }

  /** The log's answers are the primary's disk's: this one answers for itself. */
  followAnswer(): void {}

  /** A backup has what it needs on its own copy. */
  async secure(): Promise<void> {}

  async close(): Promise<void> {
    if (!this.#isDropped) await Promise.race([this.#turns.afterChanges(async () => {}), sleep(closeTimeoutMs)])
    await this.#steady.close()
  }

  drop(): void {
    this.#isDropped = true
    this.#steady.drop()
  }

  async #perform(work: DiskWork): Promise<Uint8Array | undefined> {
    // The primary's copy had answered what the guest flushes, and this one may not have yet.
    if (work.operation === 'flush') return await this.#turns.afterChanges(() => this.#steady.request(work))
    const lengthBytes = work.operation === 'write' ? work.data.length : work.lengthBytes
    const range = { offset: work.offset, lengthBytes, isChange: work.operation !== 'read' }
    return await this.#turns.inTurn(range, () => this.#steady.request(work))
  }
}

function answerWith(
  outcome: Promise<Uint8Array | undefined>,
  request: DiskRequest,
  onAnswer: (answer: DiskAnswer, error?: NbdError) => void,
): void {
  tellOutcome(outcome, (told) => onAnswer(answerOf(request, told), told instanceof NbdError ? told : undefined))
}

/** An error that is not the disk's own is a broken invariant. */
function tellOutcome(outcome: Promise<Uint8Array | undefined>, told: (outcome: DiskOutcome) => void): void {
  outcome.then(told, (error) => {
    if (!(error instanceof NbdError)) throw error
    told(error)
  })
}
