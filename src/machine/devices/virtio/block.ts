/**
 * A disk: virtio-blk (virtio 1.2, 5.2) with one queue.
 *
 * The data of a write is copied out of guest memory at the notify (bounce buffer); the data of a read enters guest
 * memory when the disk's answer is applied (VMware FT, 2.3; invariant 4). Requests that overlap, by sectors of which one
 * is written or by guest memory that both fill, are forced into one order: the later one is held here until the earlier
 * one is answered. So the disk may answer in any order, and every replica ends with the same disk and memory.
 *
 * A request lives in one of two states: held (not yet an output) or in flight (an output, not answered). A reset drops
 * held ones; those in flight stay for ordering until the disk has answered, and their answers touch nothing: they are
 * of an earlier epoch. A flush covers the writes completed before it (5.2.6.2), so it waits for nothing.
 *
 * Until a flush covers them, both replicas keep the writes that the disk has answered, because a crash of its server may
 * undo them. To bound that, the device sends a flush of its own when they are many, which no driver sees, and holds
 * further ones when they are too many. Decided here and not where the disk is, so that a backup knows of it by its log.
 */

import { assert } from '../../../base/assert.ts'
import { type ByteReader, ByteWriter } from '../../../base/bytes.ts'
import { sectorBytes } from '../../../base/units.ts'
import type { Outbox } from '../../outbox.ts'
import type { DiskConfig, DiskOperation, DiskStatus, Output } from '../../types.ts'
import {
  type Chain,
  DriverFault,
  gather,
  loadSegments,
  overlapsAny,
  type Segment,
  saveSegments,
  scatter,
  sliceSegments,
  totalBytes,
} from './descriptor-chain.ts'
import { VirtioDevice, type VirtioParts } from './virtio-mmio.ts'

type DiskOutput = Extract<Output, { kind: 'disk' }>

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

const longestSegmentBytes = 64 * 1024
const mostSegments = 126
/** What a driver within our limits can ask for in one request; anything larger is answered with an I/O error. */
const largestRequestBytes = longestSegmentBytes * mostSegments
/** Sectors of one discard or write-zeroes request: 64 MiB, so that no single answer takes long. */
const largestZeroingSectors = 131_072
/** Requests are taken from the ring while fewer bytes than this are pending: bounds what bounce buffers hold. */
const pendingBytesLimit = 32 * 1024 * 1024
/** So much written and not flushed (with `changeBytes` for each request): the device flushes by itself … */
const flushAtBytes = 32 * 1024 * 1024
/** … and takes no further write before the disk has answered that. */
const holdAtBytes = 2 * flushAtBytes
/** What a change of the disk counts beside its data: bounds how many small ones there are. */
const changeBytes = 512
/** The epoch of a request that no driver made: its answer is for the device alone. */
const ownEpoch = 0xffff_ffff
/** Likewise a limit on their number: a driver that resets in a loop leaves requests in flight each time. */
const pendingRequestsLimit = 2 * queueSize

/** Where a request is answered in guest memory. */
interface Place {
  readonly head: number
  /** Where the data of a read goes. */
  readonly destination: readonly Segment[]
  /** Address of the status byte. */
  readonly statusAddress: number
}

interface Request extends Place {
  readonly epoch: number
  readonly operation: DiskOperation
  readonly sector: bigint
  readonly lengthBytes: number
  /** Bounce buffer of a write. */
  readonly data: Uint8Array | undefined
  /** Of a flush: `#changedBytes` when it went out, so what it covers. */
  readonly coveredBytes: number
  /** The output's number once it is in flight; `undefined` while it is held. */
  sequence: bigint | undefined
}

export class VirtioBlock extends VirtioDevice {
  readonly #config: DiskConfig
  readonly #disk: number
  readonly #outbox: Outbox
  /** In the order the driver made them; held and in flight. */
  #requests: Request[] = []
  /** Bytes of the changes that the disk has answered, since the machine was created … */
  #changedBytes = 0
  /** … and those of them that a flush has covered. */
  #flushedBytes = 0
  /** A flush of our own failed, which the driver must hear: its next one fails. */
  #ownFlushFailed = false

