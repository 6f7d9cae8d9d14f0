/**
 * An NBD client: the socket around `NbdClientSession`. Requests run concurrently; each is a promise. When the connection
 * breaks, every request without an answer fails with reason `connection-lost`, and it is the caller who connects again
 * and issues them again: only the hypervisor knows which ones the machine still waits for.
 *
 * There is no time-out per request: a disk that is slow is waited for.
 */

import type { Socket } from 'node:net'
import { WorldError } from '../base/assert.ts'
import { type Endpoint, formatAddress } from '../net/address.ts'
import { connectTo } from '../net/connect.ts'
import { formatExportName, type ReplicaPass } from './names.ts'
import { type NbdClientEvent, NbdClientSession } from './nbd-client-session.ts'
import { NbdError } from './nbd-error.ts'
import { requestStartTls } from './nbd-starttls.ts'
import type { ExportInfo } from './nbd-wire.ts'
import * as wire from './nbd-wire.ts'

export interface NbdClientOptions extends Endpoint {
  readonly exportName: string
  /** A replica's right to a disk of its machine; carried in the export name. */
  readonly pass?: ReplicaPass
  /** For connection and negotiation together; a grant that drains counts. Default 10 s. */
  readonly connectTimeoutMs?: number
}

export interface WriteOptions {
  /** Force unit access: answered only when the data is on stable storage. */
  readonly fua?: boolean
}

interface PendingRequest {
  readonly resolve: (data: Buffer) => void
  readonly reject: (error: NbdError) => void
}

const defaultConnectTimeoutMs = 10_000

/** How long an orderly goodbye may take. */
const closeTimeoutMs = 2_000

export class NbdClient {
  readonly #socket: Socket
  readonly #session: NbdClientSession
  readonly #where: string
  readonly #pending = new Map<number, PendingRequest>()
  readonly #ready = Promise.withResolvers<ExportInfo>()
  readonly #ended = Promise.withResolvers<NbdError | undefined>()
  #info: ExportInfo | undefined
  #failure: NbdError | undefined
  #isClosing = false
  #idleWaiters: (() => void)[] = []

  private constructor(socket: Socket, session: NbdClientSession, where: string) {
    this.#socket = socket
    this.#session = session
    this.#where = where
  }

  /** Connects and negotiates. Fails with `NbdError`: `unreachable`, `refused`, `fenced` or `protocol`. */
  static async connect(options: NbdClientOptions): Promise<NbdClient> {
    const usesTls = options.address.path === undefined
    const session = new NbdClientSession(formatExportName(options.exportName, options.pass), usesTls)
    const timeoutMs = options.connectTimeoutMs ?? defaultConnectTimeoutMs
    const socket = await open(options, session, timeoutMs)
    const client = new NbdClient(socket, session, `disk at ${formatAddress(options.address)}`)
    const timer = setTimeout(() => {
      client.#fail(new NbdError('unreachable', `${client.#where} gave no answer within ${timeoutMs} ms`))
    }, timeoutMs)
    try {
      client.#listen()
      if (usesTls) for (const event of session.secured()) client.#onEvent(event)
      client.#info = await client.#ready.promise
      return client
    } finally {
      clearTimeout(timer)
    }
  }

  get sizeBytes(): number {
    return this.#exportInfo.sizeBytes
  }

  get isReadOnly(): boolean {
    return this.#has(wire.ExportFlag.readOnly)
  }

  get canFlush(): boolean {
    return this.#has(wire.ExportFlag.sendFlush)
  }

  get canFua(): boolean {
    return this.#has(wire.ExportFlag.sendFua)
  }

  get canTrim(): boolean {
    return this.#has(wire.ExportFlag.sendTrim)
  }

  get canWriteZeroes(): boolean {
    return this.#has(wire.ExportFlag.sendWriteZeroes)
  }

  get canMultiConn(): boolean {
    return this.#has(wire.ExportFlag.canMultiConn)
  }

  /** The server's own words; ours names its boot id (`understudy boot …`). */
  get description(): string {
    return this.#exportInfo.description
  }

  /** Resolves when the connection is over: with the error that ended it, or undefined after `close`. */
  get ended(): Promise<NbdError | undefined> {
    return this.#ended.promise
  }

  /** @param lengthBytes at most 32 MiB, as for a write */
  read(offset: number, lengthBytes: number): Promise<Buffer> {
    return this.#request(wire.Command.read, 0, offset, lengthBytes)
  }

  async write(offset: number, data: Uint8Array, options: WriteOptions = {}): Promise<void> {
    await this.#request(wire.Command.write, this.#fuaFlag(options), offset, data.length, data)
  }

  /** Every write answered before this call is on stable storage afterwards. */
  async flush(): Promise<void> {
    await this.#request(wire.Command.flush, 0, 0, 0)
  }

  async trim(offset: number, lengthBytes: number): Promise<void> {
    await this.#request(wire.Command.trim, 0, offset, lengthBytes)
  }

