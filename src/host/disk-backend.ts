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
 */

import { sectorBytes } from '../base/units.ts'
import { bootIdOf, type ReplicaPass } from '../disk/names.ts'
import { NbdClient } from '../disk/nbd-client.ts'
import { NbdError } from '../disk/nbd-error.ts'
import { SteadyDisk } from '../disk/steady-disk.ts'
import type { DiskWork } from '../disk/steady-requests.ts'
import type { FlushReach } from '../disk/unflushed-writes.ts'
import type { DiskAnswer as LoggedDiskAnswer } from '../hypervisor/replayer.ts'
import type { LogIndex, MarkedOutput } from '../log/entry.ts'
import type { DiskStatus } from '../machine/types.ts'
import { type Endpoint, keyOf } from '../net/address.ts'
import type { DiskRequest } from './hart-messages.ts'

export interface DiskAnswer {
  readonly sequence: bigint
  readonly status: DiskStatus
  readonly data?: Uint8Array
}

export interface DiskBackendOptions {
  readonly endpoint: Endpoint
  /** Name of the export of each disk. */
  readonly exports: readonly string[]
  readonly machine: string
  readonly replica: string
  readonly token: string
  readonly onAnswer: (answer: DiskAnswer) => void
  /** The arbiter has given the disk to a later generation: this replica must stop. */
  readonly onFenced: (error: Error) => void
  readonly trace: (line: string) => void
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
  readonly #disks: Disk[]

  constructor(options: DiskBackendOptions) {
    // A mistake in the configuration is told now, not as a disk out of reach.
    keyOf(options.endpoint, 'disk')
    this.#options = options
    this.#disks = options.exports.map(() => new Disk(options))
  }

  /**
   * Connects every disk in the generation that was just won. Requests issued before that wait for it. A replica that
   * was a backup has followed the whole log by now.
   */
  async connect(generation: bigint): Promise<void> {
    const { machine, replica, token, exports } = this.#options
    const pass = { machine, replica, token, generation: Number(generation) }
    await Promise.all(this.#disks.map((disk, index) => disk.connect(exports[index]!, pass)))
  }

  issue(request: DiskRequest): void {
    this.#disks[request.disk]!.issue(request)
  }

  /** A backup's machine replayed these: requests that it made again, and answers that entered it. Each in log order. */
  onReplayed(outputs: readonly MarkedOutput[], answers: readonly LoggedDiskAnswer[]): void {
    let next = 0
    const answersBelow = (index: LogIndex | undefined): void => {
      for (; next < answers.length && (index === undefined || answers[next]!.index < index); next++) {
        for (const disk of this.#disks) disk.followAnswer(answers[next]!)
      }
    }
    for (const { output, markerIndex } of outputs) {
      if (output.kind !== 'disk') continue
      answersBelow(markerIndex)
      this.#disks[output.disk]!.followRequest(output)
    }
    answersBelow(undefined)
  }

  /** A backup begins in the middle: its machine has these requests under way. */
  follow(requests: readonly DiskRequest[]): void {
    for (const request of requests) this.#disks[request.disk]!.followRequest(request)
  }

  /** Everything the disks have answered so far will outlive a crash of their server. @throws NbdError */
  async flush(): Promise<void> {
    await Promise.all(this.#disks.map(({ steady }) => steady.request({ operation: 'flush' })))
  }

  get inFlight(): number {
    return this.#disks.reduce((sum, disk) => sum + disk.steady.inFlight, 0)
  }

  async close(): Promise<void> {
    await Promise.all(this.#disks.map(({ steady }) => steady.close()))
  }

  /** For a replica that halts: no request is sent again, none is waited for. */
  drop(): void {
    for (const { steady } of this.#disks) steady.drop()
  }
}

class Disk {
  readonly steady: SteadyDisk
  readonly #options: DiskBackendOptions
  /** Of a backup: requests that its log has no answer to yet. */
  readonly #followed = new Map<bigint, { readonly work: DiskWork; readonly reach: FlushReach }>()

  constructor(options: DiskBackendOptions) {
    this.#options = options
    this.steady = new SteadyDisk({
      bootIdOf,
      onFenced: options.onFenced,
      trace: options.trace,
    })
  }

  async connect(exportName: string, pass: ReplicaPass): Promise<void> {
    // The machine itself names the requests without an answer: they are issued again.
    this.#followed.clear()
    const { endpoint } = this.#options
    await this.steady.connect(() => NbdClient.connect({ ...endpoint, exportName, pass }))
  }

  issue(request: DiskRequest): void {
    const { sequence } = request
    this.steady.request(workOf(request)).then(
      (data) => this.#options.onAnswer(data ? { sequence, status: 'ok', data } : { sequence, status: 'ok' }),
      (error) => {
        if (!(error instanceof NbdError)) throw error
        this.#options.onAnswer({ sequence, status: 'ioError' })
      },
    )
  }

  followRequest(request: DiskRequest): void {
    this.#followed.set(request.sequence, { work: workOf(request), reach: this.steady.unflushed.beginFlush() })
  }

  followAnswer({ sequence, status }: LoggedDiskAnswer): void {
    const followed = this.#followed.get(sequence)
    if (!followed) return
    this.#followed.delete(sequence)
    // Nobody knows what became of it, and the driver asks again.
    if (status === 'uncertain') return
    const { work, reach } = followed
    if (work.operation === 'flush') this.steady.unflushed.onFlushed(reach)
    else if (work.operation !== 'read' && status === 'ok') this.steady.unflushed.onCompleted(work)
  }
}

function workOf({ operation, sector, lengthBytes, data }: DiskRequest): DiskWork {
  const offset = Number(sector) * sectorBytes
  switch (operation) {
    case 'write':
      return { operation, offset, data: data! }
    case 'flush':
      return { operation }
    case 'discard':
      return { operation: 'trim', offset, lengthBytes }
    default:
      return { operation, offset, lengthBytes }
  }
}
