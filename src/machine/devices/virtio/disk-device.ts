/**
 * What every disk of ours is, whatever its driver speaks: a queue of requests that are taken as far as there is room for
 * them, handed to `DiskRequests`, and answered when the disk's answer is applied.
 *
 * The data of a read enters guest memory only then (bounce buffer; VMware FT, 2.3; invariant 4). What a chain means, and
 * how an answer looks, is the device's own: `onChain`, `finish`.
 */

import { assert } from '../../../base/assert.ts'
import type { ByteReader, ByteWriter } from '../../../base/bytes.ts'
import type { Outbox } from '../../outbox.ts'
import type { DiskConfig, DiskStatus } from '../../types.ts'
import { type Chain, scatter } from './descriptor-chain.ts'
import { type DiskOutput, DiskRequests, type Place } from './disk-requests.ts'
import { VirtioDevice, type VirtioParts } from './virtio-mmio.ts'

/** How the driver's side is laid out. */
export interface DiskDeviceLayout {
  readonly deviceId: number
  readonly features: bigint
  readonly queueSizes: readonly number[]
  /** The queue of requests. */
  readonly requestQueue: number
}

export abstract class VirtioDisk extends VirtioDevice {
  protected readonly config: DiskConfig
  protected readonly requests: DiskRequests
  readonly #requestQueue: number

  constructor(parts: VirtioParts, layout: DiskDeviceLayout, config: DiskConfig, disk: number, outbox: Outbox) {
    super(parts, layout.deviceId, layout.features, layout.queueSizes)
    this.config = config
    this.requests = new DiskRequests(config, disk, outbox)
    this.#requestQueue = layout.requestQueue
  }

  /** Understands a request, and adds it to `requests` or finishes it. */
  protected abstract onChain(chain: Chain): void
  /** Tells the driver how the disk answered. @param dataBytes that are in guest memory for it */
  protected abstract finish(
    place: Place,
    status: DiskStatus,
    operation: DiskOutput['operation'],
    dataBytes: number,
  ): void

  /** Requests the disk has not answered, in order. */
  inFlight(): DiskOutput[] {
    return this.requests.inFlight()
  }

  /** True when the answer `sequence` is for this disk. */
  expects(sequence: bigint): boolean {
    return this.requests.expects(sequence)
  }

  /** The disk answered, or nobody knows whether it would have. */
  onAnswer(sequence: bigint, status: DiskStatus, data: Uint8Array | undefined): void {
    const answered = this.requests.onAnswer(sequence, status, this.epoch)
    if (answered) {
      const { place, operation, lengthBytes } = answered
      const isRead = operation === 'read' && status === 'ok'
      assert(!isRead || data?.length === lengthBytes, `the data of disk request ${sequence} has a wrong length`)
      if (isRead) scatter(this.memory, place.destination, data!)
      this.finish(place, answered.status, operation, isRead ? lengthBytes : 0)
    }
    this.requests.goOn(this.epoch)
    if (this.isLive) this.guard(() => this.#takeRequests())
    this.signalUsed(this.queues[this.#requestQueue]!)
  }

  protected override onNotify(index: number): void {
    if (index !== this.#requestQueue) return
    this.#takeRequests()
    this.signalUsed(this.queues[index]!)
  }

  protected override onReset(): void {
    this.requests.dropHeld()
  }

  protected override saveDevice(writer: ByteWriter): void {
    this.requests.save(writer)
  }

  protected override loadDevice(reader: ByteReader): void {
    this.requests.load(reader)
  }

  #takeRequests(): void {
    const queue = this.queues[this.#requestQueue]!
    while (this.requests.hasRoom) {
      const chain = queue.take()
      if (!chain) break
      this.onChain(chain)
    }
    queue.wantNotify()
  }
}
