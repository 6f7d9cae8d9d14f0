/**
 * A disk: virtio-blk (virtio 1.2, 5.2) with one queue. What becomes of a request once it is understood is `DiskRequests`'
 * business: order, bounce buffers, flushes of the device's own; when it is taken and answered, `VirtioDisk`'s.
 *
 * The data of a write is copied out of guest memory at the notify (bounce buffer).
 */

import { assert } from '../../../base/assert.ts'
import { ByteWriter } from '../../../base/bytes.ts'
import { sectorBytes } from '../../../base/units.ts'
import type { Outbox } from '../../outbox.ts'
import type { DiskConfig, DiskStatus } from '../../types.ts'
import {
  type Chain,
  DriverFault,
  gather,
  overlapsAny,
  type Segment,
  scatter,
  sliceSegments,
  totalBytes,
} from './descriptor-chain.ts'
import { VirtioDisk } from './disk-device.ts'
import { type DiskOutput, longestSegmentBytes, mostSegments, type Place } from './disk-requests.ts'
import type { VirtioParts } from './virtio-mmio.ts'

const deviceId = 2
const queueSize = 256
const headerBytes = 16
const identifierBytes = 20

const feature = {
  segmentSize: 1n << 1n,
  segmentCount: 1n << 2n,
  readOnly: 1n << 5n,
  blockSize: 1n << 6n,
  flush: 1n << 9n,
  discard: 1n << 13n,
  writeZeroes: 1n << 14n,
} as const

const requestType = { read: 0, write: 1, flush: 4, identify: 8, discard: 11, writeZeroes: 13 } as const
const answer = { ok: 0, ioError: 1, unsupported: 2 } as const

/** Sectors of one discard or write-zeroes request: 64 MiB, so that no single answer takes long. */
const largestZeroingSectors = 131_072

/** Where a request of ours is answered: the status is one byte. */
function placeOf(head: number, destination: readonly Segment[], statusAddress: number): Place {
  return { head, destination, response: [{ address: statusAddress, lengthBytes: 1 }] }
}

export class VirtioBlock extends VirtioDisk {
  constructor(parts: VirtioParts, config: DiskConfig, disk: number, outbox: Outbox) {
    const writable = feature.flush | feature.discard | feature.writeZeroes
    const features = feature.segmentSize | feature.segmentCount | feature.blockSize
    const layout = {
      deviceId,
      features: features | (config.readOnly ? feature.readOnly : writable),
      queueSizes: [queueSize],
      requestQueue: 0,
    }
    super(parts, layout, config, disk, outbox)
  }

  protected override onChain(chain: Chain): void {
    const { readable, writable } = chain
    const outBytes = totalBytes(readable) - headerBytes
    const inBytes = totalBytes(writable) - 1
    if (outBytes < 0 || inBytes < 0) throw new DriverFault('a request without header or status')
    if (this.requests.isPending(chain.head, this.epoch)) {
      throw new DriverFault('a request that is in flight already')
    }
    const header = gather(this.memory, sliceSegments(readable, 0, headerBytes))
    const view = new DataView(header.buffer)
    const type = view.getUint32(0, true)
    const sector = view.getBigUint64(8, true)
    const destination = sliceSegments(writable, 0, inBytes)
    const last = writable[writable.length - 1]!
    const statusAddress = last.address + last.lengthBytes - 1
    if (overlapsAny({ address: statusAddress, lengthBytes: 1 }, destination)) {
      throw new DriverFault('a status byte inside the data')
    }
    const place = placeOf(chain.head, destination, statusAddress)
    const refuse = (status: number) => this.#answer(place, status, 0)
    const wrongDirection = () => new DriverFault('a request with data in the wrong direction')

    switch (type) {
      case requestType.read:
        if (outBytes !== 0 || inBytes === 0) throw wrongDirection()
        if (this.requests.canMove(sector, inBytes)) this.requests.add(this.epoch, place, 'read', sector, inBytes)
        else refuse(answer.ioError)
        break
      case requestType.write:
        if (inBytes !== 0 || outBytes === 0) throw wrongDirection()
        if (!this.config.readOnly && this.requests.canMove(sector, outBytes)) {
          const data = gather(this.memory, sliceSegments(readable, headerBytes, outBytes))
          this.requests.add(this.epoch, place, 'write', sector, outBytes, data)
        } else refuse(answer.ioError)
        break
      case requestType.flush:
        if (inBytes !== 0 || outBytes !== 0) throw wrongDirection()
        if (this.config.readOnly) refuse(answer.ok)
        else this.requests.add(this.epoch, place, 'flush', 0n, 0)
        break
      case requestType.identify: {
        if (outBytes !== 0 || inBytes === 0) throw wrongDirection()
        const identifier = new Uint8Array(identifierBytes)
        new TextEncoder().encodeInto(this.config.serial, identifier)
        this.#answer(place, answer.ok, scatter(this.memory, destination, identifier))
        break
      }
      case requestType.discard:
      case requestType.writeZeroes: {
        if (inBytes !== 0 || outBytes === 0) throw wrongDirection()
        const range = outBytes === headerBytes && this.#readRange(sliceSegments(readable, headerBytes, outBytes))
        if (range && !this.config.readOnly) {
          const operation = type === requestType.discard ? 'discard' : 'writeZeroes'
          this.requests.add(this.epoch, place, operation, range.first, range.sectors * sectorBytes)
        } else refuse(answer.ioError)
        break
      }
      default:
        refuse(answer.unsupported)
    }
  }

  /** The one range of a discard or write-zeroes request: sector u64, count u32, flags u32. */
  #readRange(segments: readonly Segment[]): { first: bigint; sectors: number } | undefined {
    const view = new DataView(gather(this.memory, segments).buffer)
    const first = view.getBigUint64(0, true)
    const sectors = view.getUint32(8, true)
    const isGood = sectors > 0 && sectors <= largestZeroingSectors && this.requests.isOnDisk(first, sectors)
    return isGood ? { first, sectors } : undefined
  }

  protected override finish(place: Place, status: DiskStatus, _: DiskOutput['operation'], dataBytes: number): void {
    assert(status !== 'uncertain', 'virtio-blk has no word for an uncertain outcome')
    this.#answer(place, answer[status], dataBytes)
  }

  #answer(place: Place, status: number, dataBytes: number): void {
    this.memory.writeU8(place.response[0]!.address, status)
    this.queues[0]!.complete(place.head, dataBytes + 1)
  }

  /** 5.2.4: the fields our features name, and zeros. */
  protected override configuration(): Uint8Array {
    const writer = new ByteWriter(64)
    writer.u64(this.config.sectors).u32(longestSegmentBytes).u32(mostSegments)
    writer.u32(0) // geometry
    writer.u32(sectorBytes)
    writer.u64(0n) // topology
    writer.u8(1).u8(0).u16(1) // write-back cache, unused, one queue
    writer.u32(largestZeroingSectors).u32(1).u32(1) // discard: sectors, segments, alignment
    writer.u32(largestZeroingSectors).u32(1).u8(1) // write zeroes: sectors, segments, may unmap
    return writer.finish()
  }
}
