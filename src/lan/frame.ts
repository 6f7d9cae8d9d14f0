/**
 * Ethernet frames as the LAN sees them: destination, source, type. Nothing above the link layer is looked at, with two
 * exceptions that the LAN itself sends: the announcement at go-live, and the gateway's introduction of its guest.
 *
 *     0            6            12      14
 *     ├────────────┼────────────┼───────┼──────────────
 *     │ destination│ source     │ type  │ payload …        (IEEE 802.3, without preamble and checksum)
 */

import { ExitCode, WorldError } from '../base/assert.ts'

/** A header alone is the shortest frame that has an address to go to. Guests do not pad to 60 bytes, so nor do we ask. */
export const minFrameBytes = 14

/** The longest frame QEMU's stream netdev sends (its NET_BUFSIZE, 64 KiB + 4 KiB): what peers may rely on. */
export const maxFrameBytes = 65_536 + 4096

/** A hardware address as a 48-bit number, so that it can be compared and be a map's key. */
export type Mac = number & { readonly brand: 'Mac' }

export const broadcastMac = 0xffff_ffff_ffff as Mac

/** Parses `52:54:00:12:34:56`. A group address is no station's address and is refused. */
export function parseMac(text: string): Mac {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) {
    throw new WorldError(
      'bad-mac',
      `"${text}" is not a MAC address: write for example 52:54:00:12:34:56`,
      ExitCode.badConfiguration,
    )
  }
  const mac = Number.parseInt(text.replaceAll(':', ''), 16) as Mac
  if (isGroup(mac) || mac === 0) {
    throw new WorldError(
      'bad-mac',
      `"${text}" is not one station's MAC address: its first byte must be even, for example 52:54:00:12:34:56`,
      ExitCode.badConfiguration,
    )
  }
  return mac
}

export function formatMac(mac: Mac): string {
  return mac
    .toString(16)
    .padStart(12, '0')
    .replace(/..(?=.)/g, '$&:')
}

/** The address at `offset`; the caller has checked the length. */
export function macAt(bytes: Uint8Array, offset: number): Mac {
  const high = bytes[offset]! * 256 + bytes[offset + 1]!
  const low =
    bytes[offset + 2]! * 0x100_0000 + bytes[offset + 3]! * 0x1_0000 + bytes[offset + 4]! * 0x100 + bytes[offset + 5]!
  return (high * 0x1_0000_0000 + low) as Mac
}

export function macBytes(mac: Mac): Uint8Array {
  const bytes = new Uint8Array(6)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, Math.floor(mac / 0x1_0000_0000))
  view.setUint32(2, mac % 0x1_0000_0000)
  return bytes
}

export function destinationOf(frame: Uint8Array): Mac {
  return macAt(frame, 0)
}

export function sourceOf(frame: Uint8Array): Mac {
  return macAt(frame, 6)
}

/** Broadcast and multicast: the lowest bit of the first byte is set. */
export function isGroup(mac: Mac): boolean {
  return Math.floor(mac / 0x100_0000_0000) % 2 === 1
}

export function isGoodFrameLength(lengthBytes: number): boolean {
  return lengthBytes >= minFrameBytes && lengthBytes <= maxFrameBytes
}

const etherTypeArp = 0x0806
const etherTypeRarp = 0x8035

interface AddressResolution {
  readonly destination: Mac
  readonly etherType: number
  readonly operation: number
  readonly senderMac: Mac
  readonly senderAddress: Uint8Array
  readonly targetMac: Mac
  readonly targetAddress: Uint8Array
}

/** ARP and RARP share one layout (RFC 826, RFC 903), padded to Ethernet's 60 bytes. */
function encodeAddressResolution(packet: AddressResolution): Uint8Array {
  const frame = new Uint8Array(60)
  const view = new DataView(frame.buffer)
  frame.set(macBytes(packet.destination), 0)
  frame.set(macBytes(packet.senderMac), 6)
  view.setUint16(12, packet.etherType)
  view.setUint16(14, 1) // hardware: Ethernet
  view.setUint16(16, 0x0800) // protocol: IPv4
  frame[18] = 6
  frame[19] = 4
  view.setUint16(20, packet.operation)
  frame.set(macBytes(packet.senderMac), 22)
  frame.set(packet.senderAddress, 28)
  frame.set(macBytes(packet.targetMac), 32)
  frame.set(packet.targetAddress, 38)
  return frame
}

const noAddress = new Uint8Array(4)

/**
 * "The station with this MAC is here now": one RARP frame (type 0x8035, operation 3), broadcast, with the machine's MAC
 * as source. Switches and bridges move their entry; stations ignore the content. QEMU sends the same after a migration.
 */
export function encodeAnnouncement(mac: Mac): Uint8Array {
  return encodeAddressResolution({
    destination: broadcastMac,
    etherType: etherTypeRarp,
    operation: 3,
    senderMac: mac,
    senderAddress: noAddress,
    targetMac: mac,
    targetAddress: noAddress,
  })
}

/** "Who has `target`?" asked by the station `mac` with the IPv4 address `address`. */
export function encodeArpRequest(mac: Mac, address: Uint8Array, target: Uint8Array): Uint8Array {
  return encodeAddressResolution({
    destination: broadcastMac,
    etherType: etherTypeArp,
    operation: 1,
    senderMac: mac,
    senderAddress: address,
    targetMac: 0 as Mac,
    targetAddress: target,
  })
}

/** True for an ARP reply in which `sender` (IPv4) tells its MAC. */
export function isArpReplyFrom(frame: Uint8Array, sender: Uint8Array): boolean {
  if (frame.length < 42) return false
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  return (
    view.getUint16(12) === etherTypeArp &&
    view.getUint16(20) === 2 &&
    sender.every((byte, index) => frame[28 + index] === byte)
  )
}

/** Parses `10.0.2.15` to its four bytes. */
export function parseIpv4(text: string): Uint8Array {
  const parts = text.split('.')
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256)) {
    throw new WorldError(
      'bad-address',
      `"${text}" is not an IPv4 address: write for example 10.0.2.15`,
      ExitCode.badConfiguration,
    )
  }
  return Uint8Array.from(parts, Number)
}

/** The internet checksum (RFC 1071) over the given pieces, each of even length but the last. */
export function internetChecksum(...pieces: readonly Uint8Array[]): number {
  let sum = 0
  for (const piece of pieces) {
    for (let index = 0; index < piece.length; index += 2) sum += (piece[index]! << 8) | (piece[index + 1] ?? 0)
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

/** A protocol number that nobody acts on (RFC 3692: for experiments). */
const protocolForExperiments = 253

/** An empty IPv4 packet: "`address` lives at this MAC", for a peer that learns addresses from packets and not from ARP. */
export function encodeEmptyPacket(mac: Mac, address: Uint8Array, target: Uint8Array): Uint8Array {
  const frame = new Uint8Array(60)
  const view = new DataView(frame.buffer)
  const headerBytes = 20
  const payloadBytes = 8
  frame.set(macBytes(broadcastMac), 0)
  frame.set(macBytes(mac), 6)
  view.setUint16(12, 0x0800)
  frame[14] = 0x45
  view.setUint16(16, headerBytes + payloadBytes)
  frame[22] = 1 // time to live
  frame[23] = protocolForExperiments
  frame.set(address, 26)
  frame.set(target, 30)
  view.setUint16(24, internetChecksum(frame.subarray(14, 14 + headerBytes)))
  return frame
}