  /** @param options `mayTrim` (default true): the zeroes need not take space */
  async writeZeroes(
    offset: number,
    lengthBytes: number,
    options: WriteOptions & { readonly mayTrim?: boolean } = {},
  ): Promise<void> {
    const noHole = options.mayTrim === false ? wire.CommandFlag.noHole : 0
    await this.#request(wire.Command.writeZeroes, this.#fuaFlag(options) | noHole, offset, lengthBytes)
  }

  /** Says goodbye after the requests in flight are answered. */
  async close(): Promise<void> {
    if (this.#failure || this.#isClosing) {
      await this.#ended.promise
      return
    }
    this.#isClosing = true
    while (this.#pending.size > 0) await new Promise<void>((resolve) => this.#idleWaiters.push(resolve))
    const { header } = this.#session.request(wire.Command.disconnect, 0, 0, 0)
    this.#socket.end(header)
    const timer = setTimeout(() => this.#socket.destroy(), closeTimeoutMs)
    await this.#ended.promise
    clearTimeout(timer)
  }

  /** Drops the connection now; requests in flight fail. */
  destroy(): void {
    this.#fail(new NbdError('connection-lost', `${this.#where}: the connection was dropped by us`))
  }

  get #exportInfo(): ExportInfo {
    return this.#info!
  }

  #has(flag: number): boolean {
    return (this.#exportInfo.flags & flag) !== 0
  }

  #fuaFlag(options: WriteOptions): number {
    return options.fua ? wire.CommandFlag.fua : 0
  }

  #request(command: number, flags: number, offset: number, length: number, data?: Uint8Array): Promise<Buffer> {
    if (this.#failure) return Promise.reject(this.#failure)
    if (this.#isClosing) {
      return Promise.reject(new NbdError('connection-lost', `${this.#where}: the connection is closed`))
    }
    const maxBytes = command === wire.Command.read || data ? wire.maxPayloadBytes : 0xffffffff
    if (length > maxBytes || !Number.isSafeInteger(offset) || offset < 0) {
      return Promise.reject(new NbdError('io', `a request of ${length} bytes at ${offset}`, wire.NbdErrno.invalid))
    }
    const { handle, header } = this.#session.request(command, flags, offset, length)
    return new Promise((resolve, reject) => {
      this.#pending.set(handle, { resolve, reject })
      if (data) this.#socket.cork()
      this.#socket.write(header)
      if (data) {
        this.#socket.write(data)
        this.#socket.uncork()
      }
    })
  }

  #listen(): void {
    const socket = this.#socket
    let cause = 'the connection was closed'
    socket.on('data', (chunk: Buffer) => {
      for (const event of this.#session.receive(chunk)) this.#onEvent(event)
    })
    socket.on('error', (error) => {
      cause = error.message
    })
    socket.on('close', () => {
      const reason = this.#info ? 'connection-lost' : 'unreachable'
      if (this.#isClosing && this.#pending.size === 0) this.#ended.resolve(undefined)
      else this.#fail(new NbdError(reason, `${this.#where}: ${cause}`))
    })
  }

  #onEvent(event: NbdClientEvent): void {
    switch (event.kind) {
      case 'send':
        this.#socket.write(event.bytes)
        return
      case 'startTls':
        return
      case 'ready':
        this.#ready.resolve(event.info)
        return
      case 'end':
        this.#fail(event.error)
        return
      case 'reply': {
        const pending = this.#pending.get(event.handle)
        this.#pending.delete(event.handle)
        if (event.errno === wire.NbdErrno.ok) pending?.resolve(event.data)
        else pending?.reject(this.#replyError(event.errno, event.message))
        this.#wakeIfIdle()
        return
      }
    }
  }

  #replyError(errno: number, message: string): NbdError {
    if (errno === wire.NbdErrno.shutdown) {
      return new NbdError('fenced', `${this.#where}: the generation of this connection is over`, errno)
    }
    return new NbdError('io', `${this.#where}: error ${errno}${message ? `: ${message}` : ''}`, errno)
  }

  #fail(error: NbdError): void {
    if (this.#failure) return
    this.#failure = error
    this.#socket.destroy()
    this.#ready.reject(error)
    const pending = [...this.#pending.values()]
    this.#pending.clear()
    for (const { reject } of pending) reject(error)
    this.#ended.resolve(error)
    this.#wakeIfIdle()
  }

  #wakeIfIdle(): void {
    if (this.#pending.size === 0) for (const wake of this.#idleWaiters.splice(0)) wake()
  }
}

/** A connection on which the conversation goes on: at its beginning, or inside TLS. */
async function open(options: NbdClientOptions, session: NbdClientSession, timeoutMs: number): Promise<Socket> {
  try {
    return await connectTo(options, {
      purpose: 'disk',
      open: (socket) => requestStartTls(socket, session),
      timeoutMs,
    })
  } catch (error) {
    if (!(error instanceof WorldError)) throw error
    if (error.code === 'cannot-connect') throw new NbdError('unreachable', error.message)
    if (error.code === 'key-refused') throw new NbdError('refused', error.message)
    throw error
  }
}
