/**
 * One disk of the machine, from a replica's side: of which kinds there are two.
 *
 * - `SharedDisk`: one for both replicas, a part of the world outside. Only the primary changes it; a backup keeps what its
 *   log says is written and not flushed, and begins with that when it goes live.
 * - `OwnDisk`: each replica has its own copy, a part of the machine (VMware FT: non-shared disks). A backup makes the same
 *   changes to its copy as its machine replays; the primary's answers are in the log, and its own are thrown away.
 *
 * What the guest reads is in the log, or a backup reads it too (replayed-reads.ts): then from a shared disk without a pass,
 * which is good for reading only and in every generation, and from its own copy in turn with the changes that it makes there.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { sectorBytes } from '../base/units.ts'
import { bootIdOf, type ReplicaPass } from '../disk/names.ts'
import { NbdClient } from '../disk/nbd-client.ts'
import { NbdError } from '../disk/nbd-error.ts'
import { SteadyDisk } from '../disk/steady-disk.ts'
import type { DiskWork } from '../disk/steady-requests.ts'
import { Turns } from '../disk/turns.ts'
import type { DiskAnswer as LoggedDiskAnswer } from '../hypervisor/replayer.ts'
import type { DiskRequest } from '../log/entry.ts'
import type { Endpoint } from '../net/address.ts'
import { answerOf, type DiskAnswer, FollowedRequests, workOf } from '../replica/disk-requests.ts'
import { ReplayedReads } from './replayed-reads.ts'

export interface DiskEvents {
  readonly onAnswer: (answer: DiskAnswer) => void
  /** A backup has read what its primary read. */
  readonly onRead: (sequence: bigint, data: Uint8Array) => void
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
   * … and wants what it reads: the log has it without data, or may have.
   * @param wasOther it was read, and was not what the primary has read
   */
  readAgain(request: DiskRequest, wasOther?: boolean): void
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
  readonly #reads: ReplayedReads
  /** A backup's connection, made for its first read. */
  #reader: SteadyDisk | undefined

  constructor(place: DiskPlace, events: DiskEvents) {
    this.#place = place
    this.#events = events
    this.#steady = new SteadyDisk({ bootIdOf, onFenced: events.onFenced, trace: events.trace })
    this.#followed = new FollowedRequests(this.#steady.unflushed)
    this.#reads = new ReplayedReads({ ...events, read: (request) => this.#read(request) })
  }

  get inFlight(): number {
    return this.#steady.inFlight
  }

  begin(): void {}

  async goLive(pass: ReplicaPass): Promise<void> {
    this.#followed.clear()
    this.#reads.end()
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

  readAgain(request: DiskRequest, wasOther = false): void {
    void this.#reads.begin(request, wasOther)
  }

  async #read(request: DiskRequest): Promise<Uint8Array> {
    this.#reader ??= this.#connectReader()
    const data = (await this.#reader.request(workOf(request)))!
    // After a crash of its server the disk may lack writes until the primary has sent them again.
    this.#steady.unflushed.mend(rangeOf(request).offset, data)
    return data
  }

  #connectReader(): SteadyDisk {
    const { endpoint, exportName } = this.#place
    const reader = new SteadyDisk({ bootIdOf, trace: this.#events.trace })
    void reader.connect(() => NbdClient.connect({ ...endpoint, exportName }))
    return reader
  }

  followAnswer(answer: LoggedDiskAnswer): void {
    this.#reads.onAnswer(answer.sequence)
    this.#followed.onAnswer(answer)
  }

  async secure(): Promise<void> {
    await this.#steady.secure()
  }

  async close(): Promise<void> {
    this.#reads.end()
    await Promise.all([this.#reader?.close(), this.#steady.close()])
  }

  drop(): void {
    this.#reads.end()
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
  readonly #reads: ReplayedReads
  #behindBytes = 0
  #isConnected = false
  #isLive = false
  #isDropped = false

  constructor(place: DiskPlace, hasOther: () => boolean, events: DiskEvents) {
    this.#place = place
    this.#events = events
    this.#hasOther = hasOther
    this.#steady = new SteadyDisk({ bootIdOf, onFenced: events.onFenced, trace: events.trace })
    this.#reads = new ReplayedReads({
      ...events,
      read: async (request) => (await this.#steady.request(workOf(request)))!,
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
   * Resolves when all that it followed is on stable storage; later requests have their turn after it anyway.
   * @throws NbdError it is not, and no guest has heard of that; it is kept, and written again before the guest's next flush
   */
  async goLive(pass: ReplicaPass): Promise<void> {
    this.begin(pass)
    this.#isLive = true
    this.#reads.end()
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

  /** In turn: what the machine changes afterwards waits until it was read. */
  readAgain(request: DiskRequest, wasOther = false): void {
    void this.#turns.inTurn(rangeOf(request), () => this.#reads.begin(request, wasOther))
  }

  /** The log's answers are the primary's disk's: this one answers for itself. */
  followAnswer({ sequence }: LoggedDiskAnswer): void {
    this.#reads.onAnswer(sequence)
  }

  /** A backup has what it needs on its own copy. */
  async secure(): Promise<void> {}

  async close(): Promise<void> {
    this.#reads.end()
    if (!this.#isDropped) await Promise.race([this.#turns.afterChanges(async () => {}), sleep(closeTimeoutMs)])
    await this.#steady.close()
  }

  drop(): void {
    this.#isDropped = true
    this.#reads.end()
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
  outcome.then(
    (data) => onAnswer(answerOf(request, data)),
    (error) => {
      if (!(error instanceof NbdError)) throw error
      onAnswer(answerOf(request, error), error)
    },
  )
}

function rangeOf({ sector, lengthBytes }: DiskRequest) {
  return { offset: Number(sector) * sectorBytes, lengthBytes, isChange: false }
}
