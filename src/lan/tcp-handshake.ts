/**
 * The last step of a TCP handshake, taken for a gateway that leaves it out: to the guest's SYN+ACK the gateway owes an
 * ACK. The passt of Debian 12 sends none until its client has sent data, so a server that speaks first (SMTP, FTP,
 * MySQL, dropbear) would wait for its client for ever, and its client for it. For a gateway that answers by itself, as
 * later versions do, one more ACK is a harmless repeat.
 *
 *   guest ── SYN+ACK ──► gateway
 *         probe (ARP) ─►          only behind it: that passt spins for ever over a SYN+ACK that it reads together with
 *      ◄─ answer ───────          the data that follows it, and the data follows our ACK
 *   guest ◄── ACK (ours)
 *
 * RFC 9293, 3.5: the ACK has the number that the SYN+ACK acknowledges, and acknowledges its number plus one.
 */

import { encodeArpRequest, internetChecksum, isArpReplyFrom, type Mac } from './frame.ts'

const ethernetBytes = 14
const ipv4Bytes = 20
const tcpBytes = 20
const etherTypeIpv4 = 0x0800
const protocolTcp = 6
const synAndAck = 0x12
const ack = 0x10

/**
 * The guest may send so many bytes before the gateway itself has said its window. Small enough not to be refused
 * whatever the window's scale was, and more than any greeting.
 */
const windowBytes = 1024

/** Handshakes under way at once. More are a flood, and go on as if nobody helped. */
const maxOwed = 1024

/** An address that no station has, so that the answers to probes are told from those to the guest's requests. */
const nobody = new Uint8Array(4)

/** What stands between the switch and one gateway. */
export class HandshakeFinisher {
  readonly #probe: Uint8Array
  readonly #gatewayAddress: Uint8Array
  /** One for each probe that has not been answered, oldest first. */
  readonly #owed: Uint8Array[] = []

  constructor(guestMac: Mac, gatewayAddress: Uint8Array) {
    this.#probe = encodeArpRequest(guestMac, nobody, gatewayAddress)
    this.#gatewayAddress = gatewayAddress
  }

  /**
   * `frame` was sent to the gateway.
   * @returns what to send after it
   */
  onSent(frame: Uint8Array): Uint8Array | undefined {
    const answer = owedAcknowledgement(frame)
    if (answer === undefined || this.#owed.length === maxOwed) return undefined
    this.#owed.push(answer)
    return this.#probe
  }

  /**
   * The gateway sent `frame`.
   * @returns what the LAN gets instead of it: itself, or an ACK
   */
  onReceived(frame: Uint8Array): Uint8Array | undefined {
    const isAnswer = isArpReplyFrom(frame, this.#gatewayAddress) && frame.subarray(38, 42).every((byte) => byte === 0)
    return isAnswer ? this.#owed.shift() : frame
  }
}

/** The ACK that `frame`'s receiver owes its sender, if `frame` is a SYN+ACK over IPv4. */
export function owedAcknowledgement(frame: Uint8Array): Uint8Array | undefined {
  if (frame.length < ethernetBytes + ipv4Bytes + tcpBytes) return undefined
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  if (view.getUint16(12) !== etherTypeIpv4 || frame[23] !== protocolTcp) return undefined
  const tcp = ethernetBytes + (frame[14]! & 0xf) * 4
  // Only the first fragment has a TCP header.
  const isFirst = (view.getUint16(20) & 0x1fff) === 0
  if (!isFirst || frame.length < tcp + tcpBytes || (frame[tcp + 13]! & 0x17) !== synAndAck) return undefined

  const answer = new Uint8Array(ethernetBytes + ipv4Bytes + tcpBytes)
  const out = new DataView(answer.buffer)
  answer.set(frame.subarray(6, 12), 0)
  answer.set(frame.subarray(0, 6), 6)
  out.setUint16(12, etherTypeIpv4)
  answer[14] = 0x45
  out.setUint16(16, ipv4Bytes + tcpBytes)
  answer[22] = 64
  answer[23] = protocolTcp
  answer.set(frame.subarray(30, 34), 26)
  answer.set(frame.subarray(26, 30), 30)
  out.setUint16(24, internetChecksum(answer.subarray(14, 34)))
  out.setUint16(34, view.getUint16(tcp + 2))
  out.setUint16(36, view.getUint16(tcp))
  out.setUint32(38, view.getUint32(tcp + 8))
  out.setUint32(42, (view.getUint32(tcp + 4) + 1) >>> 0)
  answer[46] = (tcpBytes / 4) << 4
  answer[47] = ack
  out.setUint16(48, windowBytes)
  const pseudoHeader = new Uint8Array(12)
  pseudoHeader.set(answer.subarray(26, 34))
  pseudoHeader[9] = protocolTcp
  new DataView(pseudoHeader.buffer).setUint16(10, tcpBytes)
  out.setUint16(50, internetChecksum(pseudoHeader, answer.subarray(34)))
  return answer
}
