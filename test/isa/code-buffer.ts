/** Machine code and its constants, written in order at a fixed address. */

import { isCompressed } from '../../src/riscv/decoder.ts'
import { encodeByName, type Fields } from './encoder.ts'

/** An address as AUIPC and the 12-bit immediate behind it reach it (RISC-V assembly, `%pcrel_hi` and `%pcrel_lo`). */
export function pcRelative(from: number, target: number): { upper: number; lower: number } {
  const distance = target - from
  const upper = (distance + 0x800) & ~0xfff
  return { upper, lower: distance - upper }
}

export class CodeBuffer {
  readonly base: number
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #length = 0

  /** Writes into `bytes`, which must be large enough. */
  constructor(base: number, bytes: Uint8Array) {
    this.base = base
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  }

  /** Where the next instruction goes. */
  get address(): number {
    return this.base + this.#length
  }

  /** What was written so far. */
  get bytes(): Uint8Array {
    return this.#bytes.slice(0, this.#length)
  }

  /** Goes on writing at `address`. */
  moveTo(address: number): void {
    this.#length = address - this.base
  }

  /** Appends an instruction of 16 or 32 bits; returns its address. */
  emit(bits: number): number {
    const { address } = this
    this.#length += isCompressed(bits) ? 2 : 4
    this.patch(address, bits)
    return address
  }

  emitNamed(name: string, fields: Fields): number {
    return this.emit(encodeByName(name, fields))
  }

  /** Puts another instruction of the same length in the place of one. */
  patch(address: number, bits: number): void {
    const offset = address - this.base
    if (isCompressed(bits)) this.#view.setUint16(offset, bits, true)
    else this.#view.setUint32(offset, bits, true)
  }

  /** AUIPC and ADDI: register = target. */
  loadAddress(register: number, target: number): void {
    const { upper, lower } = pcRelative(this.address, target)
    this.emitNamed('auipc', { rd: register, immediate: upper })
    this.emitNamed('addi', { rd: register, rs1: register, immediate: lower })
  }

  /** AUIPC into `pointer`, then a load or store, by name, relative to it. */
  accessAt(name: string, pointer: number, target: number, fields: Fields): void {
    const { upper, lower } = pcRelative(this.address, target)
    this.emitNamed('auipc', { rd: pointer, immediate: upper })
    this.emitNamed(name, { ...fields, rs1: pointer, immediate: lower })
  }

  /** A jump to anywhere; spends `register`. Two instructions, eight bytes. */
  jumpTo(register: number, target: number): void {
    this.accessAt('jalr', register, target, { rd: 0 })
  }
}

/** 64-bit constants, placed one behind the other. */
export class ConstantPool {
  readonly base: number
  readonly #values: bigint[] = []

  constructor(base: number) {
    this.base = base
  }

  /** Returns the address of the constant. */
  add(value: bigint): number {
    return this.base + 8 * (this.#values.push(value) - 1)
  }

  set(address: number, value: bigint): void {
    this.#values[(address - this.base) / 8] = value
  }

  get bytes(): Uint8Array {
    const bytes = new Uint8Array(this.#values.length * 8)
    const view = new DataView(bytes.buffer)
    for (const [index, value] of this.#values.entries()) view.setBigUint64(index * 8, value, true)
    return bytes
  }
}
