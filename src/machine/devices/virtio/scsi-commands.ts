/**
 * What a disk on the SCSI bus makes of a command: SPC-4 for what every unit answers, SBC-3 for disks. Only what a driver
 * needs to find a disk, read, write and flush it; everything else is an illegal request, which drivers expect.
 *
 * A command becomes an answer, or work for the disk. Data is not touched here.
 */

import { ByteWriter } from '../../../base/bytes.ts'
import { sectorBytes } from '../../../base/units.ts'
import type { DiskConfig } from '../../types.ts'
import { largestRequestBytes } from './disk-requests.ts'

/** Key and code of a CHECK CONDITION (SPC-4, 4.5). */
export interface Sense {
  readonly key: number
  readonly code: number
}

export const sense = {
  mediumReadError: { key: 3, code: 0x11 },
  mediumWriteError: { key: 3, code: 0x0c },
  unknownCommand: { key: 5, code: 0x20 },
  addressOutOfRange: { key: 5, code: 0x21 },
  invalidField: { key: 5, code: 0x24 },
  writeProtected: { key: 7, code: 0x27 },
} as const satisfies Record<string, Sense>

export type ScsiAction =
  /** Answered at once, with as much of these bytes as the driver has room for. */
  | { readonly kind: 'data'; readonly bytes: Uint8Array }
  | { readonly kind: 'refuse'; readonly sense: Sense }
  | {
      readonly kind: 'move'
      readonly operation: 'read' | 'write'
      readonly sector: bigint
      readonly lengthBytes: number
    }
  | { readonly kind: 'flush' }

const done: ScsiAction = { kind: 'data', bytes: new Uint8Array() }

/** Fixed format (SPC-4, 4.5.3). */
export function encodeSense({ key, code }: Sense): Uint8Array {
  const bytes = new Uint8Array(18)
  bytes.set([0x70, 0, key])
  bytes[7] = 10
  bytes[12] = code
  return bytes
}

/** @param cdb the command descriptor block, 32 bytes */
export function readCommand(cdb: Uint8Array, disk: DiskConfig): ScsiAction {
  const view = new DataView(cdb.buffer, cdb.byteOffset, cdb.length)
  const limited = (bytes: Uint8Array, allocated: number): ScsiAction => {
    return { kind: 'data', bytes: bytes.subarray(0, allocated) }
  }
  const move = (operation: 'read' | 'write', sector: bigint, sectors: number) =>
    moveOf(disk, operation, sector, sectors)
  switch (cdb[0]!) {
    case 0x00: // TEST UNIT READY
    case 0x1b: // START STOP UNIT
    case 0x1e: // PREVENT ALLOW MEDIUM REMOVAL
      return done
    case 0x03: // REQUEST SENSE
      return limited(encodeSense({ key: 0, code: 0 }), cdb[4]!)
    case 0x12: {
      const bytes = inquiry(disk, (cdb[1]! & 1) === 1, cdb[2]!)
      return bytes ? limited(bytes, view.getUint16(3)) : refuse(sense.invalidField)
    }
    case 0x1a:
    case 0x5a: {
      const isLong = cdb[0] === 0x5a
      const bytes = modeSense(disk, isLong, cdb[2]!)
      return bytes ? limited(bytes, isLong ? view.getUint16(7) : cdb[4]!) : refuse(sense.invalidField)
    }
    case 0x25: // READ CAPACITY (10)
      return limited(capacity(disk, false), 8)
    case 0x9e: // SERVICE ACTION IN (16): READ CAPACITY (16)
      if ((cdb[1]! & 0x1f) !== 0x10) return refuse(sense.unknownCommand)
      return limited(capacity(disk, true), view.getUint32(10))
    case 0xa0: // REPORT LUNS: one, number 0
      return limited(Uint8Array.of(0, 0, 0, 8, ...new Uint8Array(12)), view.getUint32(6))
    case 0x35: // SYNCHRONIZE CACHE (10), (16)
    case 0x91:
      return disk.readOnly ? done : { kind: 'flush' }
    case 0x28:
      return move('read', BigInt(view.getUint32(2)), view.getUint16(7))
    case 0x2a:
      return move('write', BigInt(view.getUint32(2)), view.getUint16(7))
    case 0xa8:
      return move('read', BigInt(view.getUint32(2)), view.getUint32(6))
    case 0xaa:
      return move('write', BigInt(view.getUint32(2)), view.getUint32(6))
    case 0x88:
      return move('read', view.getBigUint64(2), view.getUint32(10))
    case 0x8a:
      return move('write', view.getBigUint64(2), view.getUint32(10))
    default:
      return refuse(sense.unknownCommand)
  }
}

