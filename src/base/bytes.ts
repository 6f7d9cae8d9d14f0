/**
 * Bytes in and out, little-endian. One writer and one reader serve every format of ours: log entries, messages,
 * snapshots, and the device state that digests are taken of. Encode and decode functions built on them mirror each
 * other line by line.
 */

import { WorldError } from './assert.ts'

/** Appends values to a growing buffer. */
export class ByteWriter {
  #bytes: Uint8Array
  #view: DataView
  #length = 0

  constructor(initialCapacityBytes = 256) {
    this.#bytes = new Uint8Array(initialCapacityBytes)
    this.#view = new DataView(this.#bytes.buffer)
  }

  get length(): number {
    return this.#length
  }

  #reserve(count: number): number {
    const offset = this.#length
    const needed = offset + count
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2))
      grown.set(this.#bytes.subarray(0, offset))
      this.#bytes = grown
      this.#view = new DataView(grown.buffer)
    }
    this.#length = needed
    return offset
  }

  u8(value: number): this {
    const offset = this.#reserve(1)
    this.#view.setUint8(offset, value)
    return this
  }

  bool(value: boolean): this {
    return this.u8(value ? 1 : 0)
  }

  u16(value: number): this {
    const offset = this.#reserve(2)
    this.#view.setUint16(offset, value, true)
    return this
  }

  u32(value: number): this {
    const offset = this.#reserve(4)
    this.#view.setUint32(offset, value, true)
    return this
  }

  /** In place of what was written there. */
  setU32(offset: number, value: number): void {
    this.#view.setUint32(offset, value, true)
  }

  /** Low 64 bits of `value`, as an unsigned integer. */
  u64(value: bigint): this {
    const offset = this.#reserve(8)
    this.#view.setBigUint64(offset, value, true)
    return this
  }

  f64(value: number): this {
    const offset = this.#reserve(8)
    this.#view.setFloat64(offset, value, true)
    return this
  }

  /** The bytes alone: the reader must know the length. */
  raw(value: Uint8Array): this {
    const offset = this.#reserve(value.length)
    this.#bytes.set(value, offset)
    return this
  }

  /** A 32-bit length, then the bytes. */
  bytes(value: Uint8Array): this {
    return this.u32(value.length).raw(value)
  }

  /** A 32-bit length in bytes, then UTF-8. */
  text(value: string): this {
    return this.bytes(new TextEncoder().encode(value))
  }

  /** A copy of what was written. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length)
  }

  /** What was written, without a copy: valid until the next write. */
  view(): Uint8Array {
    return this.#bytes.subarray(0, this.#length)
  }

  clear(): void {
    this.#length = 0
  }
}

/** Reads values back. Running past the end is the world's fault: `WorldError('truncated', …)`. */
export class ByteReader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #offset = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  get offset(): number {
    return this.#offset
  }

  get remaining(): number {
    return this.#bytes.length - this.#offset
  }

  #take(count: number): number {
    const offset = this.#offset
    if (count > this.#bytes.length - offset) {
      throw new WorldError('truncated', `data ends early: ${count} bytes expected at offset ${offset}`)
    }
    this.#offset = offset + count
    return offset
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1))
  }

  bool(): boolean {
    return this.u8() !== 0
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2), true)
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true)
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true)
  }

  f64(): number {
    return this.#view.getFloat64(this.#take(8), true)
  }

  /** A view of the next `count` bytes, not a copy. */
  raw(count: number): Uint8Array {
    const offset = this.#take(count)
    return this.#bytes.subarray(offset, offset + count)
  }

  /** A copy of a length-prefixed byte string. */
  bytes(): Uint8Array {
    return this.raw(this.u32()).slice()
  }

  text(): string {
    return new TextDecoder().decode(this.raw(this.u32()))
  }

  /** Nothing may follow: trailing bytes are the world's fault. */
  end(): void {
    if (this.remaining !== 0) throw new WorldError('trailing-bytes', `${this.remaining} unexpected bytes at the end`)
  }
}

export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let offset = 0
  for (const part of parts) {
    whole.set(part, offset)
    offset += part.length
  }
  return whole
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index])
}
