/**
 * Entries as bytes, many at a time. A batch is what the hart's thread hands to the host, what the logging channel
 * carries, what an acknowledgement names and what a kept log stores: the same bytes everywhere.
 *
 *   version u8 │ firstIndex │ firstCount │ entries │ lastFrameId + 1, or 0 │ entry …        (varints)
 *   entry:  count − previous count │ kind u8 │ fields of the kind
 *
 * Indexes are not stored: they run on from firstIndex. A batch needs nothing outside it to be read. The header says
 * which entries and which inbound frames it covers, so that hosts can acknowledge and confirm without decoding.
 *
 * Kind tags are part of the format: never renumber, only add; any other change takes a new version, and old versions
 * stay readable, because kept logs are replayed for ever.
 */

import { assert, unreachable, WorldError } from '../base/assert.ts'
import { ByteReader, ByteWriter, concatBytes } from '../base/bytes.ts'
import { MiB } from '../base/units.ts'
import { type DiskStatus, type InstructionCount, instructionCount } from '../machine/types.ts'
import {
  type BytesByCause,
  causeOf,
  type EntryBody,
  type LogEnd,
  type LogEntry,
  type LogIndex,
  logIndex,
  noBytesByCause,
} from './entry.ts'
import { outputKindOfTag, outputKindTags } from './output-codec.ts'
import { readBoundedVarint, readFlag, readVarint, readVarintBytes, writeVarint, writeVarintBytes } from './varint.ts'

export const batchVersion = 1

/** No batch is longer: one entry is at most what a disk has read, and a builder closes its batch long before. */
export const maxBatchBytes = 64 * MiB

/** A run of consecutive entries, encoded. Never empty. */
export interface LogBatch {
  readonly firstIndex: LogIndex
  readonly lastIndex: LogIndex
  /** The switch's number of the last inbound frame among the entries, if there is one. */
  readonly lastFrameId: bigint | undefined
  readonly bytes: Uint8Array
}

/** The exclusive end of a batch: the index of the entry after it. */
export function batchEnd(batch: LogBatch): LogEnd {
  return logIndex(batch.lastIndex + 1n)
}

const kindTags = {
  boot: 1,
  clock: 2,
  frame: 3,
  diskCompletion: 4,
  consoleInput: 5,
  entropy: 6,
  powerButton: 7,
  marker: 8,
  digest: 9,
  epochEnd: 10,
  diskRead: 11,
} as const satisfies Record<EntryBody['kind'], number>

const kindsByTag: ReadonlyMap<number, EntryBody['kind']> = new Map(
  (Object.keys(kindTags) as EntryBody['kind'][]).map((kind) => [kindTags[kind], kind]),
)

const diskStatuses: readonly DiskStatus[] = ['ok', 'ioError', 'unsupported', 'uncertain']

function writeBody(writer: ByteWriter, body: EntryBody): void {
  writer.u8(kindTags[body.kind])
  switch (body.kind) {
    case 'boot':
      writeVarintBytes(writer, body.rngSeed)
      writer.u64(body.wallClockNs)
      return
    case 'clock':
      writeVarint(writer, body.ticks)
      writeVarint(writer, body.ratePer2p32)
      writeVarint(writer, body.capTicks)
      return
    case 'frame':
      writeVarint(writer, body.frameId)
      writeVarintBytes(writer, body.bytes)
      return
    case 'diskCompletion':
      writeVarint(writer, body.sequence)
      writer.u8(diskStatuses.indexOf(body.status))
      writer.bool(body.data !== undefined)
      if (body.data !== undefined) writeVarintBytes(writer, body.data)
      return
    case 'diskRead':
      writeVarint(writer, body.sequence)
      writer.u64(body.dataDigest)
      return
    case 'consoleInput':
    case 'entropy':
      writeVarintBytes(writer, body.bytes)
      return
    case 'powerButton':
      return
    case 'marker':
      writeVarint(writer, body.sequence)
      writer.u8(outputKindTags[body.outputKind])
      writer.u64(body.checksum)
      return
    case 'digest':
      writer.u64(body.digest)
      return
    case 'epochEnd':
      writeVarint(writer, body.epoch)
      return
    default:
      unreachable(body)
  }
}

function readBody(reader: ByteReader): EntryBody {
  const tag = reader.u8()
  const kind = kindsByTag.get(tag)
  if (kind === undefined) {
    throw new WorldError('bad-log-entry', `unknown kind of log entry ${tag} at offset ${reader.offset}`)
  }
  switch (kind) {
    case 'boot':
      return { kind, rngSeed: readVarintBytes(reader), wallClockNs: reader.u64() }
    case 'clock':
      return { kind, ticks: readVarint(reader), ratePer2p32: readVarint(reader), capTicks: readVarint(reader) }
    case 'frame':
      return { kind, frameId: readVarint(reader), bytes: readVarintBytes(reader) }
    case 'diskCompletion': {
      const sequence = readVarint(reader)
      const status = diskStatuses[reader.u8()]
      if (status === undefined) throw new WorldError('bad-log-entry', 'unknown disk status')
      return readFlag(reader) ? { kind, sequence, status, data: readVarintBytes(reader) } : { kind, sequence, status }
    }
    case 'diskRead':
      return { kind, sequence: readVarint(reader), dataDigest: reader.u64() }
    case 'consoleInput':
    case 'entropy':
      return { kind, bytes: readVarintBytes(reader) }
    case 'powerButton':
      return { kind }
    case 'marker':
      return { kind, sequence: readVarint(reader), outputKind: outputKindOfTag(reader.u8()), checksum: reader.u64() }
    case 'digest':
      return { kind, digest: reader.u64() }
    case 'epochEnd':
      return { kind, epoch: readVarint(reader) }
    default:
      return unreachable(kind)
  }
}

