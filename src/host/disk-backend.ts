/**
 * The machine's disks as the host sees them: requests that the output gate released go out over NBD, answers come back
 * as inputs. When the disk server is gone, requests wait and are issued again in order: the guest sees a slow disk, never
 * an error (VMware FT: outstanding I/O is re-issued). What the server answered and may have lost in a crash is kept and
 * written again (`SteadyDisk`).
 *
 * A backup keeps the same: it follows the log, in which a request's start is its marker and its answer a completion. So
 * the replica that goes live has what the guest takes for written, and begins by writing it again, because it cannot know
 * whether the server it meets is the one that answered. The device bounds what is kept: it flushes by itself, in both
 * replicas at the same instruction.
 *
 * It reads for itself what the log leaves out (replica/replayed-reads.ts).
 *
 * Of a disk each replica may have its own copy instead: then a backup makes the same changes as its machine replays
 * (disk-of-replica.ts).
 */

import type { ReplicaPass } from '../disk/names.ts'
import { NbdClient } from '../disk/nbd-client.ts'
import type { DiskAnswer as LoggedDiskAnswer, NeededRead } from '../hypervisor/replayer.ts'
import type { DiskRequest, MarkedOutput } from '../log/entry.ts'
import { type Endpoint, keyOf } from '../net/address.ts'
import { beginInTheMiddle, type DiskFollower, followInOrder } from '../replica/disk-requests.ts'
import { ReplayedReads } from '../replica/replayed-reads.ts'
import { type DiskEvents, type DiskOfReplica, OwnDisk, SharedDisk } from './disk-of-replica.ts'

/** Between two attempts to read what the primary could read. */
const readAgainMs = 100

export interface DiskBackendOptions extends Omit<DiskEvents, 'onOwnDiskFailed'> {
  readonly endpoint: Endpoint
  /** Name of the export of each disk. */
  readonly exports: readonly string[]
  readonly machine: string
  readonly replica: string
  readonly token: string
  /** A backup has read what its primary read. */
  readonly onRead: (sequence: bigint, data: Uint8Array) => void
  /** Numbers of the disks of which this replica has its own copy. Default: none. */
  readonly own?: OwnDisksOptions
  /** The log is going to leave out what is read: a backup reads as soon as its machine asks. Default: when the log says so. */
  readonly readsAhead?: boolean
}

export interface OwnDisksOptions {
  readonly disks: ReadonlySet<number>
  /** Whether another replica has good copies, too: then a failure of ours is no error of the machine's. */
  readonly hasOther: () => boolean
  readonly onFailed: (error: Error) => void
}

/** Sizes of these exports in bytes, read without a pass: anybody with the key may look. @throws NbdError */
export async function diskSizes(endpoint: Endpoint, exports: readonly string[]): Promise<number[]> {
  const sizes: number[] = []
  for (const exportName of exports) {
    const client = await NbdClient.connect({ ...endpoint, exportName })
    sizes.push(client.sizeBytes)
    await client.close()
  }
  return sizes
}

export class DiskBackend {
  readonly #options: DiskBackendOptions
  readonly #disks: readonly DiskOfReplica[]
  /** Of a backup. */
  readonly #reads: ReplayedReads
  readonly #followers: readonly DiskFollower[]

  constructor(options: DiskBackendOptions) {
    // A mistake in the configuration is told now, not as a disk out of reach.
    keyOf(options.endpoint, 'disk')
    this.#options = options
    const { endpoint, exports, own } = options
    const events: DiskEvents = { ...options, onOwnDiskFailed: (error) => own?.onFailed(error) }
    this.#disks = exports.map((exportName, disk) => {
      const place = { endpoint, exportName }
      return own?.disks.has(disk) ? new OwnDisk(place, own.hasOther, events) : new SharedDisk(place, events)
    })
    this.#reads = new ReplayedReads({
      readsAhead: options.readsAhead ?? false,
      inTurn: (request, begin) => this.#disks[request.disk]!.inTurn(request, begin),
      read: (request, done) => this.#disks[request.disk]!.read(request, done),
      later: (again) => setTimeout(again, readAgainMs),
      onRead: options.onRead,
      trace: options.trace,
    })
    const disks: DiskFollower = {
      onRequest: (request) => this.#disks[request.disk]!.followRequest(request),
      onAnswer: (answer) => {
        for (const disk of this.#disks) disk.followAnswer(answer)
      },
    }
    this.#followers = [disks, this.#reads]
  }

  /** A backup's own copies, if it has any, are equal to the primary's: changes that were followed are made from now on. */
  begin(): void {
    for (const disk of this.#disks) disk.begin(this.#passIn(0))
  }

  /**
   * Connects every disk in the generation that was just won. Requests issued before that wait for it. A replica that
   * was a backup has followed the whole log by now.
   */
  async connect(generation: bigint): Promise<void> {
    this.#reads.end()
    const pass = this.#passIn(Number(generation))
    await Promise.all(this.#disks.map((disk) => disk.goLive(pass)))
  }

  issue(request: DiskRequest): void {
    this.#disks[request.disk]!.issue(request)
  }

  /** A backup's machine replayed these: requests that it made again, and answers that entered it. Each in log order. */
  onReplayed(outputs: readonly MarkedOutput[], answers: readonly LoggedDiskAnswer[]): void {
    followInOrder(outputs, answers, this.#followers)
  }

  /** A backup begins in the middle: its machine has these requests under way. */
  follow(requests: readonly DiskRequest[]): void {
    beginInTheMiddle(requests, this.#followers)
  }

  /** A backup's log has the answer to this request without its data. */
  readAgain(need: NeededRead): void {
    this.#reads.onNeeded(need)
  }

  /** Everything the disks have answered so far will outlive a crash of their server. @throws NbdError */
  async flush(): Promise<void> {
    await Promise.all(this.#disks.map((disk) => disk.secure()))
  }

  get inFlight(): number {
    return this.#disks.reduce((sum, disk) => sum + disk.inFlight, 0)
  }

  async close(): Promise<void> {
    this.#reads.end()
    await Promise.all(this.#disks.map((disk) => disk.close()))
  }

  /** For a replica that halts: no request is sent again, none is waited for. */
  drop(): void {
    this.#reads.end()
    for (const disk of this.#disks) disk.drop()
  }

  #passIn(generation: number): ReplicaPass {
    const { machine, replica, token } = this.#options
    return { machine, replica, token, generation }
  }
}
