/**
 * A host on the guest's network, for tests in one process: it finds the guest by ARP, pings it, sends it datagrams, and
 * runs TCP connections to it (tcp-client.ts).
 *
 * The link between them loses nothing and keeps the order, so nothing is retransmitted except what starts a
 * conversation: a guest that is still booting answers nobody. It does not fragment, and knows no IPv6.
 */

import {
  broadcastMac,
  encodeArpRequest,
  internetChecksum,
  isArpReplyFrom,
  type Mac,
  macAt,
  macBytes,
} from '../../src/lan/frame.ts'

const etherType = { ipv4: 0x0800, arp: 0x0806 } as const
export const protocol = { icmp: 1, tcp: 6, udp: 17 } as const
const headerBytes = { ethernet: 14, ipv4: 20 } as const

/** What stands behind a protocol number: it is given whole IPv4 payloads from the guest. */
export type PayloadHandler = (payload: Uint8Array) => void

export class EthernetPeer {
  readonly #mac: Mac
  readonly address: Uint8Array
  readonly guestAddress: Uint8Array
  /** Frames for the guest that nobody fetched yet. */
  #toGuest: Uint8Array[] = []
  #guestMac: Mac | undefined
  #packetNumber = 0
  #pingNumber = 0
  #pongs = 0
  readonly #handlers = new Map<number, PayloadHandler>()

  constructor(mac: Mac, address: Uint8Array, guestAddress: Uint8Array) {
    this.#mac = mac
    this.address = address
    this.guestAddress = guestAddress
  }

  /** Whether the guest has said where it is. */
  get knowsGuest(): boolean {
    return this.#guestMac !== undefined
  }

  /** Echo replies with the right content. */
  get pongs(): number {
    return this.#pongs
  }

  handle(protocolNumber: number, handler: PayloadHandler): void {
    this.#handlers.set(protocolNumber, handler)
  }

  takeFrames(): Uint8Array[] {
    return this.#toGuest.splice(0)
  }

  askForGuest(): void {
    this.#toGuest.push(encodeArpRequest(this.#mac, this.address, this.guestAddress))
  }

  onFrame(frame: Uint8Array): void {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
    const type = view.getUint16(12)
    if (type === etherType.arp) this.#onArp(frame, view)
    else if (type === etherType.ipv4) this.#onPacket(frame, view)
  }

  #onArp(frame: Uint8Array, view: DataView): void {
    if (isArpReplyFrom(frame, this.guestAddress)) this.#guestMac = macAt(frame, 22)
    const asksForUs = view.getUint16(20) === 1 && this.address.every((byte, index) => frame[38 + index] === byte)
    if (asksForUs) this.#toGuest.push(this.#arpReply(frame))
  }

  /** The question with the roles exchanged (RFC 826). */
  #arpReply(question: Uint8Array): Uint8Array {
    const reply = question.slice()
    reply.set(question.subarray(6, 12), 0)
    reply.set(macBytes(this.#mac), 6)
    reply[21] = 2
    reply.set(macBytes(this.#mac), 22)
    reply.set(this.address, 28)
    reply.set(question.subarray(22, 32), 32)
    return reply
  }

  #onPacket(frame: Uint8Array, view: DataView): void {
    const start = headerBytes.ethernet + (frame[14]! & 15) * 4
    const end = headerBytes.ethernet + view.getUint16(16)
    const payload = frame.subarray(start, end)
    if (frame[23] === protocol.icmp) this.#onEcho(payload)
    this.#handlers.get(frame[23]!)?.(payload)
  }

  #onEcho(message: Uint8Array): void {
    const isEchoReply = message[0] === 0
    if (!isEchoReply || internetChecksum(message) !== 0) return
    if (message.subarray(8).every((byte, index) => byte === echoByte(index))) this.#pongs++
  }

  /** An echo request with so many bytes of payload (RFC 792). */
  ping(payloadBytes: number): void {
    const message = new Uint8Array(8 + payloadBytes)
    const view = new DataView(message.buffer)
    message[0] = 8
    view.setUint16(4, 0x5573)
    view.setUint16(6, this.#pingNumber++ & 0xffff)
    for (let index = 0; index < payloadBytes; index++) message[8 + index] = echoByte(index)
    view.setUint16(2, internetChecksum(message))
    this.sendPacket(protocol.icmp, message)
  }

  /** A datagram to a port, normally one that nobody listens on: the guest then answers with an ICMP error. */
  sendDatagram(port: number, content: Uint8Array): void {
    const datagram = new Uint8Array(8 + content.length)
    const view = new DataView(datagram.buffer)
    view.setUint16(0, 40_000)
    view.setUint16(2, port)
    view.setUint16(4, datagram.length)
    datagram.set(content, 8)
    view.setUint16(6, this.checksumWithAddresses(protocol.udp, datagram))
    this.sendPacket(protocol.udp, datagram)
  }

  /** Checksum over a segment and the pseudo header in front of it (RFC 9293, 3.1). */
  checksumWithAddresses(protocolNumber: number, segment: Uint8Array): number {
    const pseudo = new Uint8Array(12)
    pseudo.set(this.address, 0)
    pseudo.set(this.guestAddress, 4)
    pseudo[9] = protocolNumber
    new DataView(pseudo.buffer).setUint16(10, segment.length)
    return internetChecksum(pseudo, segment)
  }

  /** Sends an IPv4 packet to the guest, once it is known where that is. */
  sendPacket(protocolNumber: number, payload: Uint8Array): void {
    const frame = new Uint8Array(headerBytes.ethernet + headerBytes.ipv4 + payload.length)
    const view = new DataView(frame.buffer)
    frame.set(macBytes(this.#guestMac ?? broadcastMac), 0)
    frame.set(macBytes(this.#mac), 6)
    view.setUint16(12, etherType.ipv4)
    frame[14] = 0x45
    view.setUint16(16, headerBytes.ipv4 + payload.length)
    view.setUint16(18, this.#packetNumber++ & 0xffff)
    frame[22] = 64
    frame[23] = protocolNumber
    frame.set(this.address, 26)
    frame.set(this.guestAddress, 30)
    view.setUint16(24, internetChecksum(frame.subarray(headerBytes.ethernet, headerBytes.ethernet + headerBytes.ipv4)))
    frame.set(payload, headerBytes.ethernet + headerBytes.ipv4)
    this.#toGuest.push(frame)
  }
}

function echoByte(index: number): number {
  return (index * 7 + 3) & 0xff
}
