/**
 * The requests of one disk, whatever bus its driver knows it by: what waits, what is in flight, and in which order.
 *
 * Requests that overlap, by sectors of which one is written or by guest memory that both fill, are forced into one order:
 * the later one is held here until the earlier one is answered (VMware FT, 2.3). So the disk may answer in any order, and
 * every replica ends with the same disk and memory. A write brings its data along, copied out of guest memory (bounce
 * buffer).
 *
 * A request lives in one of two states: held (not yet an output) or in flight (an output, not answered). A reset of the
 * device drops held ones; those in flight stay for ordering until the disk has answered, and their answers touch nothing: they
 * are of an earlier epoch. A flush covers the writes completed before it (virtio 1.2, 5.2.6.2), so it waits for nothing.
 *
 * Until a flush covers them, both replicas keep the writes that the disk has answered, because a crash of its server may
 * undo them. To bound that, the device sends a flush of its own when they are many, which no driver sees, and holds
 * further ones when they are too many. Decided here and not where the disk is, so that a backup knows of it by its log.
 */

import { assert } from '../../../base/assert.ts'
import type { ByteReader, ByteWriter } from '../../../base/bytes.ts'
import { sectorBytes } from '../../../base/units.ts'
import type { Outbox } from '../../outbox.ts'
import type { DiskConfig, DiskOperation, DiskStatus, Output } from '../../types.ts'
import { loadSegments, overlapsAny, type Segment, saveSegments } from './descriptor-chain.ts'

export type DiskOutput = Extract<Output, { kind: 'disk' }>

export const longestSegmentBytes = 64 * 1024
export const mostSegments = 126
/** What a driver within our limits can ask for in one request; anything larger is answered with an error. */
export const largestRequestBytes = longestSegmentBytes * mostSegments
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
const pendingRequestsLimit = 512

/** Where a request is answered in guest memory. */
export interface Place {
  /** The chain's name in the rings. */
  readonly head: number
  /** Where the data of a read goes. */
  readonly destination: readonly Segment[]
  /** Where the device says how it went. */
  readonly response: readonly Segment[]
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

/** An answer that a driver waits for. */
export interface Answered {
  readonly place: Place
  readonly operation: DiskOperation
  readonly lengthBytes: number
  readonly status: DiskStatus
}

export class DiskRequests {
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

  constructor(config: DiskConfig, disk: number, outbox: Outbox) {
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

  /** Whether another one may be taken from the ring. */
  get hasRoom(): boolean {
    return this.#requests.length < pendingRequestsLimit && this.#pendingBytes() < pendingBytesLimit
  }

  /** The driver has made this chain a request already, and has no answer yet. */
  isPending(head: number, epoch: number): boolean {
    return this.#requests.some((request) => request.head === head && request.epoch === epoch)
  }

  /** The device was reset: what is held is dropped. */
  dropHeld(): void {
    this.#requests = this.#requests.filter((request) => request.sequence !== undefined)
  }

  /** Whether so many bytes from `sector` on can be read or written in one request. */
  canMove(sector: bigint, lengthBytes: number): boolean {
    return (
      lengthBytes % sectorBytes === 0 &&
      lengthBytes <= largestRequestBytes &&
      this.isOnDisk(sector, lengthBytes / sectorBytes)
    )
  }

  isOnDisk(sector: bigint, sectors: number): boolean {
    return sector + BigInt(sectors) <= this.#config.sectors
  }

  add(
    epoch: number,
    place: Place,
    operation: DiskOperation,
    sector: bigint,
    lengthBytes: number,
    data?: Uint8Array,
  ): void {
    const request: Request = {
      ...place,
      epoch,
      operation,
      sector,
      lengthBytes,
      data,
      coveredBytes: this.#changedBytes,
      sequence: undefined,
    }
    const mustWait = this.#mustWait(request, this.#requests, epoch)
    this.#requests.push(request)
    if (!mustWait) this.#start(request)
  }

  /**
   * The disk answered. Call `goOn` when the driver has been told.
   * @param epoch of the device now
   * @returns undefined: no driver waits for it
   */
  onAnswer(sequence: bigint, status: DiskStatus, epoch: number): Answered | undefined {
    const index = this.#requests.findIndex((request) => request.sequence === sequence)
    assert(index >= 0, `no disk request ${sequence} is in flight`)
    const request = this.#requests[index]!
    this.#requests.splice(index, 1)
    const { operation, lengthBytes } = request
    const isFlush = operation === 'flush'
    if (isChange(operation) && status === 'ok') this.#changedBytes += costOf(request)
    // Also with an error: then the disk has lost them, and the driver is told. An uncertain one is asked for again.
    if (isFlush && status !== 'uncertain') this.#flushedBytes = Math.max(this.#flushedBytes, request.coveredBytes)
    if (request.epoch === ownEpoch) this.#ownFlushFailed ||= status !== 'ok' && status !== 'uncertain'
    if (request.epoch !== epoch) return undefined
    const isLateError = isFlush && status === 'ok' && this.#ownFlushFailed
    if (isFlush && status !== 'uncertain') this.#ownFlushFailed = false
    return { place: request, operation, lengthBytes, status: isLateError ? 'ioError' : status }
  }

  /** Starts what waited for the answered one. */
  goOn(epoch: number): void {
    this.#flushIfDue()
    this.#startHeld(epoch)
  }

  #pendingBytes(): number {
    return this.#requests.reduce((sum, { operation, lengthBytes }) => sum + (movesData(operation) ? lengthBytes : 0), 0)
  }

