/**
 * The machine's disks as the host sees them: requests that the output gate released go out over NBD, answers come back
 * as inputs. When the disk server is gone, requests wait and are issued again in order: the guest sees a slow disk, never
 * an error (VMware FT: outstanding I/O is re-issued). All requests here repeat harmlessly.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { sectorBytes } from '../base/units.ts'
import type { ReplicaPass } from '../disk/names.ts'
import { NbdClient } from '../disk/nbd-client.ts'
import { NbdError } from '../disk/nbd-error.ts'
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

const reconnectIntervalMs = 50

export class DiskBackend {
  readonly #options: DiskBackendOptions
  readonly #disks: Disk[]

  constructor(options: DiskBackendOptions) {
    // A mistake in the configuration is told now, not as a disk out of reach.
    keyOf(options.endpoint, 'disk')
    this.#options = options
    this.#disks = options.exports.map((name) => new Disk(name, options))
  }

  /** Connects every disk in the generation that was just won. Requests issued before that wait for it. */
  async connect(generation: bigint): Promise<void> {
    const { machine, replica, token } = this.#options
    const pass = { machine, replica, token, generation: Number(generation) }
    await Promise.all(this.#disks.map((disk) => disk.connect(pass)))
  }

  issue(request: DiskRequest): void {
    this.#disks[request.disk]!.issue(request)
  }

  get inFlight(): number {
    return this.#disks.reduce((sum, disk) => sum + disk.inFlight, 0)
  }

  async close(): Promise<void> {
    await Promise.all(this.#disks.map((disk) => disk.close()))
  }

  /** For a replica that halts: no request is sent again, none is waited for. */
  drop(): void {
    for (const disk of this.#disks) disk.drop()
  }
}

class Disk {
  readonly #exportName: string
  readonly #options: DiskBackendOptions
  readonly #pending = new Map<bigint, DiskRequest>()
  #pass: ReplicaPass | undefined
  #client: NbdClient | undefined
  #isConnecting = false
  #isClosed = false

  constructor(exportName: string, options: DiskBackendOptions) {
    this.#exportName = exportName
    this.#options = options
  }

  get inFlight(): number {
    return this.#pending.size
  }

  async connect(pass: ReplicaPass): Promise<void> {
    this.#pass = pass
    await this.#reconnect()
  }

  issue(request: DiskRequest): void {
    this.#pending.set(request.sequence, request)
    if (this.#client) void this.#carryOut(this.#client, request)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await this.#client?.close()
  }

  drop(): void {
    this.#isClosed = true
    this.#client?.destroy()
  }

  /** Tries until the server is there, then issues everything that waits, in the order it was made. */
  async #reconnect(): Promise<void> {
    if (this.#isConnecting) return
    this.#isConnecting = true
    try {
      while (!this.#isClosed && !this.#client) {
        try {
          const client: NbdClient = await NbdClient.connect({
            ...this.#options.endpoint,
            exportName: this.#exportName,
            ...(this.#pass ? { pass: this.#pass } : {}),
          })
          if (this.#isClosed) return client.destroy()
          this.#client = client
          for (const request of this.#pending.values()) void this.#carryOut(client, request)
        } catch (error) {
          if (error instanceof NbdError && error.reason === 'fenced') {
            this.#options.onFenced(error)
            return
          }
          this.#options.trace(`disk: ${(error as Error).message}`)
          await sleep(reconnectIntervalMs)
        }
      }
    } finally {
      this.#isConnecting = false
    }
  }

  async #carryOut(client: NbdClient, request: DiskRequest): Promise<void> {
    const { sequence } = request
    try {
      const data = await carryOut(client, request)
      this.#answer(data ? { sequence, status: 'ok', data } : { sequence, status: 'ok' })
    } catch (error) {
      if (!(error instanceof NbdError)) throw error
      if (error.reason === 'fenced') {
        this.#options.onFenced(error)
      } else if (error.reason === 'io') {
        this.#options.trace(`disk: ${error.message}`)
        this.#answer({ sequence, status: 'ioError' })
      } else if (this.#client === client && !this.#isClosed) {
        this.#options.trace(`disk: ${error.message}; connecting again`)
        this.#client = undefined
        void this.#reconnect()
      }
    }
  }

  #answer(answer: DiskAnswer): void {
    if (this.#pending.delete(answer.sequence)) this.#options.onAnswer(answer)
  }
}

async function carryOut(client: NbdClient, request: DiskRequest): Promise<Uint8Array | undefined> {
  const offset = Number(request.sector) * sectorBytes
  switch (request.operation) {
    case 'read':
      return await client.read(offset, request.lengthBytes)
    case 'write':
      await client.write(offset, request.data!)
      return undefined
    case 'flush':
      await client.flush()
      return undefined
    case 'discard':
      await client.trim(offset, request.lengthBytes)
      return undefined
    case 'writeZeroes':
      await client.writeZeroes(offset, request.lengthBytes)
      return undefined
  }
}
