/**
 * Which registers a region's instructions read and write, from their formats: those become locals. A register that a
 * format names but the instruction ignores costs a load, nothing else.
 */

import type { Format } from '../../riscv/instruction.ts'
import type { PlacedInstruction } from './discovery.ts'

/** Bit r is register r of the file. */
export interface RegisterMask {
  readonly x: number
  readonly f: number
}

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

function masksOf(instructions: readonly PlacedInstruction[], isWanted: (field: Field) => boolean): RegisterMask {
  let x = 0
  let f = 0
  for (const { decoded } of instructions) {
    for (const field of fieldsOf[decoded.instruction.format]) {
      if (!isWanted(field)) continue
      if (field === 'rs3' || decoded.instruction.files[field] === 'f') f |= 1 << decoded[field]
      else x |= 1 << decoded[field]
    }
  }
  // x0 is no variable.
  return { x: x & ~1, f }
}

export function writtenBy(instructions: readonly PlacedInstruction[]): RegisterMask {
  return masksOf(instructions, (field) => field === 'rd')
}

export function namedBy(instructions: readonly PlacedInstruction[]): RegisterMask {
  return masksOf(instructions, () => true)
}

export function registersIn(mask: number): number[] {
  const registers: number[] = []
  for (let rest = mask; rest !== 0; rest &= rest - 1) registers.push(31 - Math.clz32(rest & -rest))
  return registers
}