  get #unflushedBytes(): number {
    return this.#changedBytes - this.#flushedBytes
  }

  #mustWait(request: Request, earlier: readonly Request[], epoch: number): boolean {
    if (isChange(request.operation) && this.#unflushedBytes >= holdAtBytes) return true
    return earlier.some((other) => conflict(other, request, epoch))
  }

  /** A flush that no driver asked for. There is one while the limit is reached, so what is held goes on some time. */
  #flushIfDue(): void {
    if (this.#unflushedBytes < flushAtBytes || this.#requests.some(({ epoch }) => epoch === ownEpoch)) return
    const request: Request = {
      head: 0,
      destination: [],
      response: [],
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

  #startHeld(epoch: number): void {
    if (this.#requests.every((request) => request.sequence !== undefined)) return
    this.#requests.forEach((request, index) => {
      if (request.sequence !== undefined) return
      if (!this.#mustWait(request, this.#requests.slice(0, index), epoch)) this.#start(request)
    })
  }

  #start(request: Request): void {
    request.sequence = this.#outbox.emit<'disk'>(this.#describe(request)).sequence
  }

  #describe({ operation, sector, lengthBytes, data }: Request): Omit<DiskOutput, 'sequence'> {
    return { kind: 'disk', disk: this.#disk, operation, sector, lengthBytes, ...(data && { data }) }
  }

  save(writer: ByteWriter): void {
    writer.u32(this.#requests.length)
    for (const request of this.#requests) {
      writer.u16(request.head).u32(request.epoch).u8(operations.indexOf(request.operation))
      writer.u64(request.sector).u32(request.lengthBytes)
      saveSegments(writer, request.destination)
      saveSegments(writer, request.response)
      writer.bool(request.data !== undefined)
      if (request.data) writer.bytes(request.data)
      writer.f64(request.coveredBytes)
      writer.bool(request.sequence !== undefined).u64(request.sequence ?? 0n)
    }
    writer.f64(this.#changedBytes).f64(this.#flushedBytes).bool(this.#ownFlushFailed)
  }

  load(reader: ByteReader): void {
    this.#requests = []
    const count = reader.u32()
    for (let index = 0; index < count; index++) {
      const [head, epoch, operation] = [reader.u16(), reader.u32(), operations[reader.u8()]]
      assert(operation, 'a snapshot with an unknown disk operation')
      const [sector, lengthBytes, destination] = [reader.u64(), reader.u32(), loadSegments(reader)]
      const response = loadSegments(reader)
      const data = reader.bool() ? reader.bytes() : undefined
      const coveredBytes = reader.f64()
      const isInFlight = reader.bool()
      const number = reader.u64()
      const sequence = isInFlight ? number : undefined
      const place = { head, destination, response }
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
  const filled = [...earlier.destination, ...earlier.response]
  return [...later.destination, ...later.response].some((segment) => overlapsAny(segment, filled))
}
