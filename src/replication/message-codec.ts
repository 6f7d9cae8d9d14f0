/**
 * Messages as bytes.
 *
 *   length u32 │ version u8 │ kind u8 │ fields │ XXH64 of version, kind and fields u64
 *
 * `length` counts what follows it. The checksum is there because an acknowledgement is a promise: a batch must be whole
 * before it is acknowledged. It is not authentication. Everything a peer can say wrong is a `WorldError` with a code;
 * after one the stream is useless and the channel must be closed.
 */

import { unreachable, WorldError } from '../base/assert.ts'
import { ByteReader, ByteWriter, concatBytes } from '../base/bytes.ts'
import { hash64 } from '../base/digest.ts'
import { maxBatchBytes, openBatch } from '../log/batch.ts'
import { maxArtefactsBytes } from '../log/boot-artefacts.ts'
import { readDiscipline, writeDiscipline } from '../log/discipline.ts'
import { readDivergence, writeDivergence } from '../log/divergence.ts'
import { logIndex } from '../log/entry.ts'
import { maxNameBytes, readIdentity, writeIdentity } from '../log/identity.ts'
import { readBoundedVarint, readFlag, readVarint, readVarintText, writeVarint, writeVarintText } from '../log/varint.ts'
import {
  artefactsPieceBytes,
  type Generation,
  type Message,
  type MessageKind,
  maxStatePieceBytes,
  protocolVersion,
  type ReplicaName,
  type Sibling,
} from './messages.ts'
import type { Reach } from './reach.ts'
import { maxStateBytes } from './transferred-state.ts'

const lengthBytes = 4
const checksumBytes = 8

/** Version, kind and checksum: no message is shorter. */
const minMessageBytes = 2 + checksumBytes

/** Only those that carry log, boot artefacts or machine are large. */
const maxMessageBytes = maxBatchBytes + 64
const maxArtefactsMessageBytes = artefactsPieceBytes + 4096
const maxStateMessageBytes = maxStatePieceBytes + 64
const maxOtherMessageBytes = 64 * 1024
const maxReasonBytes = 1024
const maxAddressBytes = 512
const maxBackups = 64

const kindTags = {
  hello: 1,
  refuse: 2,
  welcome: 3,
  entries: 4,
  ack: 5,
  heartbeat: 6,
  confirmed: 7,
  diverged: 8,
  goodbye: 9,
  fetch: 10,
  artefacts: 11,
  pages: 12,
  taken: 13,
  state: 14,
  call: 15,
  takeOver: 16,
} as const satisfies Record<MessageKind, number>

const kindsByTag: ReadonlyMap<number, MessageKind> = new Map(
  (Object.keys(kindTags) as MessageKind[]).map((kind) => [kindTags[kind], kind]),
)

function readGeneration(reader: ByteReader): Generation {
  return readBoundedVarint(reader, Number.MAX_SAFE_INTEGER, 'generation')
}

function readReplica(reader: ByteReader): ReplicaName {
  const replica = readVarintText(reader, maxNameBytes)
  if (replica === '') throw new WorldError('bad-message', 'a replica without a name')
  return replica
}

function readSiblings(reader: ByteReader): Sibling[] {
  const length = readBoundedVarint(reader, maxBackups, 'number of backups')
  return Array.from({ length }, () => ({
    replica: readReplica(reader),
    address: readVarintText(reader, maxAddressBytes),
  }))
}

function readReach(reader: ByteReader): Reach {
  return { disk: readFlag(reader), lan: readFlag(reader) }
}

function writeReach(writer: ByteWriter, { disk, lan }: Reach): void {
  writer.bool(disk).bool(lan)
}

function readOffset(reader: ByteReader, what: string): number {
  return readBoundedVarint(reader, maxArtefactsBytes, what)
}

