/**
 * The messages between a replica and the switch. Each travels behind a 32-bit big-endian length (length-prefix.ts);
 * its first byte is its type, the rest is little-endian like every format of ours. Encode and decode mirror each other.
 *
 *     switch → replica                           replica → switch
 *     challenge  version, nonce                  hello     version, machine, replica, proof
 *     welcome                                    bind      generation, log id, MAC, covered, received frame id
 *     bound      generation, sequence, frame id  output    sequence, frame
 *     refused    generation, reason              covered   frame id
 *     frame      frame id, frame                 announce
 *     confirmed  sequence                        ping
 *     pong
 *
 * The proof is HMAC-SHA-256 of the nonce and both names under the machine's token, so the token never travels and an
 * old hello cannot be played again. The connection itself is neither encrypted nor authenticated message by message:
 * between hosts it belongs inside TLS.
 */

import { createHmac, timingSafeEqual } from 'node:crypto'
import { unreachable, WorldError } from '../base/assert.ts'
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { macAt, macBytes, maxFrameBytes } from './frame.ts'
import { encodePrefix, prefixBytes } from './length-prefix.ts'
import type { BindRequest, Refusal } from './machine-port.ts'

/** Grows with every change of a message. Both sides refuse another version. */
export const replicaProtocolVersion = 3

export const nonceBytes = 32
export const proofBytes = 32

/** The longest message is one with a frame: type and number before it. */
export const maxMessageBytes = maxFrameBytes + 16

/** Machine and replica names are short; what a stranger can make the switch remember is bounded by it. */
const maxNameBytes = 256

export type MessageToSwitch =
  | {
      readonly type: 'hello'
      readonly version: number
      readonly machine: string
      readonly replica: string
      readonly proof: Uint8Array
    }
  | { readonly type: 'bind'; readonly request: BindRequest }
  | { readonly type: 'output'; readonly sequence: bigint; readonly frame: Uint8Array }
  | { readonly type: 'covered'; readonly frameId: bigint }
  | { readonly type: 'announce' }
  /** Are you there? Answered by a pong, also to a replica that is not bound. */
  | { readonly type: 'ping' }

export type MessageToReplica =
  | { readonly type: 'challenge'; readonly version: number; readonly nonce: Uint8Array }
  | { readonly type: 'welcome' }
  | { readonly type: 'bound'; readonly generation: bigint; readonly lastSequence: bigint; readonly lastFrameId: bigint }
  | { readonly type: 'refused'; readonly generation: bigint; readonly reason: Refusal }
  | { readonly type: 'frame'; readonly frameId: bigint; readonly frame: Uint8Array }
  | { readonly type: 'confirmed'; readonly sequence: bigint }
  | { readonly type: 'pong' }

const typeBytes = {
  hello: 1,
  bind: 2,
  output: 3,
  covered: 4,
  announce: 5,
  ping: 6,
  challenge: 16,
  welcome: 17,
  bound: 18,
  refused: 19,
  frame: 20,
  confirmed: 21,
  pong: 22,
} as const

const refusals: readonly Refusal[] = [
  'unauthenticated',
  'stale-generation',
  'other-replica',
  'wrong-mac',
  'bad-frame-id',
  'fenced',
]

/** Proof that a replica holds the machine's token. Names are length-prefixed, so no two pairs look alike. */
export function proofOf(token: string, nonce: Uint8Array, machine: string, replica: string): Uint8Array {
  const text = new ByteWriter().raw(nonce).text(machine).text(replica)
  return createHmac('sha256', token).update(text.view()).digest()
}

/** Compares in constant time. */
export function isSameProof(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}

/** Prefix and body in one piece. Frames are copied into it: at 1500 bytes cheaper than a second write. */
function withPrefix(writer: ByteWriter): Uint8Array {
  const message = writer.finish()
  message.set(encodePrefix(message.length - prefixBytes))
  return message
}

function begin(type: keyof typeof typeBytes, bodyBytes = 32): ByteWriter {
  return new ByteWriter(prefixBytes + 1 + bodyBytes).u32(0).u8(typeBytes[type])
}

export function encodeMessageToSwitch(message: MessageToSwitch): Uint8Array {
  switch (message.type) {
    case 'hello':
      return withPrefix(
        begin('hello', 128).u8(message.version).text(message.machine).text(message.replica).raw(message.proof),
      )
    case 'bind': {
      const { generation, logId, mac, coveredFrameId, receivedFrameId } = message.request
      return withPrefix(
        begin('bind', 48).u64(generation).u64(logId).raw(macBytes(mac)).u64(coveredFrameId).u64(receivedFrameId),
      )
    }
    case 'output':
      return withPrefix(
        begin('output', 8 + message.frame.length)
          .u64(message.sequence)
          .raw(message.frame),
      )
    case 'covered':
      return withPrefix(begin('covered').u64(message.frameId))
    case 'announce':
    case 'ping':
      return withPrefix(begin(message.type))
    default:
      return unreachable(message)
  }
}

