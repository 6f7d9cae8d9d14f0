/**
 * The smallest guest that a TCP client can talk to: answers ARP, accepts connections on one port, echoes what comes in.
 * It relies on a wire that loses nothing, so that a test fails when the LAN does. For tests only.
 */

import { formatMac, internetChecksum, macAt, macBytes, parseIpv4, parseMac } from './frame.ts'

const flag = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const

interface Segment {
  readonly sequence: number
  readonly acknowledgement: number
  readonly flags: number
  readonly data: Uint8Array
}

interface Connection {
  sendNext: number
  receiveNext: number
  isGreeted: boolean
}

export class TcpEchoStation {
  readonly #mac: Uint8Array
  readonly #address: Uint8Array
  readonly #port: number
  readonly #connections = new Map<string, Connection>()
  readonly #greeting: Uint8Array
  #sequence = 0n

  /** @param greeting what it says first, as soon as a connection stands */
  constructor(mac: string, address: string, port: number, greeting = '') {
    this.#mac = macBytes(parseMac(mac))
    this.#address = parseIpv4(address)
    this.#port = port
    this.#greeting = new TextEncoder().encode(greeting)
  }

  /** Numbers outputs, as the hypervisor would. */
  nextSequence(): bigint {
    return ++this.#sequence
  }

  /** The frames that answer `frame`. */
  onFrame(frame: Uint8Array): Uint8Array[] {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
    const etherType = view.getUint16(12)
    if (etherType === 0x0806) return this.#onArp(frame, view)
    if (etherType !== 0x0800 || frame[23] !== 6) return []
    const ipBytes = (frame[14]! & 15) * 4
    const tcp = 14 + ipBytes
    if (view.getUint16(tcp + 2) !== this.#port) return []
    const dataOffset = tcp + (frame[tcp + 12]! >> 4) * 4
    const segment: Segment = {
      sequence: view.getUint32(tcp + 4),
      acknowledgement: view.getUint32(tcp + 8),
      flags: frame[tcp + 13]!,
      data: frame.slice(dataOffset, 14 + view.getUint16(16)),
    }
    const peer = { mac: frame.slice(6, 12), address: frame.slice(26, 30), port: view.getUint16(tcp) }
    const answer = this.#onSegment(`${formatMac(macAt(peer.mac, 0))} ${peer.address.join('.')} ${peer.port}`, segment)
    return answer ? [this.#encodeSegment(peer, answer)] : []
  }

  #onArp(frame: Uint8Array, view: DataView): Uint8Array[] {
    const isForUs = view.getUint16(20) === 1 && this.#address.every((byte, index) => frame[38 + index] === byte)
    if (!isForUs) return []
    const reply = frame.slice()
    reply.set(frame.subarray(6, 12), 0)
    reply.set(this.#mac, 6)
    reply[21] = 2
    reply.set(this.#mac, 22)
    reply.set(this.#address, 28)
    reply.set(frame.subarray(22, 32), 32)
    return [reply]
  }

  #onSegment(peer: string, { sequence, flags, data }: Segment): Segment | undefined {
    if (flags & flag.rst) {
      this.#connections.delete(peer)
      return undefined
    }
    if (flags & flag.syn) {
      const connection: Connection = { sendNext: 1001, receiveNext: (sequence + 1) >>> 0, isGreeted: false }
      this.#connections.set(peer, connection)
      return this.#answer({ ...connection, sendNext: 1000 }, flag.syn, new Uint8Array(0))
    }
    const connection = this.#connections.get(peer)
    if (!connection || sequence !== connection.receiveNext) return undefined
    if (!connection.isGreeted && this.#greeting.length > 0) {
      connection.isGreeted = true
      const answer = this.#answer(connection, flag.psh, this.#greeting)
      connection.sendNext = (connection.sendNext + this.#greeting.length) >>> 0
      return answer
    }
    const isEnd = (flags & flag.fin) !== 0
    if (data.length === 0 && !isEnd) return undefined
    connection.receiveNext = (connection.receiveNext + data.length + (isEnd ? 1 : 0)) >>> 0
    const answer = this.#answer(connection, isEnd ? flag.fin : flag.psh, data)
    connection.sendNext = (connection.sendNext + data.length + (isEnd ? 1 : 0)) >>> 0
    return answer
  }

  #answer(connection: Connection, flags: number, data: Uint8Array): Segment {
    return { sequence: connection.sendNext, acknowledgement: connection.receiveNext, flags: flags | flag.ack, data }
  }

  #encodeSegment(peer: { mac: Uint8Array; address: Uint8Array; port: number }, segment: Segment): Uint8Array {
    const frame = new Uint8Array(54 + segment.data.length)
    const view = new DataView(frame.buffer)
    frame.set(peer.mac, 0)
    frame.set(this.#mac, 6)
    view.setUint16(12, 0x0800)
    frame[14] = 0x45
    view.setUint16(16, 40 + segment.data.length)
    frame[22] = 64
    frame[23] = 6
    frame.set(this.#address, 26)
    frame.set(peer.address, 30)
    view.setUint16(24, internetChecksum(frame.subarray(14, 34)))
    view.setUint16(34, this.#port)
    view.setUint16(36, peer.port)
    view.setUint32(38, segment.sequence)
    view.setUint32(42, segment.acknowledgement)
    frame[46] = 0x50
    frame[47] = segment.flags
    view.setUint16(48, 65_535)
    frame.set(segment.data, 54)
    const pseudoHeader = new Uint8Array(12)
    pseudoHeader.set(frame.subarray(26, 34))
    pseudoHeader[9] = 6
    new DataView(pseudoHeader.buffer).setUint16(10, frame.length - 34)
    view.setUint16(50, internetChecksum(pseudoHeader, frame.subarray(34)))
    return frame
  }
}
