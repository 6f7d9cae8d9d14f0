/** Numbers of the core's function table: handlers that are no instruction, then those of the instructions, then regions. */

import { instructions } from '../../riscv/instructions.ts'

export const handlerIndex = {
  decodeHere: 0,
  nextPage: 1,
  nextPageBehindStraddling: 2,
  straddling: 3,
  illegal: 4,
} as const
export const firstInstructionHandler = 5
export const formsPerInstruction = 4

export const handlerCount = firstInstructionHandler + instructions.length * formsPerInstruction

/** Region r is function `regionTableBase + r` of the table. */
export const regionTableBase = handlerCount
