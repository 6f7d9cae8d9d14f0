/**
 * A kept log: the log of a machine as a file, to replay, inspect or travel through later.
 *
 *   magic 8 bytes "US-LOG\r\n" │ version u16 │ header length u32 │ header │ XXH64 of the header u64
 *   then, for each batch:  length u32 │ XXH64 of the batch u64 │ batch
 *
 * Encode and decode are pure; the host writes and reads the file. A crash can tear the last batch: reading yields every
 * whole batch before the tear and says how many bytes were torn. A whole batch with a wrong checksum is not a tear but
 * damage, and is refused.
 */

import { assert, WorldError } from '../base/assert.ts'
import { ByteReader, ByteWriter, concatBytes, equalBytes } from '../base/bytes.ts'
import { hash64 } from '../base/digest.ts'
import { batchEnd, type LogBatch, maxBatchBytes, openBatch } from './batch.ts'
import { type LogEnd, type LogIndex, logIndex } from './entry.ts'
import { type MachineIdentity, readIdentity, writeIdentity } from './identity.ts'
import { readVarint, writeVarint } from './varint.ts'

const magic = new TextEncoder().encode('US-LOG\r\n')

export const keptLogVersion = 1

export interface KeptLogHeader {
  readonly identity: MachineIdentity
  /** Index of the first entry in the file: 0 unless the log starts at a snapshot. */
  readonly firstIndex: LogIndex
}

const prefixBytes = magic.length + 2 + 4
const maxHeaderBytes = 4096

export function encodeKeptLogHeader(header: KeptLogHeader): Uint8Array {
  const body = new ByteWriter()
  writeIdentity(body, header.identity)
  writeVarint(body, header.firstIndex)
  return new ByteWriter().raw(magic).u16(keptLogVersion).bytes(body.view()).u64(hash64(body.view())).finish()
}

/** The bytes to append to the file for one batch. */
export function encodeKeptBatch(batch: LogBatch): Uint8Array {
  return new ByteWriter(batch.bytes.length + 12)
    .u32(batch.bytes.length)
    .u64(hash64(batch.bytes))
    .raw(batch.bytes)
    .finish()
}

const damaged = (what: string) => new WorldError('kept-log-damaged', `kept log is damaged: ${what}`)

/** Reads a kept log in pieces of any size. */
export class KeptLogReader {
  #pending: Uint8Array = new Uint8Array(0)
  #header: KeptLogHeader | undefined
  #end: LogEnd = logIndex(0n)

  /** Known as soon as enough bytes came. */
  get header(): KeptLogHeader | undefined {
    return this.#header
  }

  /** Every entry below this index was returned. */
  get end(): LogEnd {
    return this.#end
  }

  /** Bytes of the batch that is not complete yet: at the end of the file, what a crash tore. */
  get tornBytes(): number {
    return this.#pending.length
  }

  /** Takes the next piece of the file and returns the batches that are now complete, in order. */
  push(piece: Uint8Array): LogBatch[] {
    this.#pending = concatBytes([this.#pending, piece])
    const batches: LogBatch[] = []
    if (this.#header === undefined && !this.#readHeader()) return batches
    for (;;) {
      const batch = this.#readBatch()
      if (batch === undefined) return batches
      batches.push(batch)
    }
  }

  #readHeader(): boolean {
    const reader = new ByteReader(this.#pending)
    if (reader.remaining < prefixBytes) {
      const start = magic.subarray(0, reader.remaining)
      if (!equalBytes(this.#pending.subarray(0, start.length), start)) throw this.#notALog()
      return false
    }
    if (!equalBytes(reader.raw(magic.length), magic)) throw this.#notALog()
    const version = reader.u16()
    if (version !== keptLogVersion) {
      throw new WorldError(
        'log-version',
        `kept log of version ${version}: this program reads version ${keptLogVersion}`,
      )
    }
    const length = reader.u32()
    if (length > maxHeaderBytes) throw damaged(`header of ${length} bytes`)
    if (reader.remaining < length + 8) return false
    const body = reader.raw(length)
    if (reader.u64() !== hash64(body)) throw damaged('wrong checksum of the header')
    const fields = new ByteReader(body)
    this.#header = { identity: readIdentity(fields), firstIndex: logIndex(readVarint(fields)) }
    fields.end()
    this.#end = this.#header.firstIndex
    this.#pending = this.#pending.subarray(reader.offset)
    return true
  }

  #readBatch(): LogBatch | undefined {
    const reader = new ByteReader(this.#pending)
    if (reader.remaining < 12) return undefined
    const length = reader.u32()
    if (length > maxBatchBytes) throw damaged(`batch of ${length} bytes after entry ${this.#end}`)
    const checksum = reader.u64()
    if (reader.remaining < length) return undefined
    const bytes = reader.raw(length).slice()
    if (hash64(bytes) !== checksum) throw damaged(`wrong checksum after entry ${this.#end}`)
    const batch = openBatch(bytes)
    if (batch.firstIndex !== this.#end) throw damaged(`entry ${batch.firstIndex} follows where ${this.#end} is due`)
    this.#end = batchEnd(batch)
    this.#pending = this.#pending.subarray(reader.offset)
    assert(this.#end > batch.firstIndex, 'a batch is never empty')
    return batch
  }

  #notALog(): WorldError {
    return new WorldError('not-a-kept-log', 'this file is not a kept log of understudy')
  }
}
