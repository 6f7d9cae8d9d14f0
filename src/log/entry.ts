/**
 * The log: what the primary wrote down so that a backup, a recording or a debugger can run the same machine again.
 *
 * An entry is a thing that happened at a position. A position is (instruction count, log index): the entry takes effect
 * after instruction `count` and before the next one; entries with equal counts take effect in index order (invariant 2).
 *
 *   count   …  1000      1000      1007      1007     2500
 *   index        17        18        19        20       21
 *   body      clock     frame    marker    marker   digest
 *                                 └── the outputs of instruction 1007: one store sent two frames
 *
 * Five sorts of body: an `Input`, which enters the machine; a `diskRead`, which is one too, but whose data every replica reads
 * from the disk itself; a `marker`, which says that the machine produced an output here (the Output Rule's log entry of the
 * output operation); a `digest`, which says what the whole machine looked like; an `epochEnd`, with which the epoch
 * discipline divides the log. Markers and digests enter nothing: they are what a backup compares itself against.
 *
 * This folder does not send, store or apply anything.
 */

import type { Input, InstructionCount, Output, OutputKind } from '../machine/types.ts'

declare const logIndexBrand: unique symbol

/** The number of an entry, from 0, without gaps, for the whole life of a machine, across failovers. */
export type LogIndex = bigint & { readonly [logIndexBrand]: true }

export function logIndex(value: bigint): LogIndex {
  return value as LogIndex
}

/**
 * An exclusive bound: "every entry with an index below this". Used wherever a set of entries is meant (received,
 * replayed, released), because 0 then means none and two ends can be compared and subtracted without special cases.
 */
export type LogEnd = LogIndex

export interface Marker {
  readonly kind: 'marker'
  /** The output's own number, `Output.sequence`. */
  readonly sequence: bigint
  readonly outputKind: OutputKind
  /** `outputChecksum` of the output: XXH64 of its canonical encoding. */
  readonly checksum: bigint
}

export interface DigestCheck {
  readonly kind: 'digest'
  /** `Machine.digest()` at this position. */
  readonly digest: bigint
}

/**
 * [end, E] of Bressoud & Schneider: epoch `epoch` ends at this position, everything to be delivered at its end stands
 * before this entry, and the next epoch begins. Only logs of the epoch discipline have it.
 */
export interface EpochEnd {
  readonly kind: 'epochEnd'
  /** E, from 0. */
  readonly epoch: bigint
}

/**
 * The disk answered a read with success, and what it read is left out (VMware FT, "Disk reads on the backup"): whoever
 * replays the entry reads the same sectors itself.
 */
export interface DiskRead {
  readonly kind: 'diskRead'
  /** The request's number, `Output.sequence`. */
  readonly sequence: bigint
  /** XXH64 of what the primary read. */
  readonly dataDigest: bigint
}

export type EntryBody = Input | DiskRead | Marker | DigestCheck | EpochEnd

export interface LogEntry {
  readonly index: LogIndex
  /** Instructions attempted before the entry takes effect. A marker's count includes the instruction that made the output. */
  readonly count: InstructionCount
  readonly body: EntryBody
}

/** What log bytes are spent on, as operators see it. */
export const causes = ['frame', 'disk', 'clock', 'console', 'entropy', 'power', 'marker', 'digest', 'epoch'] as const

export type Cause = (typeof causes)[number]

const causeOfKind = {
  boot: 'power',
  powerButton: 'power',
  clock: 'clock',
  frame: 'frame',
  diskCompletion: 'disk',
  diskRead: 'disk',
  consoleInput: 'console',
  entropy: 'entropy',
  marker: 'marker',
  digest: 'digest',
  epochEnd: 'epoch',
} as const satisfies Record<EntryBody['kind'], Cause>

export function causeOf(body: EntryBody): Cause {
  return causeOfKind[body.kind]
}

/** Encoded bytes per cause. Mutable: a counter that its owner adds to. */
export type BytesByCause = Record<Cause, number>

export function noBytesByCause(): BytesByCause {
  return { frame: 0, disk: 0, clock: 0, console: 0, entropy: 0, power: 0, marker: 0, digest: 0, epoch: 0 }
}

/** Adds `more` to `total`, in place. */
export function addBytesByCause(total: BytesByCause, more: Readonly<BytesByCause>): void {
  for (const cause of causes) total[cause] += more[cause]
}

/** An output that may have to wait for reads of the backups. */
export interface ReadOrdered {
  readonly output: Output
  /**
   * Of a change of a disk: every `diskRead` entry whose sectors it touches has an index below this. A backup that has not
   * replayed them has not read what the output would overwrite. Undefined: there is none.
   */
  readonly afterReadsEnd?: LogEnd
}

/** An output of the machine together with the log entry that names it: what the output gate holds and a backup keeps. */
export interface MarkedOutput extends ReadOrdered {
  readonly markerIndex: LogIndex
}

/** Outputs as the layers above know them, who may import the log but not the machine. */
/** An output to a disk. */
export type DiskRequest = Extract<Output, { kind: 'disk' }>

/** A disk request that may have been carried out already. */
export type ReissuedRequest = ReadOrdered & { readonly output: DiskRequest }

export type { Output, OutputKind }