function writeFields(writer: ByteWriter, message: Message): void {
  switch (message.kind) {
    case 'hello':
      writeIdentity(writer, message.identity)
      writeVarintText(writer, message.replica)
      writer.bool(message.role === 'primary')
      writeVarint(writer, message.generation)
      writeVarint(writer, message.nextIndex)
      writeVarint(writer, message.replayedEnd)
      writer.u64(message.runId)
      writeVarint(writer, message.hold)
      writeVarintText(writer, message.address)
      writeDiscipline(writer, message.discipline)
      return
    case 'fetch':
      writeVarintText(writer, message.machine)
      writer.u64(message.instructionTableHash)
      writeVarint(writer, message.offset)
      return
    case 'artefacts':
      writeIdentity(writer, message.identity)
      writeVarint(writer, message.lengthBytes)
      writeVarint(writer, message.offset)
      writer.raw(message.bytes)
      return
    case 'pages':
      writer.raw(message.bytes)
      return
    case 'taken':
      writeVarint(writer, message.totalBytes)
      return
    case 'state':
      writeVarint(writer, message.lengthBytes)
      writeVarint(writer, message.offset)
      writer.raw(message.bytes)
      return
    case 'refuse':
    case 'takeOver':
    case 'goodbye':
      writeVarintText(writer, message.reason)
      return
    case 'welcome':
      writeVarint(writer, message.generation)
      writeVarint(writer, message.backups.length)
      for (const { replica, address } of message.backups) {
        writeVarintText(writer, replica)
        writeVarintText(writer, address)
      }
      return
    case 'call':
      writeVarint(writer, message.generation)
      writeVarintText(writer, message.replica)
      writer.bool(message.tailFrom !== undefined)
      if (message.tailFrom !== undefined) writeVarint(writer, message.tailFrom)
      return
    case 'entries':
      writeVarint(writer, message.commonEnd)
      writer.raw(message.batch.bytes)
      return
    case 'ack': {
      const { receivedEnd, replayedEnd, replayedCount, lagMs } = message.progress
      writeVarint(writer, receivedEnd)
      writeVarint(writer, replayedEnd)
      writeVarint(writer, replayedCount)
      writeVarint(writer, Math.max(0, Math.round(lagMs)))
      writeReach(writer, message.reach)
      return
    }
    case 'heartbeat':
      writeVarint(writer, message.logEnd)
      writer.bool(message.isRunning)
      writeReach(writer, message.reach)
      return
    case 'confirmed':
      writeVarint(writer, message.ends.frame)
      writeVarint(writer, message.ends.console)
      return
    case 'diverged':
      writeDivergence(writer, message.divergence)
      return
    default:
      unreachable(message)
  }
}

function readFields(reader: ByteReader, kind: MessageKind): Message {
  switch (kind) {
    case 'hello': {
      const identity = readIdentity(reader)
      const replica = readReplica(reader)
      const role = readFlag(reader) ? 'primary' : 'backup'
      return {
        kind,
        identity,
        replica,
        role,
        generation: readGeneration(reader),
        nextIndex: logIndex(readVarint(reader)),
        replayedEnd: logIndex(readVarint(reader)),
        runId: reader.u64(),
        hold: readGeneration(reader),
        address: readVarintText(reader, maxAddressBytes),
        discipline: readDiscipline(reader),
      }
    }
    case 'fetch': {
      const machine = readVarintText(reader, maxNameBytes)
      return { kind, machine, instructionTableHash: reader.u64(), offset: readOffset(reader, 'offset') }
    }
    case 'artefacts': {
      const identity = readIdentity(reader)
      const lengthBytes = readOffset(reader, 'length')
      const offset = readOffset(reader, 'offset')
      // A copy: the bytes outlive the socket's buffer.
      return { kind, identity, lengthBytes, offset, bytes: reader.raw(reader.remaining).slice() }
    }
    case 'pages':
      // Copies: the bytes outlive the socket's buffer, and are handed to another thread.
      return { kind, bytes: reader.raw(reader.remaining).slice() }
    case 'taken':
      return { kind, totalBytes: readBoundedVarint(reader, Number.MAX_SAFE_INTEGER, 'bytes') }
    case 'state': {
      const lengthBytes = readBoundedVarint(reader, maxStateBytes, 'length')
      const offset = readBoundedVarint(reader, maxStateBytes, 'offset')
      return { kind, lengthBytes, offset, bytes: reader.raw(reader.remaining).slice() }
    }
    case 'refuse':
    case 'takeOver':
    case 'goodbye':
      return { kind, reason: readVarintText(reader, maxReasonBytes) }
    case 'welcome':
      return { kind, generation: readGeneration(reader), backups: readSiblings(reader) }
    case 'call': {
      const generation = readGeneration(reader)
      const replica = readReplica(reader)
      return { kind, generation, replica, tailFrom: readFlag(reader) ? logIndex(readVarint(reader)) : undefined }
    }
    case 'entries': {
      const commonEnd = logIndex(readVarint(reader))
      // A copy: the bytes outlive the socket's buffer, and may be handed to another thread.
      return { kind, commonEnd, batch: openBatch(reader.raw(reader.remaining).slice()) }
    }
    case 'ack': {
      const receivedEnd = logIndex(readVarint(reader))
      const replayedEnd = logIndex(readVarint(reader))
      const replayedCount = readVarint(reader)
      const lagMs = readBoundedVarint(reader, Number.MAX_SAFE_INTEGER, 'lag')
      return { kind, progress: { receivedEnd, replayedEnd, replayedCount, lagMs }, reach: readReach(reader) }
    }
    case 'heartbeat':
      return {
        kind,
        logEnd: logIndex(readVarint(reader)),
        isRunning: readFlag(reader),
        reach: readReach(reader),
      }
    case 'confirmed':
      return { kind, ends: { frame: readVarint(reader), console: readVarint(reader) } }
    case 'diverged':
      return { kind, divergence: readDivergence(reader) }
    default:
      return unreachable(kind)
  }
}