function readName(reader: ByteReader): string {
  const lengthBytes = reader.u32()
  if (lengthBytes > maxNameBytes) throw new WorldError('bad-message', `a name of ${lengthBytes} bytes is too long`)
  return new TextDecoder().decode(reader.raw(lengthBytes))
}

/** Frames in the result are views of `body`. */
export function decodeMessageToSwitch(body: Uint8Array): MessageToSwitch {
  const reader = new ByteReader(body)
  const typeByte = reader.u8()
  const message = decodeBodyToSwitch(typeByte, reader)
  reader.end()
  return message
}

function decodeBodyToSwitch(typeByte: number, reader: ByteReader): MessageToSwitch {
  switch (typeByte) {
    case typeBytes.hello: {
      const version = reader.u8()
      if (version !== replicaProtocolVersion) throw versionError(version)
      const machine = readName(reader)
      const replica = readName(reader)
      return { type: 'hello', version, machine, replica, proof: reader.raw(proofBytes) }
    }
    case typeBytes.bind: {
      const generation = reader.u64()
      const logId = reader.u64()
      const mac = macAt(reader.raw(6), 0)
      const coveredFrameId = reader.u64()
      const receivedFrameId = reader.u64()
      return { type: 'bind', request: { generation, logId, mac, coveredFrameId, receivedFrameId } }
    }
    case typeBytes.output: {
      const sequence = reader.u64()
      return { type: 'output', sequence, frame: reader.raw(reader.remaining) }
    }
    case typeBytes.covered:
      return { type: 'covered', frameId: reader.u64() }
    case typeBytes.announce:
      return { type: 'announce' }
    case typeBytes.ping:
      return { type: 'ping' }
    default:
      throw new WorldError('bad-message', `${typeByte} is no message to the switch`)
  }
}

export function encodeMessageToReplica(message: MessageToReplica): Uint8Array {
  switch (message.type) {
    case 'challenge':
      return withPrefix(begin('challenge').u8(message.version).raw(message.nonce))
    case 'welcome':
    case 'pong':
      return withPrefix(begin(message.type))
    case 'bound':
      return withPrefix(begin('bound').u64(message.generation).u64(message.lastSequence).u64(message.lastFrameId))
    case 'refused':
      return withPrefix(begin('refused').u64(message.generation).u8(refusals.indexOf(message.reason)))
    case 'frame':
      return withPrefix(
        begin('frame', 8 + message.frame.length)
          .u64(message.frameId)
          .raw(message.frame),
      )
    case 'confirmed':
      return withPrefix(begin('confirmed').u64(message.sequence))
    default:
      return unreachable(message)
  }
}

/** Frames in the result are views of `body`. */
export function decodeMessageToReplica(body: Uint8Array): MessageToReplica {
  const reader = new ByteReader(body)
  const typeByte = reader.u8()
  const message = decodeBodyToReplica(typeByte, reader)
  reader.end()
  return message
}

function decodeBodyToReplica(typeByte: number, reader: ByteReader): MessageToReplica {
  switch (typeByte) {
    case typeBytes.challenge: {
      const version = reader.u8()
      if (version !== replicaProtocolVersion) throw versionError(version)
      return { type: 'challenge', version, nonce: reader.raw(nonceBytes).slice() }
    }
    case typeBytes.welcome:
      return { type: 'welcome' }
    case typeBytes.bound: {
      const generation = reader.u64()
      const lastSequence = reader.u64()
      return { type: 'bound', generation, lastSequence, lastFrameId: reader.u64() }
    }
    case typeBytes.refused: {
      const generation = reader.u64()
      const reason = refusals[reader.u8()]
      if (!reason)
        throw new WorldError('bad-message', 'the switch refused for a reason that this version does not know')
      return { type: 'refused', generation, reason }
    }
    case typeBytes.frame: {
      const frameId = reader.u64()
      return { type: 'frame', frameId, frame: reader.raw(reader.remaining) }
    }
    case typeBytes.confirmed:
      return { type: 'confirmed', sequence: reader.u64() }
    case typeBytes.pong:
      return { type: 'pong' }
    default:
      throw new WorldError('bad-message', `${typeByte} is no message to a replica`)
  }
}

function versionError(version: number): WorldError {
  return new WorldError(
    'lan-version',
    `the peer speaks version ${version} of the replica port's protocol, we speak ${replicaProtocolVersion}: run the same release on both sides`,
  )
}
