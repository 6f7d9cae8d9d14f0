/**
 * An engine for tests of the machine: real memory and registers, and a hart whose every instruction is one call of a
 * test's function. It tells apart what the machine does from what the engine does; it runs no RISC-V.
 */

import type { ByteReader, ByteWriter } from '../../base/bytes.ts'
import { pageBytes } from '../../base/units.ts'
import { type Bus, type Engine, type EngineExit, type GuestClock, ramBase } from '../../engine/types.ts'

/** One instruction. Returns the exit it causes, if any. State belongs into registers, so that snapshots hold it. */
export type FakeInstruction = (hart: FakeEngine) => EngineExit | undefined

const never = 0xffff_ffff_ffff_ffffn

export class FakeEngine implements Engine {
  readonly ramBytes: number
  readonly bus: Bus
  readonly ram: Uint8Array
  instruction: FakeInstruction = () => undefined
  count = 0n
  machineTimerCompare = never
  pc = 0n
  privilege = 3
  readonly seedPool: { availableBytes: number; add(bytes: Uint8Array): void }
  supervisorCallsExit = false
  watched: number | undefined
  #clock: GuestClock = { n0: 0n, t0: 0n, ratePer2p32: 1n << 32n, cap: never }
  #x = new BigUint64Array(32)
  #csrs = new Map<number, bigint>()
  #interrupts = 0n
  #written = new Set<number>()
  #isStopping = false

  constructor({ ramBytes, bus }: { ramBytes: number; bus: Bus }) {
    this.ramBytes = ramBytes
    this.bus = bus
    this.ram = new Uint8Array(ramBytes)
    const pool = { availableBytes: 0, add: (bytes: Uint8Array) => void (pool.availableBytes += bytes.length) }
    this.seedPool = pool
  }

  run(until: bigint): EngineExit {
    while (this.count < until) {
      this.count += 1n
      this.#isStopping = false
      const exit = this.instruction(this)
      if (exit) return exit
      if (this.#isStopping) return 'stopRequested'
    }
    return 'count'
  }

  requestStop(): void {
    this.#isStopping = true
  }

  watchStore(address: number): void {
    this.watched = address
  }

  /** A store by the hart to RAM. */
  hartStore(address: number, bytes: Uint8Array): void {
    this.storeBytes(address, bytes)
    if (this.watched !== undefined && address < this.watched + 8 && this.watched < address + bytes.length) {
      this.requestStop()
    }
  }

  setInterrupt(bit: bigint, level: boolean): void {
    this.#interrupts = level ? this.#interrupts | bit : this.#interrupts & ~bit
  }

  hasInterrupt(bit: bigint): boolean {
    return (this.#interrupts & bit) !== 0n
  }

  getClock(): GuestClock {
    return this.#clock
  }

  setClock(clock: GuestClock): void {
    this.#clock = clock
  }

  get ticks(): bigint {
    const { n0, t0, ratePer2p32, cap } = this.#clock
    const passed = ((this.count - n0) * ratePer2p32) >> 32n
    return t0 + (passed < cap ? passed : cap)
  }

  get nextDeadline(): bigint | undefined {
    const compare = this.getCsr(0x14d)
    return compare === never ? undefined : compare
  }

  storeBytes(address: number, bytes: Uint8Array): void {
    const offset = address - ramBase
    this.ram.set(bytes, offset)
    for (let page = Math.floor(offset / pageBytes); page * pageBytes < offset + bytes.length; page++) {
      this.#written.add(page)
    }
  }

  getX(register: number): bigint {
    return this.#x[register]!
  }

  setX(register: number, value: bigint): void {
    this.#x[register] = value
  }

  getCsr(address: number): bigint {
    if (address === 0x344) return (this.#csrs.get(address) ?? 0n) | this.#interrupts
    return this.#csrs.get(address) ?? (address === 0x14d ? never : 0n)
  }

  setCsr(address: number, value: bigint): void {
    this.#csrs.set(address, value)
  }

  reset(): void {
    this.ram.fill(0)
    this.#written.clear()
    this.#x.fill(0n)
    this.#csrs.clear()
    this.pc = 0n
    this.privilege = 3
    this.machineTimerCompare = never
  }

  takeWrittenPages(): number[] {
    const pages = [...this.#written].sort((a, b) => a - b)
    this.#written.clear()
    return pages
  }

  saveState(writer: ByteWriter): void {
    for (const value of this.#x) writer.u64(value)
    const csrs = [...this.#csrs].sort(([a], [b]) => a - b)
    writer.u32(csrs.length)
    for (const [address, value] of csrs) writer.u16(address).u64(value)
    writer.u64(this.#interrupts).u64(this.machineTimerCompare).u64(this.pc).u8(this.privilege)
    writer.u32(this.seedPool.availableBytes)
    const { n0, t0, ratePer2p32, cap } = this.#clock
    writer.u64(n0).u64(t0).u64(ratePer2p32).u64(cap)
  }

  loadState(reader: ByteReader): void {
    for (let register = 0; register < 32; register++) this.#x[register] = reader.u64()
    this.#csrs.clear()
    const count = reader.u32()
    for (let index = 0; index < count; index++) this.#csrs.set(reader.u16(), reader.u64())
    this.#interrupts = reader.u64()
    this.machineTimerCompare = reader.u64()
    this.pc = reader.u64()
    this.privilege = reader.u8()
    this.seedPool.availableBytes = reader.u32()
    this.#clock = { n0: reader.u64(), t0: reader.u64(), ratePer2p32: reader.u64(), cap: reader.u64() }
  }

  restorePage(page: number, content: Uint8Array): void {
    this.ram.set(content, page * pageBytes)
  }
}
