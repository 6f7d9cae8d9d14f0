/**
 * The driver's side of virtio-mmio for tests: negotiates, sets queues up, builds chains and notifies, as Linux does
 * (drivers/virtio/virtio_mmio.c, virtio_ring.c), but for one thing: on request it builds what Linux never would.
 */

import { ramBase } from '../../engine/types.ts'
import type { MmioDevice } from '../devices/device.ts'
import type { FakeEngine } from './fake-engine.ts'

export interface RawDescriptor {
  readonly address: number | bigint
  readonly lengthBytes: number
  readonly flags: number
  readonly next: number
}

export const descriptorFlag = { next: 1, write: 2, indirect: 4 } as const

const version1 = 1n << 32n

/** Hands out guest memory and reads and writes it. */
export class GuestHeap {
  readonly engine: FakeEngine
  readonly #start: number
  #next: number

  constructor(engine: FakeEngine, start = ramBase + 0x10_0000) {
    this.engine = engine
    this.#start = start
    this.#next = start
  }

  allocate(lengthBytes: number, alignment = 16): number {
    const address = Math.ceil(this.#next / alignment) * alignment
    this.#next = address + lengthBytes
    return address
  }

  /** Everything allocated is free again. */
  rewind(): void {
    this.#next = this.#start
  }

  place(bytes: Uint8Array): number {
    const address = this.allocate(bytes.length)
    this.engine.storeBytes(address, bytes)
    return address
  }

  bytes(address: number, lengthBytes: number): Uint8Array {
    return this.engine.ram.slice(address - ramBase, address - ramBase + lengthBytes)
  }

  view(address: number): DataView {
    return new DataView(this.engine.ram.buffer, address - ramBase)
  }
}

/** A device's registers from the driver's side. */
export class VirtioDriver {
  readonly device: MmioDevice
  readonly heap: GuestHeap

  constructor(device: MmioDevice, heap: GuestHeap) {
    this.device = device
    this.heap = heap
  }

  register(offset: number): number {
    return Number(this.device.load(offset, 4))
  }

  setRegister(offset: number, value: number): void {
    this.device.store(offset, 4, BigInt(value >>> 0))
  }

  get status(): number {
    return this.register(0x70)
  }

  get interrupts(): number {
    return this.register(0x60)
  }

  acknowledgeInterrupts(): void {
    this.setRegister(0x64, this.interrupts)
  }

  get needsReset(): boolean {
    return (this.status & 64) !== 0
  }

  reset(): void {
    this.setRegister(0x70, 0)
  }

  offeredFeatures(): bigint {
    this.setRegister(0x14, 0)
    const low = BigInt(this.register(0x10))
    this.setRegister(0x14, 1)
    return (BigInt(this.register(0x10)) << 32n) | low
  }

  /** Up to FEATURES_OK; returns whether the device agreed. `features` without VERSION_1 is a broken driver. */
  negotiate(features: bigint = this.offeredFeatures()): boolean {
    this.reset()
    this.setRegister(0x70, 1)
    this.setRegister(0x70, 3)
    this.setRegister(0x24, 0)
    this.setRegister(0x20, Number(features & 0xffff_ffffn))
    this.setRegister(0x24, 1)
    this.setRegister(0x20, Number(features >> 32n))
    this.setRegister(0x70, 11)
    return (this.status & 8) !== 0
  }

  go(): void {
    this.setRegister(0x70, 15)
  }

  /** A queue in fresh memory. */
  queue(index: number, size = 8): DriverQueue {
    const table = this.heap.allocate(16 * size)
    const available = this.heap.allocate(6 + 2 * size)
    const used = this.heap.allocate(6 + 8 * size)
    this.heap.engine.storeBytes(table, new Uint8Array(16 * size))
    this.heap.engine.storeBytes(available, new Uint8Array(6 + 2 * size))
    this.heap.engine.storeBytes(used, new Uint8Array(6 + 8 * size))
    this.setQueue(index, size, table, available, used)
    return new DriverQueue(this, index, size, table, available, used)
  }

  setQueue(index: number, size: number, table: number, available: number, used: number): void {
    this.setRegister(0x30, index)
    this.setRegister(0x44, 0)
    this.setRegister(0x38, size)
    for (const [register, address] of [
      [0x80, table],
      [0x90, available],
      [0xa0, used],
    ] as const) {
      this.setRegister(register, address % 2 ** 32)
      this.setRegister(register + 4, Math.floor(address / 2 ** 32))
    }
    this.setRegister(0x44, 1)
  }

