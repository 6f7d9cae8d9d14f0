/**
 * One TCP connection to the guest over a link that loses nothing (RFC 9293, cut down to that): connect, send, receive
 * in order, acknowledge. A SYN is sent again until it is answered, since the guest may not listen yet. No close, no
 * windows of our own: what we send is small, and what we receive is consumed at once.
 */

import { type EthernetPeer, protocol } from './ethernet-peer.ts'

const flag = { fin: 1, syn: 2, reset: 4, push: 8, acknowledge: 16 } as const
const headerBytes = 20
const receiveWindowBytes = 60_000

export class TcpClient {
  readonly #peer: EthernetPeer
  readonly #port: number
  readonly #guestPort: number
  readonly #onData: (bytes: Uint8Array) => void
  #state: 'closed' | 'connecting' | 'open' = 'closed'
  #nextSend = 1000
  #nextReceive = 0

  constructor(peer: EthernetPeer, port: number, guestPort: number, onData: (bytes: Uint8Array) => void) {
    this.#peer = peer
    this.#port = port
    this.#guestPort = guestPort
    this.#onData = onData
    peer.handle(protocol.tcp, (segment) => this.#onSegment(segment))
  }

  get isOpen(): boolean {
    return this.#state === 'open'
  }

  /** Call again from time to time until the connection is open: nobody may have been listening. */
  connect(): void {
    if (this.#state === 'open') return
    this.#state = 'connecting'
    this.#send(flag.syn, new Uint8Array())
  }

  /** From here on nothing is sent, and what arrives is ignored. */
  abandon(): void {
    this.#state = 'closed'
  }

  send(bytes: Uint8Array): void {
    this.#send(flag.acknowledge | flag.push, bytes)
    this.#nextSend = (this.#nextSend + bytes.length) >>> 0
  }

  #onSegment(segment: Uint8Array): void {
    const view = new DataView(segment.buffer, segment.byteOffset, segment.byteLength)
    if (view.getUint16(0) !== this.#guestPort || view.getUint16(2) !== this.#port) return
    const flags = segment[13]!
    // Refused: the server is not up yet, and the caller connects again.
    if (flags & flag.reset) {
      if (this.#state === 'open') throw new Error('the guest reset the connection')
      this.#state = 'closed'
      return
    }
    const sequence = view.getUint32(4)
    if (flags & flag.syn) {
      if (this.#state !== 'connecting') return
      this.#state = 'open'
      this.#nextReceive = (sequence + 1) >>> 0
      this.#nextSend = (this.#nextSend + 1) >>> 0
      this.#send(flag.acknowledge, new Uint8Array())
      return
    }
    const data = segment.subarray((segment[12]! >> 4) * 4)
    // Anything but the next byte is a repeat, on a link that keeps the order: acknowledged again, not delivered again.
    if (this.#state !== 'open' || data.length === 0) return
    const isNext = sequence === this.#nextReceive
    if (isNext) this.#nextReceive = (this.#nextReceive + data.length) >>> 0
    this.#send(flag.acknowledge, new Uint8Array())
    if (isNext) this.#onData(data)
  }

  #send(flags: number, data: Uint8Array): void {
    const segment = new Uint8Array(headerBytes + data.length)
    const view = new DataView(segment.buffer)
    view.setUint16(0, this.#port)
    view.setUint16(2, this.#guestPort)
    view.setUint32(4, this.#nextSend)
    view.setUint32(8, flags & flag.acknowledge ? this.#nextReceive : 0)
    segment[12] = (headerBytes / 4) << 4
    segment[13] = flags
    view.setUint16(14, receiveWindowBytes)
    segment.set(data, headerBytes)
    view.setUint16(16, this.#peer.checksumWithAddresses(protocol.tcp, segment))
    this.#peer.sendPacket(protocol.tcp, segment)
  }
}