  constructor(parts: VirtioParts, config: DiskConfig, disk: number, outbox: Outbox) {
    const writable = feature.flush | feature.discard | feature.writeZeroes
    const features = feature.segmentSize | feature.segmentCount | feature.blockSize
    super(parts, deviceId, features | (config.readOnly ? feature.readOnly : writable), [queueSize])
    this.#config = config
    this.#disk = disk
    this.#outbox = outbox
  }

  /** Requests the disk has not answered, in order. */
  inFlight(): DiskOutput[] {
    return this.#requests
      .filter((request) => request.sequence !== undefined)
      .map((request) => ({ ...this.#describe(request), sequence: request.sequence! }))
  }

  /** True when the answer `sequence` is for this disk. */
  expects(sequence: bigint): boolean {
    return this.#requests.some((request) => request.sequence === sequence)
  }

  /** The disk answered. */
  onAnswer(sequence: bigint, status: DiskStatus, data: Uint8Array | undefined): void {
    const index = this.#requests.findIndex((request) => request.sequence === sequence)
    assert(index >= 0, `no disk request ${sequence} is in flight`)
    assert(status !== 'uncertain', 'virtio-blk has no word for an uncertain outcome')
    const request = this.#requests[index]!
    this.#requests.splice(index, 1)
    const isFlush = request.operation === 'flush'
    if (isChange(request.operation) && status === 'ok') this.#changedBytes += costOf(request)
    // Also with an error: then the disk has lost them, and the driver is told.
    if (isFlush) this.#flushedBytes = Math.max(this.#flushedBytes, request.coveredBytes)
    if (request.epoch === ownEpoch) this.#ownFlushFailed ||= status !== 'ok'
    if (request.epoch === this.epoch) {
      const isRead = request.operation === 'read' && status === 'ok'
      assert(!isRead || data?.length === request.lengthBytes, `the data of disk request ${sequence} has a wrong length`)
      if (isRead) scatter(this.memory, request.destination, data!)
      const isLateError = isFlush && status === 'ok' && this.#ownFlushFailed
      if (isFlush) this.#ownFlushFailed = false
      this.#finish(request, answer[isLateError ? 'ioError' : status], isRead ? request.lengthBytes : 0)
    }
    this.#flushIfDue()
    this.#startHeld()
    if (this.isLive) this.guard(() => this.#takeRequests())
    this.signalUsed(this.queues[0]!)
  }

  protected override onNotify(): void {
    this.#takeRequests()
    this.signalUsed(this.queues[0]!)
  }

  protected override onReset(): void {
    this.#requests = this.#requests.filter((request) => request.sequence !== undefined)
  }

  #pendingBytes(): number {
    return this.#requests.reduce((sum, { operation, lengthBytes }) => sum + (movesData(operation) ? lengthBytes : 0), 0)
  }

  #takeRequests(): void {
    const queue = this.queues[0]!
    while (this.#requests.length < pendingRequestsLimit && this.#pendingBytes() < pendingBytesLimit) {
      const chain = queue.take()
      if (!chain) break
      this.#onChain(chain)
    }
    queue.wantNotify()
  }

  #onChain(chain: Chain): void {
    const { readable, writable } = chain
    const outBytes = totalBytes(readable) - headerBytes
    const inBytes = totalBytes(writable) - 1
    if (outBytes < 0 || inBytes < 0) throw new DriverFault('a request without header or status')
    if (this.#requests.some(({ head, epoch }) => head === chain.head && epoch === this.epoch)) {
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
    const place = { head: chain.head, destination, statusAddress }
    const refuse = (status: number) => this.#finish(place, status, 0)
    const wrongDirection = () => new DriverFault('a request with data in the wrong direction')

    switch (type) {
      case requestType.read:
        if (outBytes !== 0 || inBytes === 0) throw wrongDirection()
        if (this.#canMove(sector, inBytes)) this.#add(place, 'read', sector, inBytes, undefined)
        else refuse(answer.ioError)
        break
      case requestType.write:
        if (inBytes !== 0 || outBytes === 0) throw wrongDirection()
        if (!this.#config.readOnly && this.#canMove(sector, outBytes)) {
          const data = gather(this.memory, sliceSegments(readable, headerBytes, outBytes))
          this.#add(place, 'write', sector, outBytes, data)
        } else refuse(answer.ioError)
        break
      case requestType.flush:
        if (inBytes !== 0 || outBytes !== 0) throw wrongDirection()
        if (this.#config.readOnly) refuse(answer.ok)
        else this.#add(place, 'flush', 0n, 0, undefined)
        break
      case requestType.identify: {
        if (outBytes !== 0 || inBytes === 0) throw wrongDirection()
        const identifier = new Uint8Array(identifierBytes)
        new TextEncoder().encodeInto(this.#config.serial, identifier)
        this.#finish(place, answer.ok, scatter(this.memory, destination, identifier))
        break
      }
      case requestType.discard:
      case requestType.writeZeroes: {
        if (inBytes !== 0 || outBytes === 0) throw wrongDirection()
        const range = outBytes === headerBytes && this.#readRange(sliceSegments(readable, headerBytes, outBytes))
        if (range && !this.#config.readOnly) {
          const operation = type === requestType.discard ? 'discard' : 'writeZeroes'
          this.#add(place, operation, range.first, range.sectors * sectorBytes, undefined)
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
    const isGood = sectors > 0 && sectors <= largestZeroingSectors && this.#isOnDisk(first, sectors)
    return isGood ? { first, sectors } : undefined
  }

  #canMove(sector: bigint, lengthBytes: number): boolean {
    return (
      lengthBytes % sectorBytes === 0 &&
      lengthBytes <= largestRequestBytes &&
      this.#isOnDisk(sector, lengthBytes / sectorBytes)
    )
  }

  #isOnDisk(sector: bigint, sectors: number): boolean {
    return sector + BigInt(sectors) <= this.#config.sectors
  }

  #finish(place: Place, status: number, dataBytes: number): void {
    this.memory.writeU8(place.statusAddress, status)
    this.queues[0]!.complete(place.head, dataBytes + 1)
  }

  #add(
    place: Place,
    operation: DiskOperation,
    sector: bigint,
    lengthBytes: number,
    data: Uint8Array | undefined,
  ): void {
    const request: Request = {
      ...place,
      epoch: this.epoch,
      operation,
      sector,
      lengthBytes,
      data,
      coveredBytes: this.#changedBytes,
      sequence: undefined,
    }
    const mustWait = this.#mustWait(request, this.#requests)
    this.#requests.push(request)
    if (!mustWait) this.#start(request)
  }

  get #unflushedBytes(): number {
    return this.#changedBytes - this.#flushedBytes
  }

  #mustWait(request: Request, earlier: readonly Request[]): boolean {
    if (isChange(request.operation) && this.#unflushedBytes >= holdAtBytes) return true
    return earlier.some((other) => conflict(other, request, this.epoch))
  }

  /** A flush that no driver asked for. There is one while the limit is reached, so what is held goes on some time. */
  #flushIfDue(): void {
    if (this.#unflushedBytes < flushAtBytes || this.#requests.some(({ epoch }) => epoch === ownEpoch)) return
    const request: Request = {
      head: 0,
      destination: [],
      statusAddress: 0,
      epoch: ownEpoch,
      operation: 'flush',
      sector: 0n,
      lengthBytes: 0,
      data: undefined,
      coveredBytes: this.#changedBytes,
      sequence: undefined,
    }
    this.#requests.push(request)
    this.#start(request)
  }

  #startHeld(): void {
    if (this.#requests.every((request) => request.sequence !== undefined)) return
    this.#requests.forEach((request, index) => {
      if (request.sequence !== undefined) return
      if (!this.#mustWait(request, this.#requests.slice(0, index))) this.#start(request)
    })
  }

  #start(request: Request): void {
    request.sequence = this.#outbox.emit<'disk'>(this.#describe(request)).sequence
  }

  #describe({ operation, sector, lengthBytes, data }: Request): Omit<DiskOutput, 'sequence'> {
    return { kind: 'disk', disk: this.#disk, operation, sector, lengthBytes, ...(data && { data }) }
  }

  /** 5.2.4: the fields our features name, and zeros. */
  protected override configuration(): Uint8Array {
    const writer = new ByteWriter(64)
    writer.u64(this.#config.sectors).u32(longestSegmentBytes).u32(mostSegments)
    writer.u32(0) // geometry
    writer.u32(sectorBytes)
    writer.u64(0n) // topology
    writer.u8(1).u8(0).u16(1) // write-back cache, unused, one queue
    writer.u32(largestZeroingSectors).u32(1).u32(1) // discard: sectors, segments, alignment
    writer.u32(largestZeroingSectors).u32(1).u8(1) // write zeroes: sectors, segments, may unmap
    return writer.finish()
  }

  protected override saveDevice(writer: ByteWriter): void {
    writer.u32(this.#requests.length)
    for (const request of this.#requests) {
      writer.u16(request.head).u32(request.epoch).u8(operations.indexOf(request.operation))
      writer.u64(request.sector).u32(request.lengthBytes)
      saveSegments(writer, request.destination)
      writer.f64(request.statusAddress).bool(request.data !== undefined)
      if (request.data) writer.bytes(request.data)
      writer.f64(request.coveredBytes)
      writer.bool(request.sequence !== undefined).u64(request.sequence ?? 0n)
    }
    writer.f64(this.#changedBytes).f64(this.#flushedBytes).bool(this.#ownFlushFailed)
  }

  protected override loadDevice(reader: ByteReader): void {
    this.#requests = []
    const count = reader.u32()
    for (let index = 0; index < count; index++) {
      const [head, epoch, operation] = [reader.u16(), reader.u32(), operations[reader.u8()]]
      assert(operation, 'a snapshot with an unknown disk operation')
      const [sector, lengthBytes, destination] = [reader.u64(), reader.u32(), loadSegments(reader)]
      const statusAddress = reader.f64()
      const data = reader.bool() ? reader.bytes() : undefined
      const coveredBytes = reader.f64()
      const isInFlight = reader.bool()
      const number = reader.u64()
      const sequence = isInFlight ? number : undefined
      const place = { head, destination, statusAddress }
      this.#requests.push({ ...place, epoch, operation, sector, lengthBytes, data, coveredBytes, sequence })
    }
    this.#changedBytes = reader.f64()
    this.#flushedBytes = reader.f64()
    this.#ownFlushFailed = reader.bool()
  }
}

/** Position in this list is the operation's number in snapshots. */
const operations: readonly DiskOperation[] = ['read', 'write', 'flush', 'discard', 'writeZeroes']

function movesData(operation: DiskOperation): boolean {
  return operation === 'read' || operation === 'write'
}

function isChange(operation: DiskOperation): boolean {
  return operation === 'write' || operation === 'discard' || operation === 'writeZeroes'
}

function costOf({ data }: Request): number {
  return changeBytes + (data?.length ?? 0)
}

/** Whether `later` must wait for `earlier`: one writes sectors of the other, or both fill the same guest memory. */
function conflict(earlier: Request, later: Request, epoch: number): boolean {
  if (earlier.operation !== 'flush' && later.operation !== 'flush') {
    const touch =
      earlier.sector < later.sector + BigInt(later.lengthBytes / sectorBytes) &&
      later.sector < earlier.sector + BigInt(earlier.lengthBytes / sectorBytes)
    if (touch && (earlier.operation !== 'read' || later.operation !== 'read')) return true
  }
  // An answer from an earlier epoch touches no memory.
  if (earlier.epoch !== epoch) return false
  const filled = [...earlier.destination, { address: earlier.statusAddress, lengthBytes: 1 }]
  return (
    overlapsAny({ address: later.statusAddress, lengthBytes: 1 }, filled) ||
    later.destination.some((segment) => overlapsAny(segment, filled))
  )
}
