/**
 * How the writer of a log lets the world in. A machine, its log and its replay are the same under both disciplines.
 *
 *  - `exact` (VMware FT): every input takes effect at the very instruction at which it arrived.
 *  - `epoch` (Bressoud & Schneider): the instruction stream is cut into epochs of a set length, and inputs take effect only
 *    where one ends. `original` waits there for the backup's acknowledgements; `revised` waits before outputs instead.
 */

import { WorldError } from '../base/assert.ts'
import type { ByteReader, ByteWriter } from '../base/bytes.ts'
import { readVarint, writeVarint } from './varint.ts'

export const epochProtocols = ['original', 'revised'] as const

export type EpochProtocol = (typeof epochProtocols)[number]

export interface EpochDiscipline {
  readonly kind: 'epoch'
  readonly protocol: EpochProtocol
  /** Length of an epoch in instructions, unless the hart waits before it is over. */
  readonly instructions: number
}

export type Discipline = { readonly kind: 'exact' } | EpochDiscipline

export const exactDiscipline: Discipline = { kind: 'exact' }

export const shortestEpochInstructions = 1000
export const longestEpochInstructions = 1_000_000
/** For error lines. */
export const epochLengths = `${shortestEpochInstructions} to ${longestEpochInstructions} instructions`

export const defaultEpoch: EpochDiscipline = { kind: 'epoch', protocol: 'revised', instructions: 50_000 }

export function isEpochLength(instructions: number): boolean {
  const isInRange = instructions >= shortestEpochInstructions && instructions <= longestEpochInstructions
  return Number.isInteger(instructions) && isInRange
}

/** In words for people. */
export function describeDiscipline(discipline: Discipline): string {
  if (discipline.kind === 'exact') return 'exact discipline'
  return `epoch discipline, ${discipline.protocol} protocol, epochs of ${discipline.instructions} instructions`
}

/**
 * Why replicas with these must not pair, or undefined if they may. The same log can be replayed under any discipline, but after
 * a failover the machine would go on under another one than its operator set, and than its primary promised the outside.
 */
export function disciplineMismatch(ours: Discipline, theirs: Discipline): string | undefined {
  const [here, there] = [ours, theirs].map(describeDiscipline)
  return here === there ? undefined : `other discipline: ${there}; here ${here}; write the same in both VM files`
}

export function writeDiscipline(writer: ByteWriter, discipline: Discipline): void {
  writer.u8(discipline.kind === 'exact' ? 0 : 1 + epochProtocols.indexOf(discipline.protocol))
  if (discipline.kind === 'epoch') writeVarint(writer, discipline.instructions)
}

export function readDiscipline(reader: ByteReader): Discipline {
  const tag = reader.u8()
  if (tag === 0) return exactDiscipline
  const protocol = epochProtocols[tag - 1]
  const instructions = Number(readVarint(reader))
  if (protocol === undefined || !isEpochLength(instructions)) {
    throw new WorldError('bad-discipline', `discipline ${tag} with epochs of ${instructions} instructions`)
  }
  return { kind: 'epoch', protocol, instructions }
}
