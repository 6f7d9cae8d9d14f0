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

const rd = 1
const rs1 = 2
const rs2 = 4
const rs3 = 8

/** The register fields of a format, as bits. */
const fieldsOf: Readonly<Record<Format, number>> = {
  R: rd | rs1 | rs2,
  R4: rd | rs1 | rs2 | rs3,
  I: rd | rs1,
  shift: rd | rs1,
  S: rs1 | rs2,
  B: rs1 | rs2,
  U: rd,
  J: rd,
  csr: rd | rs1,
  csrImmediate: rd,
  none: 0,
}

function masksOf(instructions: readonly PlacedInstruction[], wanted: number): RegisterMask {
  let x = 0
  let f = 0
  for (const { decoded } of instructions) {
    const { format, files } = decoded.instruction
    const fields = fieldsOf[format] & wanted
    if (fields & rd) {
      if (files.rd) f |= 1 << decoded.rd
      else x |= 1 << decoded.rd
    }
    if (fields & rs1) {
      if (files.rs1) f |= 1 << decoded.rs1
      else x |= 1 << decoded.rs1
    }
    if (fields & rs2) {
      if (files.rs2) f |= 1 << decoded.rs2
      else x |= 1 << decoded.rs2
    }
    if (fields & rs3) f |= 1 << decoded.rs3
  }
  // x0 is no variable.
  return { x: x & ~1, f }
}

export function writtenBy(instructions: readonly PlacedInstruction[]): RegisterMask {
  return masksOf(instructions, rd)
}

export function namedBy(instructions: readonly PlacedInstruction[]): RegisterMask {
  return masksOf(instructions, rd | rs1 | rs2 | rs3)
}

export function registersIn(mask: number): number[] {
  const registers: number[] = []
  for (let rest = mask; rest !== 0; rest &= rest - 1) registers.push(31 - Math.clz32(rest & -rest))
  return registers
}
