/**
 * The server's half of an NBD conversation, without I/O: bytes in, events out. `receive` parses whatever has arrived and
 * says what to do about it. Opening an export takes time (a grant may still be draining older requests), so after an
 * `open` event parsing stands still until the caller answers with `accept` or `refuse`.
 *
 *   greeting ──client flags──► options ──GO / EXPORT_NAME accepted──► requests ──DISC or a fault──► ended
 *                               │    ▲
 *                               └TLS─┘ where TLS is required: no option is heard before STARTTLS
 *
 * A malformed message ends the conversation with a typed error (`WorldError`, code `nbd-protocol`); nothing a peer sends
 * throws out of `receive`. Whether a well-formed request is allowed, and doing it, is the caller's part.
 */

import { assert, WorldError } from '../base/assert.ts'
import { ByteQueue } from './byte-queue.ts'
import type { ExportInfo, NbdRequest } from './nbd-wire.ts'
import * as wire from './nbd-wire.ts'

export type NbdServerEvent =
  | { readonly kind: 'send'; readonly bytes: Buffer }
  | { readonly kind: 'list' }
  /** TLS begins now, on both sides; `receive` takes what comes out of it. */
  | { readonly kind: 'startTls' }
  | { readonly kind: 'open'; readonly exportName: string }
  /** Negotiation is over: requests follow. */
  | { readonly kind: 'transmission' }
  | { readonly kind: 'request'; readonly request: NbdRequest }
  /** The client asked to stop, or `fault` says what was wrong with its bytes. Nothing follows. */
  | { readonly kind: 'end'; readonly fault?: WorldError }

/** Options in plain text where TLS is required: who has not said STARTTLS by then never will. */
const maxPlainOptions = 16

interface PendingOpen {
  readonly option: number
  readonly infos: readonly number[]
}

type State = 'clientFlags' | 'options' | 'opening' | 'listing' | 'requests' | 'ended'

function malformed(message: string): WorldError {
  return new WorldError('nbd-protocol', `NBD client: ${message}`)
}

export class NbdServerSession {
  readonly #queue = new ByteQueue()
  #state: State = 'clientFlags'
  #needsTls: boolean
  #plainOptions = 0
  #noZeroes = false
  #structured = false
  #pendingOpen: PendingOpen | undefined
  #option: { readonly option: number; readonly lengthBytes: number } | undefined
  #request: Omit<NbdRequest, 'data'> | undefined

  /** @param requiresTls nothing is answered but STARTTLS, until TLS stands */
  constructor(requiresTls: boolean) {
    this.#needsTls = requiresTls
  }

  /** The first bytes on the wire are the server's. */
  greeting(): Buffer {
    return wire.encodeServerGreeting()
  }

  /** Whether the client negotiated structured replies, which reads then must use. */
  get structured(): boolean {
    return this.#structured
  }

