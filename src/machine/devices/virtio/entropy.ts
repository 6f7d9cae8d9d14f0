/**
 * The entropy device: virtio-rng (virtio 1.2, 5.4). A buffer the driver posts becomes an `entropyRequest`; the `entropy`
 * input that answers it fills the buffer.
 *
 * A reset drops the buffers, yet their requests are still answered: an answer to an earlier epoch touches nothing.
 */

import { assert } from '../../../base/assert.ts'
import type { ByteReader, ByteWriter } from '../../../base/bytes.ts'
import type { EntropyDesk } from '../../entropy-desk.ts'
import {
  DriverFault,
  loadSegments,
  type Segment,
  saveSegments,
  scatter,
  sliceSegments,
  totalBytes,
} from './descriptor-chain.ts'
import { VirtioDevice, type VirtioParts } from './virtio-mmio.ts'

const deviceId = 4
const queueSize = 8
/** A longer buffer is filled only this far: the log carries every byte. */
const longestAnswerBytes = 256
/** A driver that posts buffers and resets in a loop may leave this many answers open; more buffers have to wait. */
const mostOpenRequests = 64

interface Request {
  readonly head: number
  readonly epoch: number
  readonly destination: readonly Segment[]
}

export class VirtioEntropy extends VirtioDevice {
  readonly #desk: EntropyDesk
  #requests: Request[] = []

  constructor(parts: VirtioParts, desk: EntropyDesk) {
    super(parts, deviceId, 0n, [queueSize])
    this.#desk = desk
  }

  protected override onNotify(): void {
    this.#takeBuffers()
  }

  #takeBuffers(): void {
    const queue = this.queues[0]!
    while (this.#requests.length < mostOpenRequests) {
      const chain = queue.take()
      if (!chain) break
      if (chain.readable.length > 0) throw new DriverFault('an entropy buffer in the wrong direction')
      if (this.#requests.some(({ head, epoch }) => head === chain.head && epoch === this.epoch)) {
        throw new DriverFault('an entropy buffer that is in flight already')
      }
      const lengthBytes = Math.min(totalBytes(chain.writable), longestAnswerBytes)
      const destination = sliceSegments(chain.writable, 0, lengthBytes)
      this.#requests.push({ head: chain.head, epoch: this.epoch, destination })
      this.#desk.request('device', lengthBytes)
    }
    queue.wantNotify()
  }

  /** The answer to the oldest request. */
  onEntropy(bytes: Uint8Array): void {
    const request = this.#requests.shift()
    assert(request, 'the entropy device asked for nothing')
    const queue = this.queues[0]!
    if (request.epoch === this.epoch) {
      queue.complete(request.head, scatter(this.memory, request.destination, bytes))
    }
    if (this.isLive) this.guard(() => this.#takeBuffers())
    this.signalUsed(queue)
  }

  /** Requests stay: their answers are still to come, and are counted off. */
  protected override onReset(): void {}

  protected override configuration(): Uint8Array {
    return new Uint8Array(0)
  }

  protected override saveDevice(writer: ByteWriter): void {
    writer.u32(this.#requests.length)
    for (const { head, epoch, destination } of this.#requests) {
      writer.u16(head).u32(epoch)
      saveSegments(writer, destination)
    }
  }

  protected override loadDevice(reader: ByteReader): void {
    this.#requests = []
    const count = reader.u32()
    for (let index = 0; index < count; index++) {
      this.#requests.push({ head: reader.u16(), epoch: reader.u32(), destination: loadSegments(reader) })
    }
  }
}
