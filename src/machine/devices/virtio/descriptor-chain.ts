/**
 * Reading one descriptor chain of a split virtqueue (virtio 1.2, 2.7.5 to 2.7.5.3), and refusing what no driver may build.
 *
 * The driver is not trusted. A chain that loops, leaves RAM, has an empty descriptor, puts a readable part behind a
 * writable one, nests indirect tables, lets a part that the device writes overlap one that it reads, or overlap the
 * rings, raises a `DriverFault`: the device then wants a reset. Every check is bounded, so that no chain can hang us.
 * Writable parts of one chain may overlap each other (an O_DIRECT read into one page twice is legal in Linux): they are
 * written in chain order.
 */

import type { ByteReader, ByteWriter } from '../../../base/bytes.ts'
import type { GuestMemory } from '../../guest-memory.ts'

/** A range of guest RAM. */
export interface Segment {
  readonly address: number
  readonly lengthBytes: number
}

export interface Chain {
  /** Index of the first descriptor: the chain's name in both rings. */
  readonly head: number
  /** What the device reads, in order. */
  readonly readable: readonly Segment[]
  /** What the device writes, in order. */
  readonly writable: readonly Segment[]
}

/** The driver broke a rule: caught at the transport, answered with DEVICE_NEEDS_RESET. Never leaves the device. */
export class DriverFault extends Error {
  override readonly name = 'DriverFault'
}

const flags = { next: 1, write: 2, indirect: 4 } as const
const descriptorBytes = 16

/** An indirect table may be longer than the queue in practice (Linux does so); this is the limit of it. */
const longestIndirectTable = 1024

/** 2.7.5: a chain holds at most 2^32 bytes. */
const largestChainBytes = 2 ** 32

interface Descriptor extends Segment {
  readonly flags: number
  readonly next: number
}

function readDescriptor(memory: GuestMemory, table: number, index: number): Descriptor {
  const address = table + index * descriptorBytes
  return {
    address: memory.u64(address),
    lengthBytes: memory.u32(address + 8),
    flags: memory.u16(address + 12),
    next: memory.u16(address + 14),
  }
}

/**
 * @param table address of the queue's descriptor table, `size` entries long and inside RAM
 * @param rings ranges that no device-writable part may touch
 */
export function readChain(
  memory: GuestMemory,
  table: number,
  size: number,
  head: number,
  rings: readonly Segment[],
): Chain {
  const readable: Segment[] = []
  const writable: Segment[] = []
  let totalBytes = 0

  const add = (descriptor: Descriptor) => {
    const { address, lengthBytes } = descriptor
    if (lengthBytes === 0) throw new DriverFault('an empty descriptor')
    if (!memory.contains(address, lengthBytes)) throw new DriverFault('a descriptor outside RAM')
    totalBytes += lengthBytes
    if (totalBytes > largestChainBytes) throw new DriverFault('a chain of more than 4 GiB')
    if (descriptor.flags & flags.write) writable.push({ address, lengthBytes })
    else if (writable.length > 0) throw new DriverFault('a readable descriptor behind a writable one')
    else readable.push({ address, lengthBytes })
  }

  let index = head
  for (let length = 1; ; length++) {
    if (index >= size) throw new DriverFault('a descriptor index outside the table')
    if (length > size) throw new DriverFault('a descriptor chain that loops')
    const descriptor = readDescriptor(memory, table, index)
    if (descriptor.flags & flags.indirect) {
      if (descriptor.flags & flags.next) throw new DriverFault('an indirect descriptor with a successor')
      readIndirect(memory, descriptor, add)
      break
    }
    add(descriptor)
    if (!(descriptor.flags & flags.next)) break
    index = descriptor.next
  }

  for (const segment of writable) {
    if (overlapsAny(segment, readable)) throw new DriverFault('a writable descriptor over a readable one')
    if (overlapsAny(segment, rings)) throw new DriverFault('a writable descriptor over the rings')
  }
  return { head, readable, writable }
}

function readIndirect(memory: GuestMemory, table: Descriptor, add: (descriptor: Descriptor) => void): void {
  const count = table.lengthBytes / descriptorBytes
  if (!Number.isInteger(count) || count === 0 || count > longestIndirectTable) {
    throw new DriverFault('an indirect table of a wrong size')
  }
  if (!memory.contains(table.address, table.lengthBytes)) throw new DriverFault('an indirect table outside RAM')
  let index = 0
  for (let length = 1; ; length++) {
    if (index >= count) throw new DriverFault('a descriptor index outside the indirect table')
    if (length > count) throw new DriverFault('an indirect chain that loops')
    const descriptor = readDescriptor(memory, table.address, index)
    if (descriptor.flags & flags.indirect) throw new DriverFault('an indirect table inside an indirect table')
    add(descriptor)
    if (!(descriptor.flags & flags.next)) return
    index = descriptor.next
  }
}

export function overlap(a: Segment, b: Segment): boolean {
  return a.address < b.address + b.lengthBytes && b.address < a.address + a.lengthBytes
}

export function overlapsAny(segment: Segment, others: readonly Segment[]): boolean {
  return others.some((other) => overlap(segment, other))
}

export function totalBytes(segments: readonly Segment[]): number {
  return segments.reduce((sum, segment) => sum + segment.lengthBytes, 0)
}

/** The part of `segments` from byte `start`, `lengthBytes` long. The caller knows that it is there. */
export function sliceSegments(segments: readonly Segment[], start: number, lengthBytes: number): Segment[] {
  const slice: Segment[] = []
  let skip = start
  let left = lengthBytes
  for (const segment of segments) {
    if (left === 0) break
    if (skip >= segment.lengthBytes) {
      skip -= segment.lengthBytes
      continue
    }
    const taken = Math.min(segment.lengthBytes - skip, left)
    slice.push({ address: segment.address + skip, lengthBytes: taken })
    skip = 0
    left -= taken
  }
  return slice
}

/** Copies guest memory out, in order. */
export function gather(memory: GuestMemory, segments: readonly Segment[]): Uint8Array {
  const bytes = new Uint8Array(totalBytes(segments))
  let offset = 0
  for (const segment of segments) {
    bytes.set(memory.read(segment.address, segment.lengthBytes), offset)
    offset += segment.lengthBytes
  }
  return bytes
}

/** Copies `bytes` into guest memory, in order, as far as the segments reach; returns how many bytes that was. */
export function scatter(memory: GuestMemory, segments: readonly Segment[], bytes: Uint8Array): number {
  let offset = 0
  for (const segment of segments) {
    const taken = Math.min(segment.lengthBytes, bytes.length - offset)
    if (taken === 0) break
    memory.write(segment.address, bytes.subarray(offset, offset + taken))
    offset += taken
  }
  return offset
}

export function saveSegments(writer: ByteWriter, segments: readonly Segment[]): void {
  writer.u32(segments.length)
  for (const { address, lengthBytes } of segments) writer.f64(address).u32(lengthBytes)
}

export function loadSegments(reader: ByteReader): Segment[] {
  const count = reader.u32()
  const segments: Segment[] = []
  for (let index = 0; index < count; index++) segments.push({ address: reader.f64(), lengthBytes: reader.u32() })
  return segments
}