/** Large messages are written without growing. */
function sizeHint(message: Message): number {
  if (message.kind === 'entries') return message.batch.bytes.length
  return 'bytes' in message ? message.bytes.length + 512 : 64
}

/** Most messages are short, and one of them is sent for every epoch: they are written in the same place, and copied once. */
const scratch = new ByteWriter(4096)
const largestInScratchBytes = 2048

export function encodeMessage(message: Message): Uint8Array {
  const size = sizeHint(message)
  const writer = size > largestInScratchBytes ? new ByteWriter(lengthBytes + minMessageBytes + size) : scratch
  writer.clear()
  writer.u32(0).u8(protocolVersion).u8(kindTags[message.kind])
  writeFields(writer, message)
  writer.u64(hash64(writer.view().subarray(lengthBytes)))
  writer.setU32(0, writer.length - lengthBytes)
  return writer.finish()
}

function maxBytesOf(kind: MessageKind): number {
  if (kind === 'entries') return maxMessageBytes
  if (kind === 'pages' || kind === 'state') return maxStateMessageBytes
  return kind === 'artefacts' ? maxArtefactsMessageBytes : maxOtherMessageBytes
}

/** Decodes one message without its length. */
function decodeMessage(bytes: Uint8Array): Message {
  const body = bytes.subarray(0, bytes.length - checksumBytes)
  const reader = new ByteReader(body)
  const version = reader.u8()
  if (version !== protocolVersion) {
    throw new WorldError(
      'protocol-version',
      `the peer speaks version ${version} of the logging channel, we speak ${protocolVersion}: run the same release on both sides`,
    )
  }
  if (new ByteReader(bytes.subarray(body.length)).u64() !== hash64(body)) {
    throw new WorldError('bad-message', 'wrong checksum on the logging channel')
  }
  const tag = reader.u8()
  const kind = kindsByTag.get(tag)
  if (kind === undefined) throw new WorldError('bad-message', `unknown kind of message ${tag}`)
  if (bytes.length > maxBytesOf(kind)) {
    throw new WorldError('too-large', `${kind} message of ${bytes.length} bytes`)
  }
  const message = readFields(reader, kind)
  reader.end()
  return message
}

/** Cuts a byte stream into messages. Pieces may be of any size. */
export class MessageDecoder {
  #pieces: Uint8Array[] = []
  #pendingBytes = 0
  /** Bytes needed before there is anything to do. */
  #neededBytes = lengthBytes

  /** Takes the next piece of the stream, returns the messages that are now complete. Throws `WorldError`. */
  push(piece: Uint8Array): Message[] {
    // Never as a socket's Buffer, whose `slice` copies nothing: what is handed to another thread would take the rest along.
    this.#pieces.push(new Uint8Array(piece.buffer, piece.byteOffset, piece.length))
    this.#pendingBytes += piece.length
    if (this.#pendingBytes < this.#neededBytes) return []
    // Joined only when a message is complete, so that a long one in many pieces is copied once.
    const bytes = this.#pieces.length === 1 ? this.#pieces[0]! : concatBytes(this.#pieces)
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const messages: Message[] = []
    let offset = 0
    for (;;) {
      this.#neededBytes = lengthBytes
      if (bytes.length - offset < lengthBytes) break
      const length = view.getUint32(offset, true)
      if (length < minMessageBytes || length > maxMessageBytes) {
        throw new WorldError('bad-message', `message of ${length} bytes on the logging channel`)
      }
      this.#neededBytes = lengthBytes + length
      if (bytes.length - offset < this.#neededBytes) break
      messages.push(decodeMessage(bytes.subarray(offset + lengthBytes, offset + this.#neededBytes)))
      offset += this.#neededBytes
    }
    this.#pieces = offset === bytes.length ? [] : [bytes.slice(offset)]
    this.#pendingBytes = bytes.length - offset
    return messages
  }
}
