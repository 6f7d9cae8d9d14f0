/**
 * A disk behind NBD that outlives its server's crashes and its connection's cuts: to the caller it is only slow. What to send,
 * again or for the first time, is decided in steady-requests.ts; here are its connections, timers and promises.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { WorldError } from '../base/assert.ts'
import { MiB } from '../base/units.ts'
import type { NbdClient } from './nbd-client.ts'
import { NbdError } from './nbd-error.ts'
import { type DiskLink, type DiskWork, SteadyRequests } from './steady-requests.ts'
import { tellOutcome } from './tell-outcome.ts'
import type { UnflushedWrites } from './unflushed-writes.ts'

/** What of a connection is used: `NbdClient` is one. */
export type DiskConnection = Pick<
  NbdClient,
  | 'description'
  | 'ended'
  | 'canFlush'
  | 'canTrim'
  | 'canWriteZeroes'
  | 'read'
  | 'write'
  | 'flush'
  | 'trim'
  | 'writeZeroes'
  | 'close'
  | 'destroy'
>

export interface SteadyDiskOptions {
  /** Which boot of the server a description names; undefined: unknown, so each connection may lead to a new one. */
  readonly bootIdOf: (description: string) => string | undefined
  /** See `SteadyOutside.onFenced`. */
  readonly onFenced?: (error: NbdError) => void
  readonly trace: (line: string) => void
  /** Between two attempts to connect. Default 50 ms. */
  readonly reconnectIntervalMs?: number
}

const defaultReconnectIntervalMs = 50

export class SteadyDisk {
  readonly #options: SteadyDiskOptions
  readonly #requests: SteadyRequests
  readonly #settled = Promise.withResolvers<void>()
  readonly #connections = new Map<DiskLink, DiskConnection>()
  #open: (() => Promise<DiskConnection>) | undefined

  constructor(options: SteadyDiskOptions) {
    this.#options = options
    this.#requests = new SteadyRequests({
      connect: () => void this.#connect(),
      connectLater: () => void this.#connectLater(),
      onFenced: options.onFenced,
      onSettled: () => this.#settled.resolve(),
      trace: options.trace,
    })
  }

  /** Completed, and not known to be on stable storage. */
  get unflushed(): UnflushedWrites {
    return this.#requests.unflushed
  }

  /** Requests without an answer. */
  get inFlight(): number {
    return this.#requests.inFlight
  }

  /**
   * Connects, and connects again whenever that is needed, by `open`. Resolves when the disk is there for the first time,
   * or when nothing will come of it.
   */
  async connect(open: () => Promise<DiskConnection>): Promise<void> {
    this.#open = open
    this.#requests.connect()
    await this.#settled.promise
  }

  /**
   * Carries out `work`, however long the disk takes. Fails only by the disk's own error (`NbdError`, reason `io`). After
   * `drop`, and after a fence, it is never answered.
   */
  request(work: DiskWork): Promise<Uint8Array | undefined> {
    return new Promise((resolve, reject) => {
      this.#requests.request(work, (outcome) => {
        if (outcome instanceof NbdError) reject(outcome)
        else resolve(outcome)
      })
    })
  }

  /** What was answered so far will outlive a crash of the server: a flush that no guest hears of. @throws NbdError */
  secure(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#requests.secure((error) => (error ? reject(error) : resolve()))
    })
  }

  /** Says goodbye to the server after the requests in execution are answered. */
  async close(): Promise<void> {
    const link = this.#requests.end()
    if (link) await this.#connections.get(link)?.close()
  }

  /** Sends nothing any more, and waits for nothing. */
  drop(): void {
    this.#requests.drop()
  }

  /** What is in execution may end, but nobody connects again: what waits for that fails now, reason `connection-lost`. */
  giveUp(): void {
    this.#requests.giveUp()
  }

  async #connect(): Promise<void> {
    try {
      const connection = await this.#open!()
      const link: DiskLink = {
        bootId: this.#options.bootIdOf(connection.description),
        send: (work, answered) => tellOutcome(carryOut(connection, work), answered),
        destroy: () => connection.destroy(),
      }
      this.#connections.set(link, connection)
      void connection.ended.then((error) => {
        this.#connections.delete(link)
        this.#requests.onLinkEnded(link, error)
      })
      this.#requests.onConnected(link)
    } catch (error) {
      if (!(error instanceof WorldError)) throw error
      this.#requests.onConnectFailed(error)
    }
  }

  async #connectLater(): Promise<void> {
    await sleep(this.#options.reconnectIntervalMs ?? defaultReconnectIntervalMs)
    this.#requests.connect()
  }
}

async function carryOut(client: DiskConnection, work: DiskWork): Promise<Uint8Array | undefined> {
  switch (work.operation) {
    case 'read':
      return await client.read(work.offset, work.lengthBytes)
    case 'write':
      await client.write(work.offset, work.data)
      return undefined
    case 'flush':
      if (client.canFlush) await client.flush()
      return undefined
    case 'trim':
      // Advice, which a server need not understand.
      if (client.canTrim) await client.trim(work.offset, work.lengthBytes)
      return undefined
    case 'writeZeroes':
      if (client.canWriteZeroes) {
        await client.writeZeroes(work.offset, work.lengthBytes, { mayTrim: work.mayTrim ?? true })
      } else await writeZeroesAsData(client, work.offset, work.lengthBytes)
      return undefined
  }
}

const zeroes = new Uint8Array(MiB)

async function writeZeroesAsData(client: DiskConnection, offset: number, lengthBytes: number): Promise<void> {
  for (let done = 0; done < lengthBytes; done += zeroes.length) {
    await client.write(offset + done, zeroes.subarray(0, Math.min(zeroes.length, lengthBytes - done)))
  }
}
