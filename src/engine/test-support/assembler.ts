/**
 * A tiny assembler over the instruction table, for tests: encodings come from the table's own match and format, so that a
 * test needs no toolchain. Labels are resolved at the end.
 */

import { instructionByName } from '../../riscv/instructions.ts'

/** Register numbers by their ABI names. */
export const reg = {
  zero: 0,
  ra: 1,
  sp: 2,
  t0: 5,
  t1: 6,
  t2: 7,
  s0: 8,
  s1: 9,
  a0: 10,
  a1: 11,
  a2: 12,
  a3: 13,
  a4: 14,
  a5: 15,
  t3: 28,
  t4: 29,
} as const

export interface Fields {
  readonly rd?: number
  readonly rs1?: number
  readonly rs2?: number
  readonly rs3?: number
  readonly imm?: number
  readonly csr?: number
  readonly rm?: number
}

/** The 32-bit encoding of one instruction. */
export function encode(name: string, fields: Fields = {}): number {
  const { match, format } = instructionByName(name)
  const { rd = 0, rs1 = 0, rs2 = 0, rs3 = 0, imm = 0, csr = 0, rm = 0 } = fields
  const d = rd << 7
  const s1 = rs1 << 15
  const s2 = rs2 << 20
  const place = (): number => {
    switch (format) {
      case 'R':
        return d | s1 | s2 | (rm << 12)
      case 'R4':
        return d | s1 | s2 | (rs3 << 27) | (rm << 12)
      case 'I':
        return d | s1 | (imm << 20)
      case 'shift':
        return d | s1 | ((imm & 63) << 20)
      case 'S':
        return s1 | s2 | ((imm & 31) << 7) | ((imm >> 5) << 25)
      case 'B':
        return s1 | s2 | ((imm & 0x1e) << 7) | ((imm & 0x800) >> 4) | ((imm & 0x7e0) << 20) | ((imm >> 12) << 31)
      case 'U':
        return d | (imm & ~0xfff)
      case 'J':
        return d | (imm & 0xff000) | ((imm & 0x800) << 9) | ((imm & 0x7fe) << 20) | ((imm >> 20) << 31)
      case 'csr':
        return d | s1 | (csr << 20)
      case 'csrImmediate':
        return d | ((imm & 31) << 15) | (csr << 20)
      case 'none':
        return 0
    }
  }
  return (match | place()) >>> 0
}

/** Instructions at consecutive addresses, with labels. */
export class Assembler {
  readonly #parts: (() => number)[] = []
  readonly #labels = new Map<string, number>()

  /** Distance from the start in bytes. */
  get offset(): number {
    return this.#parts.length * 4
  }

  emit(name: string, fields: Fields = {}): this {
    this.#parts.push(() => encode(name, fields))
    return this
  }

  word(bits: number): this {
    this.#parts.push(() => bits)
    return this
  }

  label(name: string): this {
    this.#labels.set(name, this.offset)
    return this
  }

  /** A branch or jump to a label; or any instruction whose immediate is a distance, from elsewhere. */
  to(label: string, name: string, fields: Fields = {}, from = this.offset): this {
    this.#parts.push(() => {
      const target = this.#labels.get(label)
      if (target === undefined) throw new RangeError(`no label ${label}`)
      return encode(name, { ...fields, imm: target - from })
    })
    return this
  }

  /** Loads any 64-bit constant, in as many instructions as it needs. */
  li(rd: number, value: bigint): this {
    const wanted = BigInt.asIntN(64, value)
    const low = BigInt.asIntN(12, wanted)
    if (wanted === low) return this.emit('addi', { rd, imm: Number(low) })
    const rest = wanted - low
    if (rest >= -(1n << 31n) && rest < 1n << 31n) {
      this.emit('lui', { rd, imm: Number(rest) })
    } else {
      this.li(rd, rest >> 12n)
      this.emit('slli', { rd, rs1: rd, imm: 12 })
    }
    return low === 0n ? this : this.emit('addi', { rd, rs1: rd, imm: Number(low) })
  }

  bytes(): Uint8Array {
    return new Uint8Array(Uint32Array.from(this.#parts, (part) => part()).buffer)
  }
}
