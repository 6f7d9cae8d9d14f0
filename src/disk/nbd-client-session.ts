/**
 * The client's half of an NBD conversation, without I/O: bytes in, events out, and encoders for the requests. Works with
 * any fixed-newstyle server; falls back to EXPORT_NAME where GO is unknown, and to simple replies.
 *
 *   greeting ──► TLS, over TCP ──► structured replies? ──► GO (or EXPORT_NAME) ──► replies, matched by handle
 *
 * A server's bytes are not trusted: a reply nobody waits for, data outside the request, or a chunk longer than the request
 * allows ends the conversation with `NbdError`, reason `protocol`.
 */

import { assert } from '../base/assert.ts'
import { ByteQueue } from './byte-queue.ts'
import { fencedPrefix } from './names.ts'
import { NbdError } from './nbd-error.ts'
import type { ExportInfo } from './nbd-wire.ts'
import * as wire from './nbd-wire.ts'

export type NbdClientEvent =
  | { readonly kind: 'send'; readonly bytes: Buffer }
  /** TLS begins now, on both sides: `secured` goes on. */
  | { readonly kind: 'startTls' }
  /** Negotiation is over; requests may be sent. */
  | { readonly kind: 'ready'; readonly info: ExportInfo }
  /** A request is answered. `errno` 0 is success; `data` is what a read returned. */
  | {
      readonly kind: 'reply'
      readonly handle: number
      readonly errno: number
      readonly message: string
      readonly data: Buffer
    }
  /** Nothing follows. */
  | { readonly kind: 'end'; readonly error: NbdError }

interface OutstandingRequest {
  readonly command: number
  readonly offset: number
  readonly length: number
  /** Where a structured read gathers its chunks. */
  data: Buffer
  receivedBytes: number
  errno: number
  message: string
}

interface ChunkHeader {
  readonly flags: number
  readonly type: number
  readonly handle: number
  readonly lengthBytes: number
}

type State = 'greeting' | 'startTls' | 'structuredReply' | 'go' | 'exportName' | 'replies' | 'ended'

const askedOption: Partial<Readonly<Record<State, number>>> = {
  startTls: wire.Option.startTls,
  structuredReply: wire.Option.structuredReply,
  go: wire.Option.go,
}

const noData = Buffer.alloc(0)

/** Longest option reply we read: a text or a piece of information. */
const maxOptionReplyBytes = 64 * 1024

function malformed(message: string): NbdError {
  return new NbdError('protocol', `NBD server: ${message}`)
}

export class NbdClientSession {
  readonly #exportName: string
  readonly #usesTls: boolean
  readonly #queue = new ByteQueue()
  readonly #outstanding = new Map<number, OutstandingRequest>()
  #state: State = 'greeting'
  #noZeroes = false
  #structured = false
  #exportInfo: ExportInfo | undefined
  #description = ''
  #optionReply: { readonly option: number; readonly type: number; readonly lengthBytes: number } | undefined
  #simpleRead: number | undefined
  /** The first bytes of a reply header whose rest hasn't arrived. */
  #head: Buffer | undefined
  #chunk: ChunkHeader | undefined
  #nextHandle = 1

  /** @param usesTls TLS begins before anything else is said, or the conversation ends */
  constructor(exportName: string, usesTls: boolean) {
    this.#exportName = exportName
    this.#usesTls = usesTls
  }

