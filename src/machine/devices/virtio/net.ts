/**
 * A network card: virtio-net (virtio 1.2, 5.1) with one receive and one transmit queue, no offloads.
 *
 * A transmit completes at its notify: each chain becomes a `frame` output. A received frame goes into guest memory when
 * its input is applied; if the driver has no buffer there, it waits here, in machine state, until the notify that brings
 * buffers. At most 256 frames wait; the next one is dropped (tail drop), on every replica at the same position.
 */

import { type ByteReader, ByteWriter } from '../../../base/bytes.ts'
import type { Outbox } from '../../outbox.ts'
import { type Chain, DriverFault, gather, scatter, sliceSegments, totalBytes } from './descriptor-chain.ts'
import { VirtioDevice, type VirtioParts } from './virtio-mmio.ts'

const deviceId = 1
const queueSize = 256
const receiveQueue = 0
const transmitQueue = 1

const feature = { mac: 1n << 5n, status: 1n << 16n } as const
const linkUp = 1

/** 5.1.6: with VIRTIO_F_VERSION_1 the header always has `num_buffers`. */
const headerBytes = 12
const smallestFrameBytes = 14
/** More than any Ethernet frame without offloads. */
const largestFrameBytes = 65_535
const mostWaitingFrames = 256

export class VirtioNet extends VirtioDevice {
  readonly #mac: Uint8Array
  readonly #outbox: Outbox
  /** Received frames without a buffer yet. Empty unless the device is live. */
  #waiting: Uint8Array[] = []

  constructor(parts: VirtioParts, mac: Uint8Array, outbox: Outbox) {
    super(parts, deviceId, feature.mac | feature.status, [queueSize, queueSize])
    this.#mac = mac
    this.#outbox = outbox
  }

  get waitingFrames(): number {
    return this.#waiting.length
  }

  /** So many frames more are taken before one is dropped. Without bound where none would be kept: no driver runs the card. */
  get room(): number {
    const takesFrames = this.isLive && this.queues[receiveQueue]!.isReady
    return takesFrames ? mostWaitingFrames - this.#waiting.length : Number.POSITIVE_INFINITY
  }

  /** A frame from the network. A card that no driver runs drops it. */
  receive(frame: Uint8Array): void {
    if (!this.isLive || !this.queues[receiveQueue]!.isReady) return
    if (frame.length < smallestFrameBytes || frame.length > largestFrameBytes) return
    if (this.#waiting.length >= mostWaitingFrames) return
    this.#waiting.push(frame.slice())
    this.guard(() => this.#deliver())
  }

  protected override onNotify(index: number): void {
    if (index === receiveQueue) this.#deliver()
    if (index === transmitQueue) this.#transmit()
  }

  protected override onReset(): void {
    this.#waiting = []
  }

  #deliver(): void {
    const queue = this.queues[receiveQueue]!
    let delivered = 0
    for (const frame of this.#waiting) {
      const chain = queue.peek()
      if (!chain) {
        queue.wantNotify()
        break
      }
      if (chain.readable.length > 0) throw new DriverFault('a receive buffer in the wrong direction')
      if (totalBytes(chain.writable) < headerBytes + smallestFrameBytes) throw new DriverFault('a tiny receive buffer')
      delivered += 1
      // A frame that is too long for the buffer is lost; the buffer stays for the next one.
      if (totalBytes(chain.writable) < headerBytes + frame.length) continue
      queue.take()
      this.#fill(chain, frame)
    }
    this.#waiting.splice(0, delivered)
    this.signalUsed(queue)
  }

  #fill(chain: Chain, frame: Uint8Array): void {
    const packet = new Uint8Array(headerBytes + frame.length)
    packet[10] = 1 // num_buffers
    packet.set(frame, headerBytes)
    this.queues[receiveQueue]!.complete(chain.head, scatter(this.memory, chain.writable, packet))
  }

  #transmit(): void {
    const queue = this.queues[transmitQueue]!
    for (let chain = queue.take(); chain; chain = queue.take()) {
      if (chain.writable.length > 0) throw new DriverFault('a transmit buffer in the wrong direction')
      const frameBytes = totalBytes(chain.readable) - headerBytes
      if (frameBytes >= smallestFrameBytes && frameBytes <= largestFrameBytes) {
        const bytes = gather(this.memory, sliceSegments(chain.readable, headerBytes, frameBytes))
        this.#outbox.emit<'frame'>({ kind: 'frame', bytes })
      }
      queue.complete(chain.head, 0)
    }
    queue.wantNotify()
    this.signalUsed(queue)
  }

  /** 5.1.4: mac, status. */
  protected override configuration(): Uint8Array {
    return new ByteWriter(8).raw(this.#mac).u16(linkUp).finish()
  }

  protected override saveDevice(writer: ByteWriter): void {
    writer.u32(this.#waiting.length)
    for (const frame of this.#waiting) writer.bytes(frame)
  }

  protected override loadDevice(reader: ByteReader): void {
    this.#waiting = []
    const count = reader.u32()
    for (let index = 0; index < count; index++) this.#waiting.push(reader.bytes())
  }
}
