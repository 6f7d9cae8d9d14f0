/**
 * Unsigned integers of any size in as few bytes as they need: LEB128, seven bits a byte, low bits first, the top bit
 * says that more follows. Log entries are mostly small differences, so most of them take one or two bytes. A value has
 * one spelling: padded ones are refused, so that equal things have equal bytes and equal checksums.
 */

import { assert, WorldError } from '../base/assert.ts'
import type { ByteReader, ByteWriter } from '../base/bytes.ts'

/** Longest encoding accepted: 10 bytes hold 64 bits. */
const maxVarintBytes = 10

const limit64 = 1n << 64n

/** Up to here numbers hold integers exactly, and calculate many times faster. */
const maxExact = BigInt(Number.MAX_SAFE_INTEGER)

/** Writes 0 ≤ `value` < 2^64. Called for every field of every entry: texts are made only for what is wrong. */
export function writeVarint(writer: ByteWriter, value: bigint | number): void {
  let rest = value
  if (typeof rest === 'bigint') {
    if (rest < 0n || rest >= limit64) assert(false, `${rest} does not fit into 64 bits`)
    while (rest > maxExact) {
      writer.u8(Number(rest & 0x7fn) | 0x80)
      rest >>= 7n
    }
    rest = Number(rest)
  }
  if (!Number.isSafeInteger(rest) || rest < 0) assert(false, `${rest} is no unsigned integer`)
  while (rest > 0x7fff_ffff) {
    writer.u8((rest % 128) | 0x80)
    rest = Math.floor(rest / 128)
  }
  while (rest > 0x7f) {
    writer.u8((rest & 0x7f) | 0x80)
    rest >>>= 7
  }
  writer.u8(rest)
}

/** Reads what `writeVarint` wrote; longer than 64 bits is the world's fault. */
export function readVarint(reader: ByteReader): bigint {
  // Four bytes of seven bits stay exact in 32-bit arithmetic; only longer values pay for a bigint.
  let low = 0
  for (let position = 0; position < 4; position++) {
    const byte = reader.u8()
    low |= (byte & 0x7f) << (7 * position)
    if (byte < 0x80) {
      if (byte === 0 && position > 0) throw padded(reader)
      return BigInt(low)
    }
  }
  let value = BigInt(low)
  for (let position = 4; position < maxVarintBytes; position++) {
    const byte = reader.u8()
    value |= BigInt(byte & 0x7f) << BigInt(7 * position)
    if (byte < 0x80) {
      if (byte === 0) throw padded(reader)
      if (value >= limit64) break
      return value
    }
  }
  throw new WorldError('bad-varint', `integer longer than 64 bits at offset ${reader.offset}`)
}

function padded(reader: ByteReader): WorldError {
  return new WorldError('bad-varint', `integer with needless bytes at offset ${reader.offset}`)
}

/** One byte, 0 or 1. */
export function readFlag(reader: ByteReader): boolean {
  const byte = reader.u8()
  if (byte > 1) throw new WorldError('bad-flag', `${byte} where 0 or 1 is due, at offset ${reader.offset}`)
  return byte === 1
}

/** Reads a varint that must not exceed `limit`, such as a length: a hostile one must not make us allocate. */
export function readBoundedVarint(reader: ByteReader, limit: number, what: string): number {
  const value = readVarint(reader)
  if (value > BigInt(limit)) throw new WorldError('too-large', `${what} is ${value}, more than the limit of ${limit}`)
  return Number(value)
}

/** A length, then the bytes. */
export function writeVarintBytes(writer: ByteWriter, bytes: Uint8Array): void {
  writeVarint(writer, bytes.length)
  writer.raw(bytes)
}

/** A copy of length-prefixed bytes. The length is checked against what is there before anything is allocated. */
export function readVarintBytes(reader: ByteReader): Uint8Array {
  return reader.raw(readBoundedVarint(reader, reader.remaining, 'byte string')).slice()
}

export function writeVarintText(writer: ByteWriter, text: string): void {
  writeVarintBytes(writer, new TextEncoder().encode(text))
}

/** Length-prefixed UTF-8 of at most `limitBytes`. */
export function readVarintText(reader: ByteReader, limitBytes: number): string {
  const length = readBoundedVarint(reader, limitBytes, 'text')
  return new TextDecoder().decode(reader.raw(length))
}
