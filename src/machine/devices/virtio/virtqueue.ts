/**
 * The device's side of a split virtqueue (virtio 1.2, 2.7), with event indexes.
 *
 *     descriptor table   16 bytes · size
 *     available ring     flags u16, index u16, heads u16 · size, used_event u16      written by the driver
 *     used ring          flags u16, index u16, {head u32, length u32} · size, avail_event u16   written by us
 *
 * Nothing here looks at the rings by itself: the device calls `take` and `complete` from inside a notify or an applied
 * input (invariant 4), and whether an interrupt is due is computed from guest memory at that moment.
 */

import type { ByteReader, ByteWriter } from '../../../base/bytes.ts'
import type { GuestMemory } from '../../guest-memory.ts'
import { type Chain, DriverFault, overlap, readChain, type Segment } from './descriptor-chain.ts'

const noInterruptFlag = 1

export class Virtqueue {
  readonly #memory: GuestMemory
  readonly maximumSize: number
  size = 0
  isReady = false
  descriptorTable = 0
  availableRing = 0
  usedRing = 0
  /** VIRTIO_F_EVENT_IDX was negotiated. Set when the queue is made ready. */
  usesEventIndex = false
  /** How many chains were taken, modulo 2^16. */
  #taken = 0
  /** How many chains were completed, modulo 2^16. */
  #completed = 0
  /** `#completed` at the last look at interrupt suppression. */
  #signalled = 0
  #rings: readonly Segment[] = []

  constructor(memory: GuestMemory, maximumSize: number) {
    this.#memory = memory
    this.maximumSize = maximumSize
    this.reset()
  }

  reset(): void {
    this.size = this.maximumSize
    this.isReady = false
    this.descriptorTable = 0
    this.availableRing = 0
    this.usedRing = 0
    this.usesEventIndex = false
    this.#taken = 0
    this.#completed = 0
    this.#signalled = 0
    this.#rings = []
  }

  /** The driver says that size and addresses are in place. */
  makeReady(usesEventIndex: boolean): void {
    const { size } = this
    if (size === 0 || size > this.maximumSize || (size & (size - 1)) !== 0) throw new DriverFault('a wrong queue size')
    if (this.descriptorTable % 16 !== 0 || this.availableRing % 2 !== 0 || this.usedRing % 4 !== 0) {
      throw new DriverFault('a misaligned ring')
    }
    const rings = [
      { address: this.descriptorTable, lengthBytes: 16 * size },
      { address: this.availableRing, lengthBytes: 6 + 2 * size },
      { address: this.usedRing, lengthBytes: 6 + 8 * size },
    ]
    for (const ring of rings) {
      if (!this.#memory.contains(ring.address, ring.lengthBytes)) throw new DriverFault('a ring outside RAM')
    }
    // With this, a notify sees a constant available index: what we write cannot change it, so every loop ends.
    const [table, available, used] = rings as [Segment, Segment, Segment]
    if (overlap(table, available) || overlap(table, used) || overlap(available, used)) {
      throw new DriverFault('rings that overlap')
    }
    this.#rings = rings
    this.usesEventIndex = usesEventIndex
    this.isReady = true
  }

  /** How many chains the driver has made available and we have not taken. */
  #availableCount(): number {
    const count = (this.#memory.u16(this.availableRing + 2) - this.#taken) & 0xffff
    if (count > this.size) throw new DriverFault('more chains available than the queue holds')
    return count
  }

  /** The next chain without taking it; `undefined` when there is none. */
  peek(): Chain | undefined {
    if (!this.isReady || this.#availableCount() === 0) return undefined
    const slot = this.#taken & (this.size - 1)
    const head = this.#memory.u16(this.availableRing + 4 + 2 * slot)
    return readChain(this.#memory, this.descriptorTable, this.size, head, this.#rings)
  }

  /** The next chain, now ours until `complete`. */
  take(): Chain | undefined {
    const chain = this.peek()
    if (chain) this.#taken = (this.#taken + 1) & 0xffff
    return chain
  }

  /** Asks the driver to notify us when it makes the next chain available. */
  wantNotify(): void {
    if (this.isReady && this.usesEventIndex) {
      this.#memory.writeU16(this.usedRing + 4 + 8 * this.size, this.#taken)
    }
  }

  /** Gives a chain back: `writtenBytes` of its writable part hold data. */
  complete(head: number, writtenBytes: number): void {
    const entry = this.usedRing + 4 + 8 * (this.#completed & (this.size - 1))
    this.#memory.writeU32(entry, head)
    this.#memory.writeU32(entry + 4, writtenBytes)
    this.#completed = (this.#completed + 1) & 0xffff
    this.#memory.writeU16(this.usedRing + 2, this.#completed)
  }

  /** Whether the driver wants an interrupt for what was completed since the last call (2.7.7, 2.7.10). */
  takeInterruptDue(): boolean {
    const before = this.#signalled
    this.#signalled = this.#completed
    if (!this.isReady || before === this.#completed) return false
    if (!this.usesEventIndex) return (this.#memory.u16(this.availableRing) & noInterruptFlag) === 0
    const usedEvent = this.#memory.u16(this.availableRing + 4 + 2 * this.size)
    return ((this.#completed - usedEvent - 1) & 0xffff) < ((this.#completed - before) & 0xffff)
  }

  saveState(writer: ByteWriter): void {
    writer.u16(this.size).bool(this.isReady).bool(this.usesEventIndex)
    writer.f64(this.descriptorTable).f64(this.availableRing).f64(this.usedRing)
    writer.u16(this.#taken).u16(this.#completed).u16(this.#signalled)
  }

  loadState(reader: ByteReader): void {
    this.reset()
    this.size = reader.u16()
    const isReady = reader.bool()
    const usesEventIndex = reader.bool()
    this.descriptorTable = reader.f64()
    this.availableRing = reader.f64()
    this.usedRing = reader.f64()
    if (isReady) this.makeReady(usesEventIndex)
    this.#taken = reader.u16()
    this.#completed = reader.u16()
    this.#signalled = reader.u16()
  }
}