function refuse(why: Sense): ScsiAction {
  return { kind: 'refuse', sense: why }
}

function moveOf(disk: DiskConfig, operation: 'read' | 'write', sector: bigint, sectors: number): ScsiAction {
  if (sector + BigInt(sectors) > disk.sectors) return refuse(sense.addressOutOfRange)
  if (operation === 'write' && disk.readOnly) return refuse(sense.writeProtected)
  const lengthBytes = sectors * sectorBytes
  if (lengthBytes > largestRequestBytes) return refuse(sense.invalidField)
  return sectors === 0 ? done : { kind: 'move', operation, sector, lengthBytes }
}

function ascii(text: string, lengthBytes: number): Uint8Array {
  return new TextEncoder().encode(text.padEnd(lengthBytes).slice(0, lengthBytes))
}

const vendor = 'UNDRSTDY'

/** SPC-4, 6.4, and the vital product data pages. */
function inquiry(disk: DiskConfig, isVital: boolean, page: number): Uint8Array | undefined {
  const writer = new ByteWriter(64)
  if (!isVital) {
    if (page !== 0) return undefined
    // A disk that conforms to SPC-3 and takes several commands at a time.
    writer.raw(Uint8Array.of(0, 0, 5, 2, 31, 0, 0, 2))
    return writer.raw(ascii(vendor, 8)).raw(ascii('disk', 16)).raw(ascii('1', 4)).finish()
  }
  const body = vitalPage(disk, page)
  return (
    body &&
    writer
      .raw(Uint8Array.of(0, page, body.length >> 8, body.length & 0xff))
      .raw(body)
      .finish()
  )
}

function vitalPage(disk: DiskConfig, page: number): Uint8Array | undefined {
  switch (page) {
    case 0x00:
      return Uint8Array.of(0x00, 0x80, 0x83, 0xb0, 0xb1)
    case 0x80:
      return ascii(disk.serial, Math.max(1, disk.serial.length))
    case 0x83: {
      const name = ascii(vendor + disk.serial, 8 + disk.serial.length)
      return Uint8Array.of(2, 1, 0, name.length, ...name)
    }
    case 0xb0: {
      const limits = new DataView(new ArrayBuffer(60))
      limits.setUint32(4, largestRequestBytes / sectorBytes)
      return new Uint8Array(limits.buffer)
    }
    case 0xb1: {
      // It does not rotate.
      const characteristics = new Uint8Array(60)
      characteristics[1] = 1
      return characteristics
    }
    default:
      return undefined
  }
}

const cachingPage = 0x08
const allPages = 0x3f

/** SPC-4, 6.11: one page, which says that there is a cache for writes, so that the driver flushes it. */
function modeSense(disk: DiskConfig, isLong: boolean, selector: number): Uint8Array | undefined {
  const page = selector & 0x3f
  if (page !== cachingPage && page !== allPages) return undefined
  const caching = new Uint8Array(20)
  caching.set([cachingPage, 18, 4])
  const flags = disk.readOnly ? 0x80 : 0
  const header = isLong
    ? Uint8Array.of(0, caching.length + 6, 0, flags, 0, 0, 0, 0)
    : Uint8Array.of(caching.length + 3, 0, flags, 0)
  return Uint8Array.of(...header, ...caching)
}

/** SBC-3, 5.16 and 5.17: the last sector, and the length of one. */
function capacity(disk: DiskConfig, isLong: boolean): Uint8Array {
  const last = disk.sectors - 1n
  const view = new DataView(new ArrayBuffer(isLong ? 32 : 8))
  if (isLong) {
    view.setBigUint64(0, last)
    view.setUint32(8, sectorBytes)
  } else {
    view.setUint32(0, last > 0xffff_fffen ? 0xffff_ffff : Number(last))
    view.setUint32(4, sectorBytes)
  }
  return new Uint8Array(view.buffer)
}