/** Collects entries until someone takes them. */
export class BatchBuilder {
  readonly #entries = new ByteWriter(4096)
  readonly #header = new ByteWriter(64)
  #first: { readonly index: LogIndex; readonly count: InstructionCount } | undefined
  #length = 0
  #previousCount = 0n
  #nextIndex: LogIndex
  #lastFrameId: bigint | undefined
  #bytesByCause = noBytesByCause()

  constructor(nextIndex: LogIndex) {
    this.#nextIndex = nextIndex
  }

  /** The index the next entry gets. */
  get nextIndex(): LogIndex {
    return this.#nextIndex
  }

  /** Encoded bytes waiting to be taken, header not counted. */
  get pendingBytes(): number {
    return this.#entries.length
  }

  append(count: InstructionCount, body: EntryBody): LogIndex {
    const index = this.#nextIndex
    if (this.#first === undefined) {
      this.#first = { index, count }
      this.#previousCount = count
    }
    if (count < this.#previousCount) assert(false, `entry ${index} at ${count} comes before its predecessor`)
    const start = this.#entries.length
    writeVarint(this.#entries, count - this.#previousCount)
    writeBody(this.#entries, body)
    this.#bytesByCause[causeOf(body)] += this.#entries.length - start
    this.#previousCount = count
    this.#nextIndex = logIndex(index + 1n)
    this.#length++
    if (body.kind === 'frame') this.#lastFrameId = body.frameId
    return index
  }

  /** Everything appended since the last call as one batch, or undefined if there is nothing. */
  take(): { readonly batch: LogBatch; readonly bytesByCause: Readonly<BytesByCause> } | undefined {
    const first = this.#first
    if (first === undefined) return undefined
    const header = this.#header
    header.clear()
    header.u8(batchVersion)
    writeVarint(header, first.index)
    writeVarint(header, first.count)
    writeVarint(header, this.#length)
    writeVarint(header, this.#lastFrameId === undefined ? 0n : this.#lastFrameId + 1n)
    const batch: LogBatch = {
      firstIndex: first.index,
      lastIndex: logIndex(this.#nextIndex - 1n),
      lastFrameId: this.#lastFrameId,
      bytes: concatBytes([header.view(), this.#entries.view()]),
    }
    const bytesByCause = this.#bytesByCause
    this.#entries.clear()
    this.#first = undefined
    this.#length = 0
    this.#lastFrameId = undefined
    this.#bytesByCause = noBytesByCause()
    return { batch, bytesByCause }
  }
}

interface BatchHeader {
  readonly batch: LogBatch
  readonly firstCount: bigint
  readonly length: number
}

function readHeader(reader: ByteReader, bytes: Uint8Array): BatchHeader {
  if (bytes.length > maxBatchBytes) throw new WorldError('too-large', `log batch of ${bytes.length} bytes`)
  const version = reader.u8()
  if (version !== batchVersion) {
    throw new WorldError('log-version', `log batch of version ${version}: this program reads version ${batchVersion}`)
  }
  const firstIndex = readVarint(reader)
  const firstCount = readVarint(reader)
  // An entry takes two bytes at least: a larger number is a lie, and must not make us allocate.
  const length = readBoundedVarint(reader, bytes.length >> 1, 'number of log entries')
  if (length === 0) throw new WorldError('bad-log-entry', 'empty log batch')
  const frameIdPlusOne = readVarint(reader)
  const batch: LogBatch = {
    firstIndex: logIndex(firstIndex),
    lastIndex: logIndex(firstIndex + BigInt(length) - 1n),
    lastFrameId: frameIdPlusOne === 0n ? undefined : frameIdPlusOne - 1n,
    bytes,
  }
  return { batch, firstCount, length }
}

/** What a batch covers, from its header alone. The entries are not looked at. */
export function openBatch(bytes: Uint8Array): LogBatch {
  return readHeader(new ByteReader(bytes), bytes).batch
}

/** The entries of a batch; anything wrong with the bytes is a `WorldError`. */
export function decodeBatch(bytes: Uint8Array): LogEntry[] {
  const reader = new ByteReader(bytes)
  const { batch, firstCount, length } = readHeader(reader, bytes)
  const entries: LogEntry[] = []
  let count = firstCount
  let lastFrameId: bigint | undefined
  for (let position = 0; position < length; position++) {
    count += readVarint(reader)
    const body = readBody(reader)
    if (body.kind === 'frame') lastFrameId = body.frameId
    entries.push({ index: logIndex(batch.firstIndex + BigInt(position)), count: instructionCount(count), body })
  }
  reader.end()
  if (lastFrameId !== batch.lastFrameId) {
    throw new WorldError(
      'bad-log-entry',
      `batch names frame ${batch.lastFrameId} as its last, but holds ${lastFrameId}`,
    )
  }
  return entries
}
