/**
 * One NBD client on the server's side: the socket around `NbdServerSession`, and the execution of its requests.
 *
 * Requests run concurrently and finish in any order, as NBD allows. What waits or runs is bounded in number and bytes;
 * beyond that the socket is not read. The fence is asked twice, on arrival and when a request leaves the queue. A refused
 * request is answered ESHUTDOWN, and then the connection is closed: its generation is over.
 */

import type { Socket } from 'node:net'
import { AssertionError, WorldError } from '../base/assert.ts'
import { MiB } from '../base/units.ts'
import { type ExportDirectory, ExportRefusal, type OpenExport } from './export-directory.ts'
import { NbdError } from './nbd-error.ts'
import { checkRequest, type NbdServerEvent, NbdServerSession } from './nbd-server-session.ts'
import type { NbdRequest } from './nbd-wire.ts'
import * as wire from './nbd-wire.ts'

/** Negotiation takes milliseconds; whoever needs longer than this is not negotiating. */
const negotiationTimeoutMs = 10_000

/** How long a peer may take to close its side after we closed ours. */
const lingerTimeoutMs = 5_000

const maxExecuting = 16
const maxWaiting = 256

/** Bytes of requests in execution, and of answers that the client hasn't taken: one largest request and as much again. */
const maxBytesInFlight = 64 * MiB

/** Zeroing is cut into pieces, so that a grant never waits for gigabytes: the fence is asked again before each. */
const zeroPieceBytes = 8 * MiB

type Phase = 'open' | 'closing' | 'closed'

function payloadBytes(request: NbdRequest): number {
  return request.command === wire.Command.read ? request.length : request.data.length
}

export class NbdConnection {
  readonly #socket: Socket
  readonly #directory: ExportDirectory
  readonly #session: NbdServerSession
  readonly #trace: (line: string) => void
  readonly #negotiationTimer: NodeJS.Timeout
  readonly #waiting: NbdRequest[] = []
  #phase: Phase = 'open'
  #export: OpenExport | undefined
  #executing = 0
  #executingBytes = 0
  #waitingBytes = 0
  #isOpening = false
  #idleWaiters: (() => void)[] = []

  /** @param begun a conversation that began in plain text and goes on inside TLS; by default a new one begins */
  constructor(socket: Socket, directory: ExportDirectory, trace: (line: string) => void, begun?: NbdServerSession) {
    this.#socket = socket
    this.#session = begun ?? new NbdServerSession(false)
    this.#directory = directory
    this.#trace = trace
    this.#negotiationTimer = setTimeout(() => this.#destroy('negotiation took too long'), negotiationTimeoutMs)
    this.#negotiationTimer.unref()
    socket.on('data', (chunk: Buffer) => this.#onEvents(this.#session.receive(chunk)))
    socket.on('drain', () => this.#pump())
    socket.on('end', () => {
      this.#closeWhenIdle()
      this.#pump()
    })
    socket.on('error', (error) => this.#trace(`nbd: ${error.message}`))
    socket.on('close', () => this.#onClosed())
    if (!begun) socket.write(this.#session.greeting())
  }

  /** Resolves when no request is in execution: after the socket is closed, none will be again. */
  async idle(): Promise<void> {
    while (this.#executing > 0) await new Promise<void>((resolve) => this.#idleWaiters.push(resolve))
  }

  #onEvents(events: readonly NbdServerEvent[]): void {
    for (const event of events) this.#onEvent(event)
    this.#pump()
  }

  #onEvent(event: NbdServerEvent): void {
    if (this.#phase !== 'open') return
    switch (event.kind) {
      case 'send':
        this.#socket.write(event.bytes)
        return
      case 'list':
        this.#onEvents(this.#session.listed(this.#directory.names))
        return
      case 'open':
        this.#isOpening = true
        this.#open(event.exportName)
        return
      case 'startTls':
        throw new AssertionError('TLS begins before a conversation is handed over')
      case 'transmission':
        clearTimeout(this.#negotiationTimer)
        return
      case 'request':
        this.#onRequest(event.request)
        return
      case 'end':
        if (event.fault) this.#destroy(event.fault.message)
        else this.#closeWhenIdle()
        return
    }
  }

  #open(exportName: string): void {
    this.#directory.open(exportName, this, (opened) => {
      this.#isOpening = false
      if (opened instanceof ExportRefusal) this.#trace(`nbd: refused: ${opened.message}`)
      else {
        this.#export = opened
        this.#watch(opened)
      }
      if (this.#phase !== 'open') return
      this.#onEvents(
        opened instanceof ExportRefusal
          ? this.#session.refuse(opened.optionError, opened.message)
          : this.#session.accept(opened.info),
      )
    })
  }

  /** A newer connection of the same replica: whatever is still unread, queued or half on the wire here must not land. */
  #watch({ superseded }: OpenExport): void {
    const drop = (): void => {
      this.#onClosed()
      this.#destroy('the replica has a newer connection')
    }
    if (superseded?.aborted) drop()
    else superseded?.addEventListener('abort', drop, { once: true })
  }

  #onRequest(request: NbdRequest): void {
    if (!this.#export!.permits()) {
      this.#refuse(request)
      return
    }
    this.#waiting.push(request)
    this.#waitingBytes += request.data.length
  }

  /** Starts what may start, and reads on when there is room. */
  #pump(): void {
    while (this.#waiting.length > 0 && this.#hasRoomFor(this.#waiting[0]!)) {
      const request = this.#waiting.shift()!
      this.#waitingBytes -= request.data.length
      void this.#execute(request)
    }
    if (this.#phase === 'closing' && this.#waiting.length === 0 && this.#executing === 0) this.#end()
    const isFull = this.#waiting.length >= maxWaiting || this.#waitingBytes >= maxBytesInFlight
    if (this.#isOpening || isFull) this.#socket.pause()
    else this.#socket.resume()
  }

  #hasRoomFor(request: NbdRequest): boolean {
    if (this.#executing >= maxExecuting) return false
    if (this.#socket.writableLength >= maxBytesInFlight) return false
    return this.#executing === 0 || this.#executingBytes + payloadBytes(request) <= maxBytesInFlight
  }

  async #execute(request: NbdRequest): Promise<void> {
    const errno = checkRequest(request, this.#export!.info)
    if (errno !== wire.NbdErrno.ok) {
      this.#replyError(request, errno, 'the request is out of range, too long, or not allowed on this export')
      return
    }
    this.#executing++
    this.#executingBytes += payloadBytes(request)
    try {
      const result = await this.#perform(request)
      if (result === 'refused') this.#refuse(request)
      else this.#reply(request, result)
    } catch (error) {
      this.#trace(`nbd: ${(error as Error).message}`)
      this.#replyError(request, storeErrno(error), (error as Error).message)
    }
    this.#executing--
    this.#executingBytes -= payloadBytes(request)
    if (this.#executing === 0) for (const wake of this.#idleWaiters.splice(0)) wake()
    this.#pump()
  }

  /** Does the request's work between enter and leave of the fence. */
  async #perform(request: NbdRequest): Promise<Buffer | undefined | 'refused'> {
    const { store } = this.#export!
    const { offset, length } = request
    if (request.command === wire.Command.writeZeroes) {
      const mayStayHole = (request.flags & wire.CommandFlag.noHole) === 0
      for (let done = 0; done < length; done += zeroPieceBytes) {
        const bytes = Math.min(zeroPieceBytes, length - done)
        const result = await this.#fenced(() => store.writeZeroes(offset + done, bytes, mayStayHole))
        if (result === 'refused') return 'refused'
      }
    }
    return await this.#fenced(async () => {
      switch (request.command) {
        case wire.Command.read:
          return await store.read(offset, length)
        case wire.Command.flush:
          await store.flush()
          return undefined
        case wire.Command.write:
          await store.write(offset, request.data)
          break
        case wire.Command.trim:
          await store.trim(offset, length)
          break
      }
      if ((request.flags & wire.CommandFlag.fua) !== 0) await store.flush()
      return undefined
    })
  }

  async #fenced<Result>(work: () => Promise<Result>): Promise<Result | 'refused'> {
    const leave = this.#export!.enter()
    if (!leave) return 'refused'
    try {
      return await work()
    } finally {
      leave()
    }
  }

