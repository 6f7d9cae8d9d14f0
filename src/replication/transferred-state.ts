/**
 * What a backup needs, besides the pages of its memory, to follow a machine that runs already: where the log stands, and
 * everything that a backup which had followed from the first entry would know by now.
 *
 *   nextIndex │ generation │ covered frame │ unconfirmed outputs │ hart's part │ host's part
 *
 * The hart's part (the machine without its memory) and the host's part (what was printed lately) are not looked into here.
 */

import { WorldError } from '../base/assert.ts'
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { type LogEnd, logIndex, type MarkedOutput } from '../log/entry.ts'
import { readOutput, writeOutput } from '../log/output-codec.ts'
import {
  readBoundedVarint,
  readFlag,
  readVarint,
  readVarintBytes,
  writeVarint,
  writeVarintBytes,
} from '../log/varint.ts'
import { type Generation, type Message, maxStatePieceBytes } from './messages.ts'

export interface TransferredState {
  /** Index of the first entry that the backup is sent. */
  readonly nextIndex: LogEnd
  /** In which the backup is going to be eligible. */
  readonly generation: Generation
  /** The last inbound frame in the log below `nextIndex`. */
  readonly coveredFrameId: bigint | undefined
  /** Made below `nextIndex`, and not confirmed by their receivers: the backup may have to send them again (invariant 6). */
  readonly unconfirmed: readonly MarkedOutput[]
  readonly hart: Uint8Array
  readonly host: Uint8Array
}

/** Bounce buffers and what a disk may lose are the largest part of it. A peer that promises more is not believed. */
export const maxStateBytes = 2 ** 28
const maxOutputs = 2 ** 20

export function encodeState({
  nextIndex,
  generation,
  coveredFrameId,
  unconfirmed,
  hart,
  host,
}: TransferredState): Uint8Array {
  const writer = new ByteWriter(hart.length + host.length + 4096)
  writeVarint(writer, nextIndex)
  writeVarint(writer, generation)
  writer.bool(coveredFrameId !== undefined)
  if (coveredFrameId !== undefined) writeVarint(writer, coveredFrameId)
  writeVarint(writer, unconfirmed.length)
  for (const { output, markerIndex } of unconfirmed) {
    writeVarint(writer, markerIndex)
    writeOutput(writer, output)
  }
  writeVarintBytes(writer, hart)
  writeVarintBytes(writer, host)
  return writer.finish()
}

/** The state in pieces, as the channel carries it. */
export function stateMessages(state: TransferredState): Message[] {
  const encoded = encodeState(state)
  const messages: Message[] = []
  for (let offset = 0; offset < encoded.length; offset += maxStatePieceBytes) {
    const bytes = encoded.subarray(offset, offset + maxStatePieceBytes)
    messages.push({ kind: 'state', lengthBytes: encoded.length, offset, bytes })
  }
  return messages
}

/** @throws WorldError */
export function decodeState(bytes: Uint8Array): TransferredState {
  const reader = new ByteReader(bytes)
  const nextIndex = logIndex(readVarint(reader))
  const generation = readBoundedVarint(reader, Number.MAX_SAFE_INTEGER, 'generation')
  const coveredFrameId = readFlag(reader) ? readVarint(reader) : undefined
  const unconfirmed: MarkedOutput[] = []
  for (let left = readBoundedVarint(reader, maxOutputs, 'number of outputs'); left > 0; left--) {
    const markerIndex = logIndex(readVarint(reader))
    if (markerIndex >= nextIndex)
      throw new WorldError('bad-state', `an output of entry ${markerIndex} in the state at ${nextIndex}`)
    unconfirmed.push({ markerIndex, output: readOutput(reader) })
  }
  const hart = readVarintBytes(reader)
  const host = readVarintBytes(reader)
  reader.end()
  return { nextIndex, generation, coveredFrameId, unconfirmed, hart, host }
}
