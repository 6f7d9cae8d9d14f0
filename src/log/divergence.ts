/**
 * A divergence: the replayed machine did something else than the log says. It is data, not an exception, because it is
 * the product's most valuable report (invariant 11): where the two machines last agreed, where they no longer did, and
 * what each side has.
 */

import { WorldError } from '../base/assert.ts'
import type { ByteReader, ByteWriter } from '../base/bytes.ts'
import { type InstructionCount, instructionCount } from '../machine/types.ts'
import { type LogEnd, type LogIndex, logIndex } from './entry.ts'
import { readVarint, readVarintText, writeVarint, writeVarintText } from './varint.ts'

export const divergenceKinds = [
  /** The output differs from its marker in kind, number or content. */
  'differentOutput',
  /** The log has a marker here, the machine made no output. */
  'missingOutput',
  /** The machine made an output that the log has no marker for. */
  'unexpectedOutput',
  /** The machine's digest differs. */
  'differentDigest',
  /** The machine stopped (waiting, off) before it reached the next entry. */
  'stopped',
  /** The disk gave this replica other data than the primary, for a read whose data is not in the log. */
  'differentRead',
] as const

export type DivergenceKind = (typeof divergenceKinds)[number]

export interface Divergence {
  readonly kind: DivergenceKind
  /** Markers and digests below this index agreed: the first difference lies in [agreedEnd, index]. */
  readonly agreedEnd: LogEnd
  /** The entry at which the difference showed. */
  readonly index: LogIndex
  /** The replaying machine's instruction count when it showed. */
  readonly count: InstructionCount
  /** What the log says, for people. */
  readonly expected: string
  /** What the replaying machine did, for people. */
  readonly found: string
}

const maxTextBytes = 4096

/** One line for people. */
export function describeDivergence(divergence: Divergence): string {
  const { kind, agreedEnd, index, count, expected, found } = divergence
  return `${kind} at instruction ${count}, between log entries ${agreedEnd} and ${index}: expected ${expected}, found ${found}`
}

export function writeDivergence(writer: ByteWriter, divergence: Divergence): void {
  writer.u8(divergenceKinds.indexOf(divergence.kind))
  writeVarint(writer, divergence.agreedEnd)
  writeVarint(writer, divergence.index)
  writeVarint(writer, divergence.count)
  writeVarintText(writer, divergence.expected)
  writeVarintText(writer, divergence.found)
}

export function readDivergence(reader: ByteReader): Divergence {
  const kind = divergenceKinds[reader.u8()]
  if (kind === undefined) throw new WorldError('bad-divergence', 'unknown kind of divergence')
  return {
    kind,
    agreedEnd: logIndex(readVarint(reader)),
    index: logIndex(readVarint(reader)),
    count: instructionCount(readVarint(reader)),
    expected: readVarintText(reader, maxTextBytes),
    found: readVarintText(reader, maxTextBytes),
  }
}
