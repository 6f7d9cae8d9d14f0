/**
 * The virtio transport over MMIO, version 2 (virtio 1.2, 4.2.2): the registers, device status, feature negotiation,
 * queue set-up, interrupts, and what happens when the driver breaks a rule. A device is a subclass that says what its
 * queues and its configuration space mean.
 *
 * A broken driver rule (`DriverFault`) inside a notify, a queue set-up or an applied input sets DEVICE_NEEDS_RESET and
 * raises a configuration interrupt (2.1.2); from then on the device is dead until the driver resets it, and what was
 * pending is dropped as by a reset. `epoch` counts resets, so that an answer to a request from before one is recognized.
 */

import type { ByteReader, ByteWriter } from '../../../base/bytes.ts'
import type { AccessSize } from '../../../engine/types.ts'
import type { GuestMemory } from '../../guest-memory.ts'
import type { InterruptLine, MmioDevice } from '../device.ts'
import { DriverFault } from './descriptor-chain.ts'
import { Virtqueue } from './virtqueue.ts'

const status = { driverOk: 4, featuresOk: 8, needsReset: 64 } as const
const interruptCause = { usedBuffer: 1, configuration: 2 } as const

export const feature = {
  indirectDescriptors: 1n << 28n,
  eventIndex: 1n << 29n,
  version1: 1n << 32n,
} as const

const magic = 0x7472_6976
const transportVersion = 2
/** "USTD": an identification for people, no driver depends on it. */
const vendor = 0x4454_5355
const configurationBase = 0x100

export interface VirtioParts {
  readonly memory: GuestMemory
  readonly line: InterruptLine
}

export abstract class VirtioDevice implements MmioDevice {
  protected readonly memory: GuestMemory
  protected readonly queues: readonly Virtqueue[]
  readonly #deviceId: number
  readonly #offered: bigint
  readonly #line: InterruptLine
  #status = 0
  #accepted = 0n
  #offeredSelect = 0
  #acceptedSelect = 0
  #queueSelect = 0
  #interrupts = 0
  #configurationGeneration = 0
  #epoch = 0

  /**
   * @param deviceId virtio 1.2, chapter 5
   * @param features the device's own; the transport adds its own three
   */
  constructor(parts: VirtioParts, deviceId: number, features: bigint, queueSizes: readonly number[]) {
    this.memory = parts.memory
    this.#line = parts.line
    this.#deviceId = deviceId
    this.#offered = features | feature.version1 | feature.eventIndex | feature.indirectDescriptors
    this.queues = queueSizes.map((size) => new Virtqueue(parts.memory, size))
  }

  /** The driver notified queue `index`, which is ready. */
  protected abstract onNotify(index: number): void
  /** Drop what is pending: the driver reset the device, or broke it. */
  protected abstract onReset(): void
  /** The configuration space as it is now. */
  protected abstract configuration(): Uint8Array
  /** A byte of configuration space is written; most devices have nothing writable there. */
  protected onConfigurationStore(_offset: number, _byte: number): void {}
  protected abstract saveDevice(writer: ByteWriter): void
  protected abstract loadDevice(reader: ByteReader): void

  /** Counts resets of this device since power-on. */
  protected get epoch(): number {
    return this.#epoch
  }

