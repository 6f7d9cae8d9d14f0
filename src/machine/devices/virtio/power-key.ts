/**
 * The power button: a virtio-input device (virtio 1.2, 5.8) with the one key KEY_POWER.
 *
 * An operator's "shut down cleanly" becomes a key press that the guest may act on (systemd-logind does, once Debian's
 * module virtio_input is loaded). A guest without a driver for it does not notice; events that find no buffer are lost.
 */

import { type ByteReader, ByteWriter } from '../../../base/bytes.ts'
import { DriverFault, scatter, totalBytes } from './descriptor-chain.ts'
import { VirtioDevice, type VirtioParts } from './virtio-mmio.ts'

const deviceId = 18
const eventQueue = 0
const statusQueue = 1
const queueSize = 64
const eventBytes = 8

/** What the driver may ask for in configuration space (5.8.2). */
const select = { name: 1, identity: 3, eventBits: 0x11 } as const

/** Numbers of Linux's input layer (include/uapi/linux/input-event-codes.h). */
const eventType = { synchronize: 0, key: 1 } as const
const keyPower = 116
const virtualBus = 6

const press = [
  [eventType.key, keyPower, 1],
  [eventType.synchronize, 0, 0],
  [eventType.key, keyPower, 0],
  [eventType.synchronize, 0, 0],
] as const

export class VirtioPowerKey extends VirtioDevice {
  #select = 0
  #subselect = 0

  constructor(parts: VirtioParts) {
    super(parts, deviceId, 0n, [queueSize, queueSize])
  }

  /** The button is pressed and let go. */
  press(): void {
    if (!this.isLive) return
    this.guard(() => {
      for (const [type, code, value] of press) this.#send(type, code, value)
    })
    this.signalUsed(this.queues[eventQueue]!)
  }

  #send(type: number, code: number, value: number): void {
    const queue = this.queues[eventQueue]!
    const chain = queue.take()
    if (!chain) return
    if (chain.readable.length > 0 || totalBytes(chain.writable) < eventBytes) {
      throw new DriverFault('an event buffer of a wrong shape')
    }
    const event = new ByteWriter(eventBytes).u16(type).u16(code).u32(value).finish()
    queue.complete(chain.head, scatter(this.memory, chain.writable, event))
  }

  /** New event buffers need no action; status events (there are no lights) are given back unread. */
  protected override onNotify(index: number): void {
    if (index !== statusQueue) return
    const queue = this.queues[statusQueue]!
    for (let chain = queue.take(); chain; chain = queue.take()) queue.complete(chain.head, 0)
    queue.wantNotify()
    this.signalUsed(queue)
  }

  protected override onReset(): void {
    this.#select = 0
    this.#subselect = 0
  }

  protected override onConfigurationStore(offset: number, byte: number): void {
    if (offset === 0) this.#select = byte
    if (offset === 1) this.#subselect = byte
  }

  /** select u8, subsel u8, size u8, five reserved, then `size` bytes of answer. */
  protected override configuration(): Uint8Array {
    const answer = this.#answer()
    const writer = new ByteWriter(8 + answer.length)
    writer.u8(this.#select).u8(this.#subselect).u8(answer.length).raw(new Uint8Array(5)).raw(answer)
    return writer.finish()
  }

  #answer(): Uint8Array {
    switch (this.#select) {
      case select.name:
        return new TextEncoder().encode('Understudy power button')
      case select.identity:
        return new ByteWriter(8).u16(virtualBus).u16(0).u16(0).u16(1).finish()
      case select.eventBits: {
        if (this.#subselect !== eventType.key) return new Uint8Array(0)
        const bits = new Uint8Array((keyPower >> 3) + 1)
        bits[keyPower >> 3] = 1 << (keyPower & 7)
        return bits
      }
      default:
        return new Uint8Array(0)
    }
  }

  protected override saveDevice(writer: ByteWriter): void {
    writer.u8(this.#select).u8(this.#subselect)
  }

  protected override loadDevice(reader: ByteReader): void {
    this.#select = reader.u8()
    this.#subselect = reader.u8()
  }
}
