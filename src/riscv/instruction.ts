/** The shape of one row of the instruction table, and helpers to write rows briefly. */

import type { Semantics } from './semantics.ts'

/** Where an instruction's fields are (RISC-V unprivileged specification, "Base Instruction Formats"). */
export type Format =
  | 'R' // rd, rs1, rs2
  | 'R4' // rd, rs1, rs2, rs3
  | 'I' // rd, rs1, 12-bit immediate
  | 'shift' // rd, rs1, 6-bit amount
  | 'S' // rs1, rs2, 12-bit immediate
  | 'B' // rs1, rs2, branch offset
  | 'U' // rd, upper immediate
  | 'J' // rd, jump offset
  | 'csr' // rd, rs1, CSR
  | 'csrImmediate' // rd, 5-bit immediate, CSR
  | 'none'

/** Which register file an operand lives in; `x` unless told. */
export interface RegisterFiles {
  readonly rd?: 'f'
  readonly rs1?: 'f'
  readonly rs2?: 'f'
}

export interface Instruction {
  readonly name: string
  /** An encoding is this instruction when `(bits & mask) === match`; unsigned 32-bit. */
  readonly match: number
  readonly mask: number
  readonly format: Format
  /** The extension it belongs to: I, M, A, F, D, Zicsr, Zifencei, or priv. */
  readonly extension: string
  /** Has an rm field at 14:12 that the semantics uses. */
  readonly hasRoundingMode: boolean
  readonly files: RegisterFiles
  readonly semantics: Semantics
}

/** A 16-bit form: the same instruction as a base one, with fields gathered from other places. */
export interface CompressedForm {
  readonly name: string
  readonly match: number
  readonly mask: number
  /** The base instruction and its fields, or undefined where the encoding is reserved. */
  readonly expand: (bits: number) => Expansion | undefined
}

export interface Expansion {
  readonly name: string
  readonly rd?: number
  readonly rs1?: number
  readonly rs2?: number
  readonly immediate?: number
}
