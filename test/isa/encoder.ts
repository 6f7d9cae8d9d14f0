/** From rows of the instruction table to bits: the decoder's inverse, for programs that tests write. */

import { compressedForms } from '../../src/riscv/compressed.ts'
import { type Decoded, decode, isCompressed } from '../../src/riscv/decoder.ts'
import type { Format, Instruction } from '../../src/riscv/instruction.ts'
import { instructionByName } from '../../src/riscv/instructions.ts'

export interface Fields {
  readonly rd?: number
  readonly rs1?: number
  readonly rs2?: number
  readonly rs3?: number
  readonly immediate?: number
  /** Rounding mode; dynamic unless told. */
  readonly rm?: number
  readonly csr?: number
  /** The aq and rl bits of an atomic instruction. */
  readonly order?: number
}

const immediateBits: Readonly<Record<Format, (value: number) => number>> = {
  R: () => 0,
  R4: () => 0,
  I: (v) => v << 20,
  shift: (v) => (v & 63) << 20,
  S: (v) => ((v & 0xfe0) << 20) | ((v & 31) << 7),
  B: (v) => ((v & 0x1000) << 19) | ((v & 0x7e0) << 20) | ((v & 0x1e) << 7) | ((v & 0x800) >> 4),
  U: (v) => v & ~0xfff,
  J: (v) => ((v & 0x10_0000) << 11) | ((v & 0x7fe) << 20) | ((v & 0x800) << 9) | (v & 0xf_f000),
  csr: () => 0,
  csrImmediate: (v) => (v & 31) << 15,
  none: () => 0,
}

/** Fields that the row fixes are left as the row has them. */
export function encode(instruction: Instruction, fields: Fields): number {
  const { rd = 0, rs1 = 0, rs2 = 0, rs3 = 0, immediate = 0, rm = 7, csr = 0, order = 0 } = fields
  const { format } = instruction
  let bits = immediateBits[format](immediate)
  if (format !== 'S' && format !== 'B') bits |= rd << 7
  if (format !== 'U' && format !== 'J' && format !== 'csrImmediate') bits |= rs1 << 15
  if (format === 'R' || format === 'R4' || format === 'S' || format === 'B') bits |= rs2 << 20
  if (format === 'R4') bits |= rs3 << 27
  if (format === 'csr' || format === 'csrImmediate') bits |= csr << 20
  if (instruction.hasRoundingMode) bits |= rm << 12
  if (instruction.extension === 'A') bits |= order << 25
  return (instruction.match | (bits & ~instruction.mask)) >>> 0
}

export function encodeByName(name: string, fields: Fields): number {
  return encode(instructionByName(name), fields)
}

export interface CompressedEncoding {
  readonly bits: number
  readonly decoded: Decoded
}

/** Every legal halfword, by the name of its form. */
export const compressedEncodings: ReadonlyMap<string, readonly CompressedEncoding[]> = enumerateCompressed()

function enumerateCompressed(): Map<string, CompressedEncoding[]> {
  const byForm = new Map<string, CompressedEncoding[]>()
  for (let bits = 0; bits < 0x10000; bits++) {
    const decoded = isCompressed(bits) ? decode(bits) : undefined
    if (!decoded) continue
    const { name } = compressedForms.find((form) => (bits & form.mask) === form.match)!
    const encodings = byForm.get(name) ?? []
    byForm.set(name, encodings)
    encodings.push({ bits, decoded })
  }
  return byForm
}
