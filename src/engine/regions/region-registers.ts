/**
 * Which registers a region's instructions read and write, from their formats: those become locals. A register that a
 * format names but the instruction ignores costs a load, nothing else.
 */

import type { Decoded } from '../../riscv/decoder.ts'
import type { Format } from '../../riscv/instruction.ts'
import type { PlacedInstruction } from './discovery.ts'

/** Bit r is register r of the file. */
export interface RegisterMask {
  readonly x: number
  readonly f: number
}

export const noRegisters: RegisterMask = { x: 0, f: 0 }

export function union(a: RegisterMask, b: RegisterMask): RegisterMask {
  return { x: a.x | b.x, f: a.f | b.f }
}

type Field = 'rd' | 'rs1' | 'rs2' | 'rs3'

const fieldsOf: Readonly<Record<Format, readonly Field[]>> = {
  R: ['rd', 'rs1', 'rs2'],
  R4: ['rd', 'rs1', 'rs2', 'rs3'],
  I: ['rd', 'rs1'],
  shift: ['rd', 'rs1'],
  S: ['rs1', 'rs2'],
  B: ['rs1', 'rs2'],
  U: ['rd'],
  J: ['rd'],
  csr: ['rd', 'rs1'],
  csrImmediate: ['rd'],
  none: [],
}

function maskOf(decoded: Decoded, wanted: (field: Field) => boolean): RegisterMask {
  let mask = noRegisters
  for (const field of fieldsOf[decoded.instruction.format].filter(wanted)) {
    const register = decoded[field]
    const isFloat = field === 'rs3' || decoded.instruction.files[field] === 'f'
    if (isFloat) mask = union(mask, { x: 0, f: 1 << register })
    else if (register !== 0) mask = union(mask, { x: 1 << register, f: 0 })
  }
  return mask
}

export function writtenBy(instructions: readonly PlacedInstruction[]): RegisterMask {
  return instructions.map(({ decoded }) => maskOf(decoded, (field) => field === 'rd')).reduce(union, noRegisters)
}

export function namedBy(instructions: readonly PlacedInstruction[]): RegisterMask {
  return instructions.map(({ decoded }) => maskOf(decoded, () => true)).reduce(union, noRegisters)
}

export function registersIn(mask: number): number[] {
  return Array.from({ length: 32 }, (_, register) => register).filter((register) => (mask >>> register) & 1)
}
