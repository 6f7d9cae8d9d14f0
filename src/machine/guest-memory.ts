/**
 * Guest RAM as devices see it: bounds-checked reads, and writes that take the hart's store path (`Engine.storeBytes`),
 * so that dirty tracking, decoded code and page tables see them (invariant 4).
 *
 * Addresses come from the guest and may be anything: callers ask `contains` first; reading outside is our bug.
 */

import { assert } from '../base/assert.ts'
import { type Engine, ramBase } from '../engine/types.ts'

export class GuestMemory {
  readonly #engine: Engine
  #view: DataView
  readonly #word = new Uint8Array(4)

  constructor(engine: Engine) {
    this.#engine = engine
    this.#view = viewOf(engine.ram)
  }

  /** True when all of [address, address + length) is RAM. */
  contains(address: number, lengthBytes: number): boolean {
    return address >= ramBase && lengthBytes >= 0 && address + lengthBytes <= ramBase + this.#engine.ramBytes
  }

  #at(address: number, lengthBytes: number): DataView {
    assert(this.contains(address, lengthBytes), 'a device reads outside RAM')
    if (this.#view.buffer !== this.#engine.ram.buffer) this.#view = viewOf(this.#engine.ram)
    return this.#view
  }

  u16(address: number): number {
    return this.#at(address, 2).getUint16(address - ramBase, true)
  }

  u32(address: number): number {
    return this.#at(address, 4).getUint32(address - ramBase, true)
  }

  /** Above 2^53 the result is rounded; such an address is outside RAM either way. */
  u64(address: number): number {
    const view = this.#at(address, 8)
    return view.getUint32(address - ramBase + 4, true) * 2 ** 32 + view.getUint32(address - ramBase, true)
  }

  /** A copy of RAM. */
  read(address: number, lengthBytes: number): Uint8Array {
    this.#at(address, lengthBytes)
    return this.#engine.ram.slice(address - ramBase, address - ramBase + lengthBytes)
  }

  write(address: number, bytes: Uint8Array): void {
    assert(this.contains(address, bytes.length), 'a device writes outside RAM')
    if (bytes.length > 0) this.#engine.storeBytes(address, bytes)
  }

  writeU8(address: number, value: number): void {
    this.#word[0] = value
    this.write(address, this.#word.subarray(0, 1))
  }

  writeU16(address: number, value: number): void {
    this.#word[0] = value
    this.#word[1] = value >>> 8
    this.write(address, this.#word.subarray(0, 2))
  }

  writeU32(address: number, value: number): void {
    this.#word[0] = value
    this.#word[1] = value >>> 8
    this.#word[2] = value >>> 16
    this.#word[3] = value >>> 24
    this.write(address, this.#word)
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