  /** Negotiates everything offered and starts with the given queue sizes. */
  start(sizes: readonly number[], without = 0n): DriverQueue[] {
    if (!this.negotiate((this.offeredFeatures() & ~without) | version1)) throw new Error('features refused')
    const queues = sizes.map((size, index) => this.queue(index, size))
    this.go()
    return queues
  }
}

export interface UsedElement {
  readonly head: number
  readonly writtenBytes: number
}

export class DriverQueue {
  readonly driver: VirtioDriver
  readonly index: number
  readonly size: number
  readonly table: number
  readonly available: number
  readonly used: number
  #nextDescriptor = 0
  #availableIndex = 0
  #seen = 0

  constructor(driver: VirtioDriver, index: number, size: number, table: number, available: number, used: number) {
    this.driver = driver
    this.index = index
    this.size = size
    this.table = table
    this.available = available
    this.used = used
  }

  writeDescriptor(slot: number, descriptor: RawDescriptor, table = this.table): void {
    const bytes = new Uint8Array(16)
    const view = new DataView(bytes.buffer)
    view.setBigUint64(0, BigInt(descriptor.address), true)
    view.setUint32(8, descriptor.lengthBytes, true)
    view.setUint16(12, descriptor.flags, true)
    view.setUint16(14, descriptor.next, true)
    this.driver.heap.engine.storeBytes(table + slot * 16, bytes)
  }

  /** Builds a chain of readable, then writable parts; returns its head. Does not tell the device. */
  chain(readable: readonly number[][], writable: readonly number[][], useIndirect = false): number {
    const parts = [
      ...readable.map(([address, lengthBytes]) => ({ address: address!, lengthBytes: lengthBytes!, flags: 0 })),
      ...writable.map(([address, lengthBytes]) => ({
        address: address!,
        lengthBytes: lengthBytes!,
        flags: descriptorFlag.write as number,
      })),
    ]
    const head = this.#nextDescriptor
    const table = useIndirect ? this.driver.heap.allocate(16 * parts.length) : this.table
    parts.forEach((part, index) => {
      const isLast = index === parts.length - 1
      const slot = useIndirect ? index : (head + index) % this.size
      const next = isLast ? 0 : useIndirect ? index + 1 : (slot + 1) % this.size
      this.writeDescriptor(slot, { ...part, flags: part.flags | (isLast ? 0 : descriptorFlag.next), next }, table)
    })
    if (useIndirect) {
      const flags = descriptorFlag.indirect
      this.writeDescriptor(head, { address: table, lengthBytes: 16 * parts.length, flags, next: 0 })
    }
    this.#nextDescriptor = (head + (useIndirect ? 1 : parts.length)) % this.size
    return head
  }

  /** Puts a head into the available ring. */
  offer(head: number): void {
    const view = this.driver.heap.view(this.available)
    view.setUint16(4 + 2 * (this.#availableIndex % this.size), head, true)
    this.#availableIndex = (this.#availableIndex + 1) & 0xffff
    view.setUint16(2, this.#availableIndex, true)
  }

  setAvailableIndex(index: number): void {
    this.#availableIndex = index & 0xffff
    this.driver.heap.view(this.available).setUint16(2, this.#availableIndex, true)
  }

  set flags(flags: number) {
    this.driver.heap.view(this.available).setUint16(0, flags, true)
  }

  set usedEvent(index: number) {
    this.driver.heap.view(this.available).setUint16(4 + 2 * this.size, index & 0xffff, true)
  }

  get availableEvent(): number {
    return this.driver.heap.view(this.used).getUint16(4 + 8 * this.size, true)
  }

  get usedIndex(): number {
    return this.driver.heap.view(this.used).getUint16(2, true)
  }

  notify(): void {
    this.driver.setRegister(0x50, this.index)
  }

  /** What the device completed since the last call. */
  takeUsed(): UsedElement[] {
    const view = this.driver.heap.view(this.used)
    const elements: UsedElement[] = []
    while (this.#seen !== this.usedIndex) {
      const at = 4 + 8 * (this.#seen % this.size)
      elements.push({ head: view.getUint32(at, true), writtenBytes: view.getUint32(at + 4, true) })
      this.#seen = (this.#seen + 1) & 0xffff
    }
    return elements
  }
}
