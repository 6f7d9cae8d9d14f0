/**
 * Outputs as bytes. One canonical encoding (no optional spelling, fields in one order) serves two ends: outputs travel
 * between a hart's thread and its host, and the checksum in a marker is the hash of exactly these bytes.
 *
 *   kind u8 │ sequence varint │ fields of the kind
 *
 * The tags are part of the log format: never renumber, only add.
 */

import { unreachable, WorldError } from '../base/assert.ts'
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { hash64 } from '../base/digest.ts'
import type { DiskOperation, Output, OutputKind } from '../machine/types.ts'
import { readBoundedVarint, readFlag, readVarint, readVarintBytes, writeVarint, writeVarintBytes } from './varint.ts'

export const outputKindTags = {
  frame: 1,
  disk: 2,
  console: 3,
  entropyRequest: 4,
  power: 5,
} as const satisfies Record<OutputKind, number>

const outputKindsByTag = invert(outputKindTags)

const operationTags = { read: 0, write: 1, flush: 2, discard: 3, writeZeroes: 4 } as const satisfies Record<
  DiskOperation,
  number
>

const operationsByTag = invert(operationTags)

const powerActions = ['off', 'reboot'] as const

/** A disk request never names more than this many bytes; larger is a bad encoding. */
const maxLengthBytes = 2 ** 32

function invert<Name extends string>(tags: Readonly<Record<Name, number>>): ReadonlyMap<number, Name> {
  return new Map((Object.keys(tags) as Name[]).map((name) => [tags[name], name]))
}

export function outputKindOfTag(tag: number): OutputKind {
  const kind = outputKindsByTag.get(tag)
  if (kind === undefined) throw new WorldError('bad-output', `unknown kind of output ${tag}`)
  return kind
}

export function writeOutput(writer: ByteWriter, output: Output): void {
  writer.u8(outputKindTags[output.kind])
  writeVarint(writer, output.sequence)
  switch (output.kind) {
    case 'frame':
    case 'console':
      writeVarintBytes(writer, output.bytes)
      return
    case 'disk':
      writeVarint(writer, output.disk)
      writer.u8(operationTags[output.operation])
      writeVarint(writer, output.sector)
      writeVarint(writer, output.lengthBytes)
      writer.bool(output.data !== undefined)
      if (output.data !== undefined) writeVarintBytes(writer, output.data)
      return
    case 'entropyRequest':
      writeVarint(writer, output.lengthBytes)
      return
    case 'power':
      writer.u8(powerActions.indexOf(output.action))
      writer.bool(output.failed)
      return
    default:
      unreachable(output)
  }
}

export function readOutput(reader: ByteReader): Output {
  const kind = outputKindOfTag(reader.u8())
  const sequence = readVarint(reader)
  switch (kind) {
    case 'frame':
    case 'console':
      return { kind, sequence, bytes: readVarintBytes(reader) }
    case 'disk': {
      const disk = readBoundedVarint(reader, 0xffff, 'disk number')
      const operation = operationsByTag.get(reader.u8())
      if (operation === undefined) throw new WorldError('bad-output', 'unknown disk operation')
      const sector = readVarint(reader)
      const lengthBytes = readBoundedVarint(reader, maxLengthBytes, 'length of a disk request')
      const request = { kind, sequence, disk, operation, sector, lengthBytes }
      return readFlag(reader) ? { ...request, data: readVarintBytes(reader) } : request
    }
    case 'entropyRequest':
      return { kind, sequence, lengthBytes: readBoundedVarint(reader, maxLengthBytes, 'length of an entropy request') }
    case 'power': {
      const action = powerActions[reader.u8()]
      if (action === undefined) throw new WorldError('bad-output', 'unknown power action')
      return { kind, sequence, action, failed: readFlag(reader) }
    }
    default:
      return unreachable(kind)
  }
}

export function encodeOutput(output: Output): Uint8Array {
  const writer = new ByteWriter(64)
  writeOutput(writer, output)
  return writer.finish()
}

/** Exactly one output; bad or trailing bytes are a `WorldError`. */
export function decodeOutput(bytes: Uint8Array): Output {
  const reader = new ByteReader(bytes)
  const output = readOutput(reader)
  reader.end()
  return output
}

const scratch = new ByteWriter(4096)

/** The checksum in a marker: XXH64 of the canonical encoding, so it covers kind, sequence and every byte of data. */
export function outputChecksum(output: Output): bigint {
  scratch.clear()
  writeOutput(scratch, output)
  return hash64(scratch.view())
}
