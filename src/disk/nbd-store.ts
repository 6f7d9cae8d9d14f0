/**
 * A store that is the export of another NBD server: qemu-nbd, nbdkit, a gateway of a storage cluster. Behind our disk
 * server such an export gets what NBD has not: generations, draining and the fence stand in front of it.
 *
 *   replica ──NBD──► disk server: fence ──► NbdStore ──NBD──► foreign server
 *
 * When the foreign server goes away, requests wait until it is back. It cannot be asked whether it is the same process
 * still, so every connection counts as a new boot: what it may have lost is written again first (`SteadyDisk`). Requests
 * that overlap, one of them a change, go one after the other, so that whatever is written twice ends as it was. What is
 * kept is bounded: at the limit the store flushes by itself.
 *
 * Not in our hands: a foreign server that loses its connection to us, or to a disk server of ours that was killed, and
 * still carries out later what it had read from it. It must finish or drop such requests before it takes a new connection,
 * as a server that was started again does.
 */

import { createHash } from 'node:crypto'
import { ExitCode, WorldError } from '../base/assert.ts'
import { MiB, sectorBytes } from '../base/units.ts'
import type { BlockStore } from './block-store.ts'
import { NbdClient } from './nbd-client.ts'
import { NbdError } from './nbd-error.ts'
import { type NbdLocation, parseNbdUri } from './nbd-uri.ts'
import { SteadyDisk } from './steady-disk.ts'
import type { DiskWork } from './steady-requests.ts'
import { Turns } from './turns.ts'

export interface NbdStoreOptions {
  readonly readOnly: boolean
  /** What the export must have; undefined: whatever it has. */
  readonly sizeBytes?: number | undefined
  readonly trace: (line: string) => void
  /** At so much written and not flushed the store flushes before it takes more. Default 64 MiB. */
  readonly keptLimitBytes?: number
}

const defaultKeptLimitBytes = 64 * MiB

export class NbdStore implements BlockStore {
  readonly sizeBytes: number
  /** What makes two of them the same: socket and name. */
  readonly identity: string
  readonly #disk: SteadyDisk
  readonly #keptLimitBytes: number
  readonly #turns = new Turns()
  #ownFlush: Promise<void> | undefined
  /** A flush that nobody had asked for failed: the next one has to say so. */
  #ownFailure: Error | undefined

  private constructor(location: NbdLocation, first: NbdClient, options: NbdStoreOptions) {
    const { address, exportName } = location
    this.sizeBytes = first.sizeBytes
    this.identity = createHash('sha256').update(`${address.path}\n${exportName}`).digest('hex').slice(0, 32)
    this.#keptLimitBytes = options.keptLimitBytes ?? defaultKeptLimitBytes
    this.#disk = new SteadyDisk({
      bootIdOf: () => undefined,
      trace: (line) => options.trace(`foreign ${line}`),
    })
    let next: NbdClient | undefined = first
    void this.#disk.connect(async () => {
      const client = next ?? (await NbdClient.connect({ address, exportName }))
      next = undefined
      const problem = problemOf(client, { ...options, sizeBytes: this.sizeBytes })
      if (problem === undefined) return client
      client.destroy()
      throw new NbdError('refused', `the export is another one now: ${problem}`)
    })
  }

  /** @throws WorldError when the URI is bad, nobody is there, or the export is not as wanted */
  static async open(uri: string, options: NbdStoreOptions): Promise<NbdStore> {
    const location = parseNbdUri(uri)
    const bad = (code: string, why: string): WorldError =>
      new WorldError(code, `disk ${uri}: ${why}`, ExitCode.badConfiguration)
    let client: NbdClient
    try {
      client = await NbdClient.connect(location)
    } catch (error) {
      if (!(error instanceof NbdError)) throw error
      throw bad('foreign-disk-unusable', `cannot be opened; is its server there? (${error.message})`)
    }
    const problem = problemOf(client, options)
    if (problem === undefined) return new NbdStore(location, client, options)
    await client.close()
    throw bad('foreign-disk-unfit', problem)
  }

  async read(offset: number, lengthBytes: number): Promise<Buffer> {
    const data = await this.#inTurn(offset, lengthBytes, { operation: 'read', offset, lengthBytes })
    return data as Buffer
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    await this.#inTurn(offset, data.length, { operation: 'write', offset, data })
  }

  async flush(): Promise<void> {
    await this.#disk.request({ operation: 'flush' })
    const failure = this.#ownFailure
    this.#ownFailure = undefined
    if (failure) throw failure
  }

  async trim(offset: number, lengthBytes: number): Promise<void> {
    await this.#inTurn(offset, lengthBytes, { operation: 'trim', offset, lengthBytes })
  }

  async writeZeroes(offset: number, lengthBytes: number, mayStayHole: boolean): Promise<void> {
    const work: DiskWork = { operation: 'writeZeroes', offset, lengthBytes, mayTrim: mayStayHole }
    await this.#inTurn(offset, lengthBytes, work)
  }

  giveUp(): void {
    this.#disk.giveUp()
  }

  async close(): Promise<void> {
    await this.#disk.close()
  }

  #inTurn(offset: number, lengthBytes: number, work: DiskWork): Promise<Uint8Array | undefined> {
    const isChange = work.operation !== 'read'
    return new Promise((resolve, reject) => {
      this.#turns.inTurn({ offset, lengthBytes, isChange }, (over) => {
        this.#carryOut(work, isChange).finally(over).then(resolve, reject)
      })
    })
  }

  async #carryOut(work: DiskWork, isChange: boolean): Promise<Uint8Array | undefined> {
    if (isChange) await this.#makeRoom()
    return await this.#disk.request(work)
  }

  /** One flush for all who find the limit reached. */
  async #makeRoom(): Promise<void> {
    if (this.#disk.unflushed.bytes < this.#keptLimitBytes) return
    this.#ownFlush ??= this.#disk
      .request({ operation: 'flush' })
      .then(
        () => {},
        (error: Error) => {
          this.#ownFailure = error
        },
      )
      .finally(() => {
        this.#ownFlush = undefined
      })
    await this.#ownFlush
  }
}

/** Why this export cannot be the disk; undefined if it can. */
function problemOf(client: NbdClient, { readOnly, sizeBytes }: NbdStoreOptions): string | undefined {
  if (sizeBytes !== undefined && client.sizeBytes !== sizeBytes) {
    return `it has ${client.sizeBytes} bytes, and should have ${sizeBytes}`
  }
  if (client.sizeBytes === 0 || client.sizeBytes % sectorBytes !== 0) {
    return `its ${client.sizeBytes} bytes are no whole number of ${sectorBytes}-byte sectors`
  }
  if (readOnly) return undefined
  if (client.isReadOnly) return 'its server lets nobody write to it'
  if (!client.canFlush) return 'its server knows no flush, so nothing on it would be durable'
  return undefined
}
