/** The digest by which two replicas know that they run the same semantics: encodings and the code generated from them. */

import { createHash } from 'node:crypto'
import { compressedForms } from '../riscv/compressed.ts'
import { instructions } from '../riscv/instructions.ts'

/** Changes when an encoding or the text of a semantics changes. */
export function instructionTableHash(): bigint {
  const hash = createHash('sha256')
  for (const { name, match, mask, semantics } of instructions) hash.update(`${name} ${match} ${mask} ${semantics}\n`)
  for (const { name, match, mask, expand } of compressedForms) hash.update(`${name} ${match} ${mask} ${expand}\n`)
  return hash.digest().readBigUInt64LE()
}
