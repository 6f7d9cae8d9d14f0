/**
 * The bytes of a whole machine, version 1, little-endian:
 *
 *     "USNAPSHT"  version u32  machine u64  state u32 + bytes  pages u32  {page u32, content 4096} · pages  checksum u64
 *
 * `machine` fingerprints config and boot image: a snapshot only fits the machine it was taken of. `state` is everything
 * but RAM. Pages of zeros are left out. The checksum is over all bytes before it.
 */

import { WorldError } from '../base/assert.ts'
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { hash64 } from '../base/digest.ts'
import { MiB, pageBytes } from '../base/units.ts'
import { isZero, pageOf } from './memory-digest.ts'

const magic = 'USNAPSHT'
const version = 1
const pageRecordBytes = 4 + pageBytes

export interface SnapshotContent {
  readonly machine: bigint
  readonly state: Uint8Array
  readonly pages: readonly { readonly page: number; readonly content: Uint8Array }[]
}

export function encodeSnapshot(machine: bigint, state: Uint8Array, ram: Uint8Array): Uint8Array {
  const pages: number[] = []
  for (let page = 0; page < ram.length / pageBytes; page++) if (!isZero(pageOf(ram, page))) pages.push(page)

  const head = new ByteWriter(state.length + 64)
  head.raw(new TextEncoder().encode(magic)).u32(version).u64(machine).bytes(state).u32(pages.length)

  const bytes = new Uint8Array(head.length + pages.length * pageRecordBytes + 8)
  const view = new DataView(bytes.buffer)
  bytes.set(head.view())
  let offset = head.length
  for (const page of pages) {
    view.setUint32(offset, page, true)
    bytes.set(pageOf(ram, page), offset + 4)
    offset += pageRecordBytes
  }
  view.setBigUint64(offset, hashLong(bytes.subarray(0, offset)), true)
  return bytes
}

export function decodeSnapshot(bytes: Uint8Array): SnapshotContent {
  const reader = new ByteReader(bytes)
  if (bytes.length < magic.length || new TextDecoder().decode(reader.raw(magic.length)) !== magic) {
    throw new WorldError('not-a-snapshot', 'this is not a machine snapshot')
  }
  const found = reader.u32()
  if (found !== version) {
    throw new WorldError('snapshot-version', `the snapshot has version ${found}, this program reads version ${version}`)
  }
  const body = bytes.subarray(0, Math.max(0, bytes.length - 8))
  const checksum = new ByteReader(bytes.subarray(body.length))
  if (checksum.u64() !== hashLong(body)) {
    throw new WorldError('snapshot-damaged', 'the snapshot is damaged or truncated (its checksum does not fit)')
  }
  const machine = reader.u64()
  const state = reader.bytes()
  const pages: { page: number; content: Uint8Array }[] = []
  const count = reader.u32()
  for (let index = 0; index < count; index++) pages.push({ page: reader.u32(), content: reader.raw(pageBytes) })
  reader.u64()
  reader.end()
  return { machine, state, pages }
}

/** A hash over any length: piecewise, since the hash's own memory grows to the size of a piece. */
export function hashLong(bytes: Uint8Array, seed = 0n): bigint {
  let hash = seed
  for (let offset = 0; offset < bytes.length; offset += MiB) {
    hash = hash64(bytes.subarray(offset, Math.min(offset + MiB, bytes.length)), hash)
  }
  return hash
}