  /** Handles of the requests without an answer. */
  get outstanding(): readonly number[] {
    return [...this.#outstanding.keys()]
  }

  /** Notes a request and returns its handle and header; the data of a write is sent right after the header. */
  request(command: number, flags: number, offset: number, length: number): { handle: number; header: Buffer } {
    const handle = this.#nextHandle++
    this.#outstanding.set(handle, {
      command,
      offset,
      length,
      data: noData,
      receivedBytes: 0,
      errno: wire.NbdErrno.ok,
      message: '',
    })
    return { handle, header: wire.encodeRequest({ command, flags, handle: BigInt(handle), offset, length }) }
  }

  /** TLS stands: goes on inside it. */
  secured(): NbdClientEvent[] {
    assert(this.#state === 'startTls', 'TLS begins after STARTTLS')
    this.#state = 'structuredReply'
    return [{ kind: 'send', bytes: wire.encodeOption(wire.Option.structuredReply) }]
  }

  receive(bytes: Uint8Array): NbdClientEvent[] {
    if (this.#state === 'ended') return []
    this.#queue.push(bytes)
    const events: NbdClientEvent[] = []
    try {
      while (this.#step(events)) {
        // One message per step, until bytes run out.
      }
    } catch (error) {
      if (!(error instanceof NbdError)) throw error
      this.#state = 'ended'
      events.push({ kind: 'end', error })
    }
    return events
  }

  #step(events: NbdClientEvent[]): boolean {
    switch (this.#state) {
      case 'greeting':
        return this.#onGreeting(events)
      case 'startTls':
      case 'structuredReply':
      case 'go':
        return this.#onOptionReply(events)
      case 'exportName':
        return this.#onExportNameAnswer(events)
      case 'replies':
        return this.#onReply(events)
      case 'ended':
        return false
    }
  }

  #onGreeting(events: NbdClientEvent[]): boolean {
    const bytes = this.#queue.take(18)
    if (!bytes) return false
    if (bytes.readBigUInt64BE(0) !== wire.serverMagic) throw malformed('it does not speak NBD')
    const flags = bytes.readUInt16BE(16)
    if (bytes.readBigUInt64BE(8) !== wire.optionMagic || (flags & wire.HandshakeFlag.fixedNewstyle) === 0) {
      throw malformed('it is too old: fixed newstyle negotiation is needed')
    }
    const ours = flags & (wire.HandshakeFlag.fixedNewstyle | wire.HandshakeFlag.noZeroes)
    this.#noZeroes = (ours & wire.HandshakeFlag.noZeroes) !== 0
    const option = this.#usesTls ? wire.Option.startTls : wire.Option.structuredReply
    events.push({ kind: 'send', bytes: Buffer.concat([wire.encodeClientFlags(ours), wire.encodeOption(option)]) })
    this.#state = this.#usesTls ? 'startTls' : 'structuredReply'
    return true
  }

  #onOptionReply(events: NbdClientEvent[]): boolean {
    if (!this.#optionReply) {
      const header = this.#queue.take(wire.optionReplyHeaderBytes)
      if (!header) return false
      if (header.readBigUInt64BE(0) !== wire.optionReplyMagic) throw malformed('an option reply has the wrong magic')
      const lengthBytes = header.readUInt32BE(16)
      if (lengthBytes > maxOptionReplyBytes) throw malformed(`an option reply of ${lengthBytes} bytes is too long`)
      this.#optionReply = { option: header.readUInt32BE(8), type: header.readUInt32BE(12), lengthBytes }
    }
    const data = this.#queue.take(this.#optionReply.lengthBytes)
    if (!data) return false
    const { option, type } = this.#optionReply
    this.#optionReply = undefined
    if (option !== askedOption[this.#state]) throw malformed(`an answer to option ${option}, which was not asked`)
    if (this.#state === 'startTls') this.#onStartTlsAnswer(type, events)
    else if (this.#state === 'structuredReply') this.#onStructuredReplyAnswer(type, data, events)
    else this.#onGoAnswer(type, data, events)
    return true
  }

  #onStartTlsAnswer(type: number, events: NbdClientEvent[]): void {
    if (type !== wire.OptionReply.ack) throw malformed('it does not offer TLS, which TCP needs')
    // What came in plain text must not count as said inside TLS.
    if (this.#queue.length > 0) throw malformed('it sent more before TLS began')
    events.push({ kind: 'startTls' })
  }

  #onStructuredReplyAnswer(type: number, data: Buffer, events: NbdClientEvent[]): void {
    // Any error means that the server does not know the option, or cannot go on: GO will tell.
    this.#structured = type === wire.OptionReply.ack && data.length === 0
    const go = wire.encodeGoData(this.#exportName, [wire.Info.description])
    events.push({ kind: 'send', bytes: wire.encodeOption(wire.Option.go, go) })
    this.#state = 'go'
  }

  #onGoAnswer(type: number, data: Buffer, events: NbdClientEvent[]): void {
    if (type === wire.OptionReply.info) {
      this.#onInfo(data)
    } else if (type === wire.OptionReply.ack) {
      if (!this.#exportInfo) throw malformed('it did not say how large the export is')
      this.#state = 'replies'
      events.push({ kind: 'ready', info: { ...this.#exportInfo, description: this.#description } })
    } else if (type === wire.OptionError.unsupported) {
      const name = Buffer.from(this.#exportName)
      events.push({ kind: 'send', bytes: wire.encodeOption(wire.Option.exportName, name) })
      this.#state = 'exportName'
    } else {
      const text = data.subarray(0, wire.maxStringBytes).toString()
      const isFenced = type === wire.OptionError.policy && text.startsWith(fencedPrefix)
      throw new NbdError(
        isFenced ? 'fenced' : 'refused',
        `the NBD server refused the export: ${text || `error ${type}`}`,
      )
    }
  }

  #onInfo(data: Buffer): void {
    if (data.length < 2) throw malformed('a piece of information without a kind')
    const kind = data.readUInt16BE(0)
    if (kind === wire.Info.description) this.#description = data.subarray(2, 2 + wire.maxStringBytes).toString()
    if (kind !== wire.Info.export) return
    if (data.length !== 12) throw malformed('the size of the export is malformed')
    this.#exportInfo = decodeExportInfo(data, 2)
  }

  #onExportNameAnswer(events: NbdClientEvent[]): boolean {
    const bytes = this.#queue.take(this.#noZeroes ? 10 : 134)
    if (!bytes) return false
    this.#state = 'replies'
    events.push({ kind: 'ready', info: decodeExportInfo(bytes, 0) })
    return true
  }

  #onReply(events: NbdClientEvent[]): boolean {
    if (this.#simpleRead !== undefined) return this.#onSimpleData(this.#simpleRead, events)
    if (this.#chunk) return this.#onChunkPayload(this.#chunk, events)
    const header = this.#takeHeader()
    if (!header) return false
    const handle = Number(header.readBigUInt64BE(8))
    const request = this.#outstanding.get(handle)
    if (!request) throw malformed('a reply to nothing we asked')
    if (header.readUInt32BE(0) === wire.simpleReplyMagic) {
      const errno = header.readUInt32BE(4)
      const isRead = request.command === wire.Command.read
      if (isRead && this.#structured) throw malformed('a simple reply to a read, after structured replies were agreed')
      if (isRead && errno === wire.NbdErrno.ok) this.#simpleRead = handle
      else this.#finish(handle, { ...request, errno }, events)
      return true
    }
    if (!this.#structured) throw malformed('a structured reply that was not agreed')
    const lengthBytes = header.readUInt32BE(16)
    if (lengthBytes > Math.max(request.length + 8, 2 * wire.maxStringBytes)) {
      throw malformed(`a chunk of ${lengthBytes} bytes, longer than its request allows`)
    }
    this.#chunk = { flags: header.readUInt16BE(4), type: header.readUInt16BE(6), handle, lengthBytes }
    return true
  }

  /** A whole reply header. Only its magic tells which of two lengths it has, so it is read in two steps. */
  #takeHeader(): Buffer | undefined {
    this.#head ??= this.#queue.take(wire.simpleReplyBytes)
    const head = this.#head
    if (!head) return undefined
    const magic = head.readUInt32BE(0)
    if (magic === wire.simpleReplyMagic) {
      this.#head = undefined
      return head
    }
    if (magic !== wire.structuredReplyMagic) throw malformed('a reply has the wrong magic')
    const tail = this.#queue.take(wire.structuredHeaderBytes - wire.simpleReplyBytes)
    if (!tail) return undefined
    this.#head = undefined
    return Buffer.concat([head, tail])
  }

  #onSimpleData(handle: number, events: NbdClientEvent[]): boolean {
    const request = this.#outstanding.get(handle)!
    const data = this.#queue.take(request.length)
    if (!data) return false
    this.#simpleRead = undefined
    this.#finish(handle, { ...request, data }, events)
    return true
  }

  #onChunkPayload(chunk: ChunkHeader, events: NbdClientEvent[]): boolean {
    const payload = this.#queue.take(chunk.lengthBytes)
    if (!payload) return false
    this.#chunk = undefined
    const request = this.#outstanding.get(chunk.handle)!
    onChunk(request, chunk, payload)
    if ((chunk.flags & wire.ChunkFlag.done) === 0) return true
    const isRead = request.command === wire.Command.read
    if (isRead && request.errno === wire.NbdErrno.ok && request.receivedBytes !== request.length) {
      throw malformed(`a read of ${request.length} bytes was answered with ${request.receivedBytes}`)
    }
    this.#finish(chunk.handle, request, events)
    return true
  }

  #finish(handle: number, request: OutstandingRequest, events: NbdClientEvent[]): void {
    this.#outstanding.delete(handle)
    events.push({ kind: 'reply', handle, errno: request.errno, message: request.message, data: request.data })
  }
}

/** Takes one chunk of a structured reply into its request. */
function onChunk(request: OutstandingRequest, chunk: ChunkHeader, payload: Buffer): void {
  switch (chunk.type) {
    case wire.ChunkType.none:
      if (payload.length > 0 || (chunk.flags & wire.ChunkFlag.done) === 0) throw malformed('an empty chunk with data')
      return
    case wire.ChunkType.offsetData: {
      if (payload.length <= 8) throw malformed('a data chunk without data')
      place(request, Number(payload.readBigUInt64BE(0)), payload.length - 8, payload.subarray(8))
      return
    }
    case wire.ChunkType.offsetHole: {
      if (payload.length !== 12) throw malformed('a hole chunk of the wrong length')
      place(request, Number(payload.readBigUInt64BE(0)), payload.readUInt32BE(8), undefined)
      return
    }
    default: {
      if ((chunk.type & 0x8000) === 0) throw malformed(`a chunk of unknown type ${chunk.type}`)
      if (payload.length < 6) throw malformed('an error chunk that is too short')
      const textBytes = payload.readUInt16BE(4)
      if (6 + textBytes > payload.length) throw malformed('an error chunk whose text is too long')
      // A server that reports an error without a number has failed all the same.
      request.errno = payload.readUInt32BE(0) || wire.NbdErrno.io
      request.message = payload.subarray(6, 6 + textBytes).toString()
    }
  }
}

/** Puts data (or a hole: undefined) where it belongs. A chunk that is the whole read is kept without a copy. */
function place(request: OutstandingRequest, offset: number, lengthBytes: number, data: Buffer | undefined): void {
  const start = offset - request.offset
  const isInside = request.command === wire.Command.read && start >= 0 && start + lengthBytes <= request.length
  if (!isInside || request.receivedBytes + lengthBytes > request.length) {
    throw malformed('data outside of what was asked for')
  }
  request.receivedBytes += lengthBytes
  if (data && lengthBytes === request.length) {
    request.data = data
    return
  }
  // Zeroed, so that a hole needs no write, and overlapping chunks of a bad server show none of our memory.
  if (request.data.length === 0) request.data = Buffer.alloc(request.length)
  data?.copy(request.data, start)
}

function decodeExportInfo(bytes: Buffer, offset: number): ExportInfo {
  const sizeBytes = bytes.readBigUInt64BE(offset)
  if (sizeBytes > BigInt(Number.MAX_SAFE_INTEGER)) throw malformed('the export is too large')
  return { sizeBytes: Number(sizeBytes), flags: bytes.readUInt16BE(offset + 8), description: '' }
}