  receive(bytes: Uint8Array): NbdServerEvent[] {
    if (this.#state === 'ended') return []
    this.#queue.push(bytes)
    return this.#parse()
  }

  /** Answers `list` with the names of the exports. */
  listed(names: readonly string[]): NbdServerEvent[] {
    assert(this.#state === 'listing', 'an answer to LIST without a question')
    this.#state = 'options'
    const replies = names.map((name) =>
      wire.encodeOptionReply(wire.Option.list, wire.OptionReply.server, wire.encodeServerName(name)),
    )
    const ack = wire.encodeOptionReply(wire.Option.list, wire.OptionReply.ack)
    return [{ kind: 'send', bytes: Buffer.concat([...replies, ack]) }, ...this.#parse()]
  }

  /** Answers `open`: the export is there and this client may use it. */
  accept(info: ExportInfo): NbdServerEvent[] {
    const { option, infos } = this.#takePendingOpen()
    if (option === wire.Option.exportName) {
      this.#state = 'requests'
      const bytes = wire.encodeExportNameAnswer(info, this.#noZeroes)
      return [{ kind: 'send', bytes }, { kind: 'transmission' }, ...this.#parse()]
    }
    const parts = [wire.encodeInfoExport(info), wire.encodeInfoBlockSize()]
    if (infos.includes(wire.Info.description)) parts.push(wire.encodeInfoText(wire.Info.description, info.description))
    const replies = parts.map((part) => wire.encodeOptionReply(option, wire.OptionReply.info, part))
    const ack = wire.encodeOptionReply(option, wire.OptionReply.ack)
    const events: NbdServerEvent[] = [{ kind: 'send', bytes: Buffer.concat([...replies, ack]) }]
    this.#state = option === wire.Option.go ? 'requests' : 'options'
    if (this.#state === 'requests') events.push({ kind: 'transmission' })
    return [...events, ...this.#parse()]
  }

  /** Answers `open`: no, with one of `OptionError` and a sentence. The client may try another name. */
  refuse(error: number, text: string): NbdServerEvent[] {
    const { option } = this.#takePendingOpen()
    if (option === wire.Option.exportName) {
      this.#state = 'ended'
      return [{ kind: 'end', fault: new WorldError('nbd-export-refused', text) }]
    }
    this.#state = 'options'
    const bytes = wire.encodeOptionReply(option, error, Buffer.from(text))
    return [{ kind: 'send', bytes }, ...this.#parse()]
  }

  #takePendingOpen(): PendingOpen {
    const pending = this.#pendingOpen
    assert(this.#state === 'opening' && pending !== undefined, 'an answer to an open without a question')
    this.#pendingOpen = undefined
    return pending
  }

  #parse(): NbdServerEvent[] {
    const events: NbdServerEvent[] = []
    try {
      while (this.#step(events)) {
        // One message per step, until bytes run out or the caller has to answer first.
      }
    } catch (fault) {
      if (!(fault instanceof WorldError)) throw fault
      this.#state = 'ended'
      events.push({ kind: 'end', fault })
    }
    return events
  }

  /** Parses one message; false when there is nothing more to do for now. */
  #step(events: NbdServerEvent[]): boolean {
    switch (this.#state) {
      case 'clientFlags':
        return this.#onClientFlags()
      case 'options':
        return this.#onOption(events)
      case 'requests':
        return this.#onRequest(events)
      case 'opening':
      case 'listing':
      case 'ended':
        return false
    }
  }

  #onClientFlags(): boolean {
    const bytes = this.#queue.take(4)
    if (!bytes) return false
    const flags = bytes.readUInt32BE(0)
    const { fixedNewstyle, noZeroes } = wire.HandshakeFlag
    if ((flags & ~(fixedNewstyle | noZeroes)) !== 0) throw malformed(`unknown handshake flags 0x${flags.toString(16)}`)
    this.#noZeroes = (flags & noZeroes) !== 0
    this.#state = 'options'
    return true
  }

  #onOption(events: NbdServerEvent[]): boolean {
    if (!this.#option) {
      const header = this.#queue.take(wire.optionHeaderBytes)
      if (!header) return false
      if (header.readBigUInt64BE(0) !== wire.optionMagic) throw malformed('an option has the wrong magic')
      const lengthBytes = header.readUInt32BE(12)
      if (lengthBytes > wire.maxOptionBytes) throw malformed(`an option of ${lengthBytes} bytes is too long`)
      this.#option = { option: header.readUInt32BE(8), lengthBytes }
    }
    const { option, lengthBytes } = this.#option
    const data = this.#queue.take(lengthBytes)
    if (!data) return false
    this.#option = undefined
    if (this.#needsTls) this.#onPlainOption(option, data, events)
    else this.#onWholeOption(option, data, events)
    return true
  }

  /** "FORCEDTLS mode" of the specification. */
  #onPlainOption(option: number, data: Buffer, events: NbdServerEvent[]): void {
    const reply = (type: number, text = ''): void => {
      events.push({ kind: 'send', bytes: wire.encodeOptionReply(option, type, Buffer.from(text)) })
    }
    if (++this.#plainOptions > maxPlainOptions) throw malformed('it does not begin TLS')
    switch (option) {
      case wire.Option.startTls:
        if (data.length > 0) {
          reply(wire.OptionError.invalid, 'STARTTLS takes no data')
          return
        }
        // What came in plain text must not count as said inside TLS.
        if (this.#queue.length > 0) throw malformed('it sent more before TLS began')
        this.#needsTls = false
        reply(wire.OptionReply.ack)
        events.push({ kind: 'startTls' })
        return
      case wire.Option.abort:
        this.#onWholeOption(option, data, events)
        return
      case wire.Option.exportName:
        throw malformed('it asks for an export without TLS')
      default:
        reply(wire.OptionError.tlsRequired, 'TLS with the pre-shared key is required here')
    }
  }

  #onWholeOption(option: number, data: Buffer, events: NbdServerEvent[]): void {
    const reply = (type: number, text = ''): void => {
      events.push({ kind: 'send', bytes: wire.encodeOptionReply(option, type, Buffer.from(text)) })
    }
    switch (option) {
      case wire.Option.exportName:
        if (data.length > wire.maxStringBytes) throw malformed('an export name is too long')
        this.#open({ option, infos: [] }, data.toString(), events)
        return
      case wire.Option.abort:
        reply(wire.OptionReply.ack)
        this.#state = 'ended'
        events.push({ kind: 'end' })
        return
      case wire.Option.list:
        if (data.length > 0) {
          reply(wire.OptionError.invalid, 'LIST takes no data')
          return
        }
        this.#state = 'listing'
        events.push({ kind: 'list' })
        return
      case wire.Option.structuredReply:
        if (data.length > 0) {
          reply(wire.OptionError.invalid, 'STRUCTURED_REPLY takes no data')
          return
        }
        this.#structured = true
        reply(wire.OptionReply.ack)
        return
      case wire.Option.go:
      case wire.Option.info: {
        const asked = decodeGoData(data)
        if (asked) this.#open({ option, infos: asked.infos }, asked.exportName, events)
        else reply(wire.OptionError.invalid, 'malformed export name or information request')
        return
      }
      default:
        reply(wire.OptionError.unsupported, `option ${option} is not supported`)
    }
  }

  #open(pending: PendingOpen, exportName: string, events: NbdServerEvent[]): void {
    this.#pendingOpen = pending
    this.#state = 'opening'
    events.push({ kind: 'open', exportName })
  }

  #onRequest(events: NbdServerEvent[]): boolean {
    if (!this.#request) {
      const header = this.#queue.take(wire.requestHeaderBytes)
      if (!header) return false
      if (header.readUInt32BE(0) !== wire.requestMagic) throw malformed('a request has the wrong magic')
      const request = {
        flags: header.readUInt16BE(4),
        command: header.readUInt16BE(6),
        handle: header.readBigUInt64BE(8),
        offset: Number(header.readBigUInt64BE(16)),
        length: header.readUInt32BE(24),
      }
      if (request.command === wire.Command.write && request.length > wire.maxPayloadBytes) {
        throw malformed(`a write of ${request.length} bytes is longer than the agreed ${wire.maxPayloadBytes}`)
      }
      this.#request = request
    }
    const request = this.#request
    const data = this.#queue.take(request.command === wire.Command.write ? request.length : 0)
    if (!data) return false
    this.#request = undefined
    if (request.command === wire.Command.disconnect) {
      this.#state = 'ended'
      events.push({ kind: 'end' })
      return false
    }
    events.push({ kind: 'request', request: { ...request, data } })
    return true
  }
}

function decodeGoData(data: Buffer): { readonly exportName: string; readonly infos: readonly number[] } | undefined {
  if (data.length < 6) return undefined
  const nameBytes = data.readUInt32BE(0)
  if (nameBytes > wire.maxStringBytes || 6 + nameBytes > data.length) return undefined
  const count = data.readUInt16BE(4 + nameBytes)
  if (data.length !== 6 + nameBytes + 2 * count) return undefined
  const infos = Array.from({ length: count }, (_, index) => data.readUInt16BE(6 + nameBytes + 2 * index))
  return { exportName: data.subarray(4, 4 + nameBytes).toString(), infos }
}

/**
 * Whether the export can do `request` at all: an NBD error number, 0 when it can. Fencing is another question
 * (`fence.ts`).
 */
export function checkRequest(request: NbdRequest, info: ExportInfo): number {
  const allowedFlags: Readonly<Record<number, number>> = {
    [wire.Command.read]: wire.CommandFlag.fua | wire.CommandFlag.df,
    [wire.Command.write]: wire.CommandFlag.fua,
    [wire.Command.flush]: wire.CommandFlag.fua,
    [wire.Command.trim]: wire.CommandFlag.fua,
    [wire.Command.writeZeroes]: wire.CommandFlag.fua | wire.CommandFlag.noHole,
  }
  const allowed = allowedFlags[request.command]
  if (allowed === undefined) return wire.NbdErrno.invalid
  if ((request.flags & ~allowed) !== 0) return wire.NbdErrno.invalid
  if (request.command === wire.Command.flush) {
    return request.offset === 0 && request.length === 0 ? wire.NbdErrno.ok : wire.NbdErrno.invalid
  }
  const isRead = request.command === wire.Command.read
  if (!isRead && (info.flags & wire.ExportFlag.readOnly) !== 0) return wire.NbdErrno.permission
  if (request.length === 0) return wire.NbdErrno.invalid
  if (isRead && request.length > wire.maxPayloadBytes) return wire.NbdErrno.overflow
  if (request.offset + request.length > info.sizeBytes) return isRead ? wire.NbdErrno.invalid : wire.NbdErrno.noSpace
  return wire.NbdErrno.ok
}