  protected accepted(bit: bigint): boolean {
    return (this.#accepted & bit) !== 0n
  }

  /** The driver is in charge, and has not broken a rule since. */
  get isLive(): boolean {
    return (
      (this.#status & (status.driverOk | status.featuresOk | status.needsReset)) ===
      (status.driverOk | status.featuresOk)
    )
  }

  get needsReset(): boolean {
    return (this.#status & status.needsReset) !== 0
  }

  /** Runs device work that reads what the driver wrote; a broken rule makes the device want a reset. */
  protected guard(work: () => void): void {
    try {
      work()
    } catch (error) {
      if (!(error instanceof DriverFault)) throw error
      this.#fail()
    }
  }

  #fail(): void {
    this.#status |= status.needsReset
    this.#epoch += 1
    this.onReset()
    if (this.#status & status.driverOk) this.#raise(interruptCause.configuration)
  }

  /** After completions: an interrupt, unless the driver suppressed it. */
  protected signalUsed(queue: Virtqueue): void {
    if (queue.takeInterruptDue()) this.#raise(interruptCause.usedBuffer)
  }

  #raise(cause: number): void {
    this.#interrupts |= cause
    this.#line(true)
  }

  load(offset: number, size: AccessSize): bigint | undefined {
    if (offset >= configurationBase) return this.#loadConfiguration(offset - configurationBase, size)
    if (size !== 4 || offset % 4 !== 0) return 0n
    return BigInt(this.#loadRegister(offset) >>> 0)
  }

  #loadRegister(offset: number): number {
    const queue = this.queues[this.#queueSelect]
    switch (offset) {
      case 0x000:
        return magic
      case 0x004:
        return transportVersion
      case 0x008:
        return this.#deviceId
      case 0x00c:
        return vendor
      case 0x010:
        return this.#offeredSelect > 1 ? 0 : Number((this.#offered >> BigInt(this.#offeredSelect * 32)) & 0xffff_ffffn)
      case 0x034:
        return queue?.maximumSize ?? 0
      case 0x044:
        return queue?.isReady ? 1 : 0
      case 0x060:
        return this.#interrupts
      case 0x070:
        return this.#status
      // No shared memory regions: length and base read as all ones (4.2.2).
      case 0x0b0:
      case 0x0b4:
      case 0x0b8:
      case 0x0bc:
        return 0xffff_ffff
      case 0x0fc:
        return this.#configurationGeneration
      default:
        return 0
    }
  }

  #loadConfiguration(offset: number, size: AccessSize): bigint {
    const bytes = this.configuration()
    let value = 0n
    for (let index = size - 1; index >= 0; index--) value = (value << 8n) | BigInt(bytes[offset + index] ?? 0)
    return value
  }

  store(offset: number, size: AccessSize, value: bigint): boolean {
    if (offset >= configurationBase) {
      for (let index = 0; index < size; index++) {
        this.onConfigurationStore(offset - configurationBase + index, Number((value >> BigInt(index * 8)) & 0xffn))
      }
    } else if (size === 4 && offset % 4 === 0) this.#storeRegister(offset, Number(value))
    return true
  }

  #storeRegister(offset: number, word: number): void {
    switch (offset) {
      case 0x014:
        this.#offeredSelect = word
        return
      case 0x020:
        this.#acceptFeatures(word)
        return
      case 0x024:
        this.#acceptedSelect = word
        return
      case 0x030:
        this.#queueSelect = word
        return
      case 0x050:
        this.#notify(word)
        return
      case 0x064:
        this.#interrupts &= ~word
        this.#line(this.#interrupts !== 0)
        return
      case 0x070:
        this.#storeStatus(word & 0xff)
        return
      default:
        this.#storeQueueRegister(offset, word)
    }
  }

  #acceptFeatures(word: number): void {
    if (this.#status & status.featuresOk || this.#acceptedSelect > 1) return
    const shift = BigInt(this.#acceptedSelect * 32)
    this.#accepted = (this.#accepted & ~(0xffff_ffffn << shift)) | (BigInt(word) << shift)
  }

  /** Set-up of the selected queue; ignored once the queue is ready, as 4.2.2.2 demands of the driver. */
  #storeQueueRegister(offset: number, word: number): void {
    const queue = this.queues[this.#queueSelect]
    if (!queue) return
    if (offset === 0x044) {
      if ((word & 1) === 0) this.#stopQueue(queue)
      else if (!queue.isReady) this.guard(() => queue.makeReady(this.accepted(feature.eventIndex)))
      return
    }
    if (queue.isReady) return
    switch (offset) {
      case 0x038:
        // What does not fit in 16 bits is as wrong as 0, and must not turn into a valid size.
        queue.size = word > 0xffff ? 0 : word
        return
      case 0x080:
        queue.descriptorTable = withLow(queue.descriptorTable, word)
        return
      case 0x084:
        queue.descriptorTable = withHigh(queue.descriptorTable, word)
        return
      case 0x090:
        queue.availableRing = withLow(queue.availableRing, word)
        return
      case 0x094:
        queue.availableRing = withHigh(queue.availableRing, word)
        return
      case 0x0a0:
        queue.usedRing = withLow(queue.usedRing, word)
        return
      case 0x0a4:
        queue.usedRing = withHigh(queue.usedRing, word)
        return
    }
  }

  /** The queue's memory is no longer ours: nothing that is pending may touch it. */
  #stopQueue(queue: Virtqueue): void {
    if (queue.isReady) {
      this.#epoch += 1
      this.onReset()
    }
    queue.reset()
  }

  #storeStatus(word: number): void {
    if (word === 0) {
      this.#resetByDriver()
      return
    }
    let next = (word & ~status.needsReset) | (this.#status & status.needsReset)
    const isAcceptable = (this.#accepted & ~this.#offered) === 0n && this.accepted(feature.version1)
    if (!isAcceptable) next &= ~status.featuresOk
    this.#status = next
  }

  #resetByDriver(): void {
    this.#status = 0
    this.#accepted = 0n
    this.#offeredSelect = 0
    this.#acceptedSelect = 0
    this.#queueSelect = 0
    this.#interrupts = 0
    this.#epoch += 1
    for (const queue of this.queues) queue.reset()
    this.onReset()
    this.#line(false)
  }

  #notify(index: number): void {
    if (!this.isLive || !this.queues[index]?.isReady) return
    this.guard(() => this.onNotify(index))
  }

  /** Configuration space changed: the driver is told, and reads it again. */
  protected configurationChanged(): void {
    this.#configurationGeneration = (this.#configurationGeneration + 1) >>> 0
    if (this.#status & status.driverOk) this.#raise(interruptCause.configuration)
  }

  /** Power-on. The epoch goes on, since answers to older requests may still arrive. */
  reset(): void {
    this.#resetByDriver()
    this.#configurationGeneration = 0
  }

  saveState(writer: ByteWriter): void {
    writer.u8(this.#status).u64(this.#accepted).u32(this.#offeredSelect).u32(this.#acceptedSelect)
    writer.u32(this.#queueSelect).u8(this.#interrupts).u32(this.#configurationGeneration).u32(this.#epoch)
    for (const queue of this.queues) queue.saveState(writer)
    this.saveDevice(writer)
  }

  loadState(reader: ByteReader): void {
    this.#status = reader.u8()
    this.#accepted = reader.u64()
    this.#offeredSelect = reader.u32()
    this.#acceptedSelect = reader.u32()
    this.#queueSelect = reader.u32()
    this.#interrupts = reader.u8()
    this.#configurationGeneration = reader.u32()
    this.#epoch = reader.u32()
    for (const queue of this.queues) queue.loadState(reader)
    this.loadDevice(reader)
  }
}

function withLow(address: number, word: number): number {
  return Math.floor(address / 2 ** 32) * 2 ** 32 + word
}

function withHigh(address: number, word: number): number {
  return word * 2 ** 32 + (address % 2 ** 32)
}