  #reply(request: NbdRequest, data: Buffer | undefined): void {
    if (this.#phase === 'closed') return
    if (!data) {
      this.#socket.write(wire.encodeSimpleReply(request.handle, wire.NbdErrno.ok))
      return
    }
    const head = this.#session.structured
      ? wire.encodeReadChunk(request.handle, request.offset, data.length)
      : wire.encodeSimpleReply(request.handle, wire.NbdErrno.ok)
    this.#socket.cork()
    this.#socket.write(head)
    this.#socket.write(data)
    this.#socket.uncork()
  }

  #replyError(request: NbdRequest, errno: number, message: string): void {
    if (this.#phase === 'closed') return
    const isStructured = this.#session.structured && request.command === wire.Command.read
    this.#socket.write(
      isStructured
        ? wire.encodeErrorChunk(request.handle, errno, message.slice(0, 256))
        : wire.encodeSimpleReply(request.handle, errno),
    )
  }

  #refuse(request: NbdRequest): void {
    this.#replyError(request, wire.NbdErrno.shutdown, 'the generation of this connection is over')
    if (this.#phase === 'open') this.#trace('nbd: a connection of an older generation was refused and is closed')
    this.#closeWhenIdle()
  }

  /** No further request is read; those that were are answered first. */
  #closeWhenIdle(): void {
    if (this.#phase === 'open') this.#phase = 'closing'
  }

  #end(): void {
    this.#phase = 'closed'
    this.#socket.end()
    this.#socket.resume()
    setTimeout(() => this.#socket.destroy(), lingerTimeoutMs).unref()
  }

  #destroy(why: string): void {
    this.#trace(`nbd: connection dropped: ${why}`)
    this.#socket.destroy()
  }

  #onClosed(): void {
    clearTimeout(this.#negotiationTimer)
    this.#phase = 'closed'
    this.#waiting.length = 0
    this.#waitingBytes = 0
  }
}

function storeErrno(error: unknown): number {
  if (error instanceof NbdError && error.reason === 'io') return error.errno
  if (error instanceof WorldError) return wire.NbdErrno.io
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EFBIG':
      return wire.NbdErrno.noSpace
    case 'EPERM':
    case 'EACCES':
    case 'EROFS':
      return wire.NbdErrno.permission
    case 'ENOMEM':
      return wire.NbdErrno.noMemory
    default:
      return wire.NbdErrno.io
  }
}
