/**
 * The instruction table: encoding and semantics of every instruction of this hart, once. Decoder, interpreter,
 * translator, disassembler and test generators are made from it.
 */

import { baseInstructions } from './base-integer.ts'
import { floatInstructions } from './floating-point.ts'
import type { Instruction } from './instruction.ts'

/** More special encodings stand before more general ones; the first that matches wins. */
export const instructions: readonly Instruction[] = [...baseInstructions, ...floatInstructions]

const byName = new Map(instructions.map((instruction) => [instruction.name, instruction]))

export function instructionByName(name: string): Instruction {
  const instruction = byName.get(name)
  if (!instruction) throw new RangeError(`no instruction is called ${name}`)
  return instruction
}
