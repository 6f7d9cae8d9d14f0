/**
 * A disk behind NBD that outlives its server's crashes and its connection's cuts: to the caller it is only slow.
 *
 *   server gone ──► requests wait ──► connected again ──► new boot? write the unflushed again ──► issue what waits
 *
 * A request is answered once, and only by the disk: with success, or with the disk's own error. A flush is never answered
 * with success while something that was completed before it is lost: what was lost is on its way again before the flush
 * goes out. Everything may be sent twice, so the caller keeps requests that overlap, one of them a change, in order: the
 * second only after the answer to the first. (virtio-blk devices of ours do; `NbdStore` does.)
 *
 * Does not bound what it keeps: whoever makes the requests sends a flush now and then.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { WorldError } from '../base/assert.ts'
import { MiB } from '../base/units.ts'
import type { NbdClient } from './nbd-client.ts'
import { NbdError } from './nbd-error.ts'
import { type DiskChange, type FlushReach, lengthOf, UnflushedWrites } from './unflushed-writes.ts'

export type DiskWork =
  | DiskChange
  | { readonly operation: 'read'; readonly offset: number; readonly lengthBytes: number }
  | { readonly operation: 'flush' }

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
  /**
   * The disk belongs to a later generation. Nothing is sent any more. Absent: the server knows no generations, and one that
   * refuses like this is merely about to end; another connection is tried.
   */
  readonly onFenced?: (error: NbdError) => void
  readonly trace: (line: string) => void
  /** Between two attempts to connect. Default 50 ms. */
  readonly reconnectIntervalMs?: number
}

interface Waiting {
  readonly work: DiskWork
  readonly resolve: (data: Uint8Array | undefined) => void
  readonly reject: (error: NbdError) => void
}

const defaultReconnectIntervalMs = 50

/** Kept changes written again at a time, as long as they do not overlap. */
const restoredAtOnce = 16

export class SteadyDisk {
  /** Completed, and not known to be on stable storage. */
  readonly unflushed = new UnflushedWrites()
  readonly #options: SteadyDiskOptions
  readonly #waiting = new Set<Waiting>()
  #open: (() => Promise<DiskConnection>) | undefined
  #client: DiskConnection | undefined
  /** The boot of the server that has been given everything that is kept. */
  #bootId: string | undefined
  #isConnecting = false
  #isEnded = false
  #isGivenUp = false
  /** The server took a change once and refused it when it was written again: a flush has to say so. */
  #restoreFailure: NbdError | undefined

  constructor(options: SteadyDiskOptions) {
    this.#options = options
  }

  /** Requests without an answer. */
  get inFlight(): number {
    return this.#waiting.size
  }

  /**
   * Connects, and connects again whenever that is needed, by `open`. Resolves when the disk is there for the first time,
   * or when nothing will come of it.
   */
  async connect(open: () => Promise<DiskConnection>): Promise<void> {
    this.#open = open
    await this.#reconnect()
  }

