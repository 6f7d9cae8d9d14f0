/**
 * What a backup of a machine that runs already has to know of its console: where the stream of what was printed stands, and
 * the end of it. With that its console log and its viewers go on as if it had regenerated everything (console-log.ts).
 */

import { WorldError } from '../base/assert.ts'
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { readBoundedVarint, readVarint, readVarintBytes, writeVarint, writeVarintBytes } from '../log/varint.ts'
import type { ConsoleOutput } from './console-backlog.ts'

export interface PrintedSoFar {
  /** Bytes printed in this run of the machine, the recent ones included. */
  readonly position: number
  readonly recent: readonly ConsoleOutput[]
}

const maxOutputs = 2 ** 20

export function encodePrinted({ position, recent }: PrintedSoFar): Uint8Array {
  const writer = new ByteWriter()
  writeVarint(writer, position)
  writeVarint(writer, recent.length)
  for (const { sequence, bytes } of recent) {
    writeVarint(writer, sequence)
    writeVarintBytes(writer, bytes)
  }
  return writer.finish()
}

/** @throws WorldError */
export function decodePrinted(encoded: Uint8Array): PrintedSoFar {
  const reader = new ByteReader(encoded)
  const position = readBoundedVarint(reader, Number.MAX_SAFE_INTEGER, 'position')
  const recent: ConsoleOutput[] = []
  for (let left = readBoundedVarint(reader, maxOutputs, 'number of outputs'); left > 0; left--) {
    recent.push({ sequence: readVarint(reader), bytes: readVarintBytes(reader) })
  }
  reader.end()
  if (lengthOf(recent) > position) throw new WorldError('bad-state', 'more was printed lately than at all')
  return { position, recent }
}

export function lengthOf(outputs: readonly ConsoleOutput[]): number {
  return outputs.reduce((sum, { bytes }) => sum + bytes.length, 0)
}
