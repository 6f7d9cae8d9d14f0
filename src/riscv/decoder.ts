/** From instruction bits to a row of the table and its fields. */

import { compressedForms } from './compressed.ts'
import type { CompressedForm, Format, Instruction } from './instruction.ts'
import { instructionByName, instructions } from './instructions.ts'

export interface Decoded {
  readonly instruction: Instruction
  readonly rd: number
  readonly rs1: number
  readonly rs2: number
  readonly rs3: number
  /** Sign-extended; fits 32 bits. */
  readonly immediate: number
  /** Bits 14:12, meaningful where the instruction has a rounding mode. */
  readonly rm: number
  /** Bits 31:20, meaningful for CSR instructions. */
  readonly csr: number
  readonly lengthBytes: 2 | 4
}

const immediateOf: Readonly<Record<Format, (bits: number) => number>> = {
  R: () => 0,
  R4: () => 0,
  I: (b) => b >> 20,
  shift: (b) => (b >>> 20) & 63,
  S: (b) => ((b >> 25) << 5) | ((b >>> 7) & 31),
  B: (b) => ((b >> 31) << 12) | ((b << 4) & 0x800) | ((b >>> 20) & 0x7e0) | ((b >>> 7) & 0x1e),
  U: (b) => b & ~0xfff,
  J: (b) => ((b >> 31) << 20) | (b & 0xff000) | ((b >>> 9) & 0x800) | ((b >>> 20) & 0x7fe),
  csr: () => 0,
  csrImmediate: (b) => (b >>> 15) & 31,
  none: () => 0,
}

/** Rows by major opcode (bits 6:2), forms by quadrant and funct3, so that decoding looks at a few candidates only. */
const rowsByOpcode: Instruction[][] = Array.from({ length: 32 }, () => [])
for (const instruction of instructions) rowsByOpcode[(instruction.match >> 2) & 31]!.push(instruction)

const formsByQuadrant: CompressedForm[][] = Array.from({ length: 32 }, () => [])
for (const form of compressedForms) formsByQuadrant[((form.match >> 11) & 0x1c) | (form.match & 3)]!.push(form)

/** True if the halfword starts a 16-bit instruction. */
export function isCompressed(halfword: number): boolean {
  return (halfword & 3) !== 3
}

/**
 * @param bits the instruction; for a 16-bit one the upper half is ignored
 * @returns undefined where no instruction is defined: an illegal-instruction exception
 */
export function decode(bits: number): Decoded | undefined {
  if (isCompressed(bits)) return decodeCompressed(bits & 0xffff)
  const unsigned = bits >>> 0
  for (const instruction of rowsByOpcode[(bits >> 2) & 31]!) {
    if ((unsigned & instruction.mask) >>> 0 === instruction.match) {
      return {
        instruction,
        rd: (bits >>> 7) & 31,
        rs1: (bits >>> 15) & 31,
        rs2: (bits >>> 20) & 31,
        rs3: bits >>> 27,
        immediate: immediateOf[instruction.format](bits | 0),
        rm: (bits >>> 12) & 7,
        csr: bits >>> 20,
        lengthBytes: 4,
      }
    }
  }
  return undefined
}

/** What each halfword means, found out once; null: nothing. */
const knownHalfwords: (Decoded | null | undefined)[] = Array(0x1_0000)

function decodeCompressed(bits: number): Decoded | undefined {
  let known = knownHalfwords[bits]
  if (known === undefined) {
    known = expandCompressed(bits) ?? null
    knownHalfwords[bits] = known
  }
  return known ?? undefined
}

function expandCompressed(bits: number): Decoded | undefined {
  for (const form of formsByQuadrant[((bits >> 11) & 0x1c) | (bits & 3)]!) {
    if ((bits & form.mask) !== form.match) continue
    const expansion = form.expand(bits)
    if (!expansion) return undefined
    const { name, rd = 0, rs1 = 0, rs2 = 0, immediate = 0 } = expansion
    return { instruction: instructionByName(name), rd, rs1, rs2, rs3: 0, immediate, rm: 0, csr: 0, lengthBytes: 2 }
  }
  return undefined
}