  /**
   * Carries out `work`, however long the disk takes. Fails only by the disk's own error (`NbdError`, reason `io`). After
   * `drop`, and after a fence, it is never answered.
   */
  request(work: DiskWork): Promise<Uint8Array | undefined> {
    return new Promise((resolve, reject) => {
      const waiting: Waiting = { work, resolve, reject }
      this.#waiting.add(waiting)
      if (this.#client) void this.#send(this.#client, waiting)
    })
  }

  /** Says goodbye to the server after the requests in execution are answered. */
  async close(): Promise<void> {
    this.#isEnded = true
    await this.#client?.close()
  }

  /** Sends nothing any more, and waits for nothing. */
  drop(): void {
    this.#isEnded = true
    this.#client?.destroy()
  }

  /** What is in execution may end, but nobody connects again: what waits for that fails now, reason `connection-lost`. */
  giveUp(): void {
    this.#isEnded = true
    this.#isGivenUp = true
    if (!this.#client) this.#rejectAll()
  }

  #rejectAll(): void {
    const error = new NbdError('connection-lost', 'the disk is out of reach, and nobody waits for it any longer')
    for (const { reject } of this.#waiting) reject(error)
    this.#waiting.clear()
  }

  async #reconnect(): Promise<void> {
    if (this.#isConnecting) return
    this.#isConnecting = true
    try {
      while (!this.#isEnded && !this.#client) {
        let client: DiskConnection | undefined
        try {
          client = await this.#open!()
          await this.#restore(client)
          if (this.#isEnded) return client.destroy()
          this.#client = client
          const connected = client
          void client.ended.then((error) => this.#onLost(connected, error))
          for (const waiting of this.#waiting) void this.#send(client, waiting)
        } catch (error) {
          client?.destroy()
          if (!(error instanceof WorldError)) throw error
          if (error instanceof NbdError && error.reason === 'fenced' && this.#options.onFenced) {
            this.#options.onFenced(error)
            return
          }
          if (this.#isEnded) return
          this.#options.trace(`disk: ${error.message}`)
          await sleep(this.#options.reconnectIntervalMs ?? defaultReconnectIntervalMs)
        }
      }
    } finally {
      this.#isConnecting = false
    }
  }

  /** Before anything else is sent to a new boot of the server: everything it may have lost. */
  async #restore(client: DiskConnection): Promise<void> {
    const bootId = this.#options.bootIdOf(client.description)
    if (bootId !== undefined && bootId === this.#bootId) return
    const { count } = this.unflushed
    if (count > 0) this.#options.trace(`disk: a new boot of the server; ${count} unflushed changes are written again`)
    for (const group of apart(this.unflushed.inOrder())) {
      await Promise.all(group.map((change) => this.#restoreChange(client, change)))
    }
    this.#bootId = bootId
  }

  async #restoreChange(client: DiskConnection, change: DiskChange): Promise<void> {
    try {
      await carryOut(client, change)
    } catch (error) {
      if (!(error instanceof NbdError) || error.reason !== 'io') throw error
      this.#options.trace(`disk: a change that was completed is refused now: ${error.message}`)
      this.#restoreFailure = error
    }
  }

  async #send(client: DiskConnection, waiting: Waiting): Promise<void> {
    const { work } = waiting
    const reach = this.unflushed.beginFlush()
    try {
      const data = await carryOut(client, work)
      if (this.#client !== client || !this.#waiting.delete(waiting)) return
      if (work.operation === 'flush') this.#onFlushed(waiting, reach, this.#restoreFailure)
      else {
        if (work.operation !== 'read') this.unflushed.onCompleted(work)
        waiting.resolve(data)
      }
    } catch (error) {
      if (!(error instanceof NbdError)) throw error
      this.#onError(client, waiting, reach, error)
    }
  }

  #onFlushed({ resolve, reject }: Waiting, reach: FlushReach, error: NbdError | undefined): void {
    this.unflushed.onFlushed(reach)
    this.#restoreFailure = undefined
    if (error) reject(error)
    else resolve(undefined)
  }

  #onError(client: DiskConnection, waiting: Waiting, reach: FlushReach, error: NbdError): void {
    if (this.#client !== client || (this.#isEnded && !this.#isGivenUp)) return
    switch (error.reason) {
      case 'fenced':
        if (this.#options.onFenced) {
          this.#isEnded = true
          this.#options.onFenced(error)
        } else this.#onLost(client, error)
        return
      case 'io':
        this.#options.trace(`disk: ${error.message}`)
        if (!this.#waiting.delete(waiting)) return
        if (waiting.work.operation === 'flush') this.#onFlushed(waiting, reach, error)
        else waiting.reject(error)
        return
      default:
        this.#onLost(client, error)
    }
  }

  #onLost(client: DiskConnection, error: NbdError | undefined): void {
    if (this.#client === client && this.#isGivenUp) this.#rejectAll()
    if (this.#client !== client || this.#isEnded) return
    this.#options.trace(`disk: ${error?.message ?? 'the connection is over'}; connecting again`)
    this.#client = undefined
    client.destroy()
    void this.#reconnect()
  }
}

/** Cuts a list of changes into runs whose members do not overlap, so that a run may be in execution all at once. */
function* apart(changes: readonly DiskChange[]): Generator<DiskChange[]> {
  let run: DiskChange[] = []
  for (const change of changes) {
    if (run.length >= restoredAtOnce || run.some((other) => overlap(other, change))) {
      yield run
      run = []
    }
    run.push(change)
  }
  if (run.length > 0) yield run
}

export function overlap(a: DiskChange, b: DiskChange): boolean {
  return a.offset < b.offset + lengthOf(b) && b.offset < a.offset + lengthOf(a)
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
