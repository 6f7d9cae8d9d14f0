/**
 * The engine: one WebAssembly memory with the hart's state and RAM, the core module that runs on it, and the host's side
 * of both. Everything per instruction is in the core; here is the loop around it, which splits a run at the exact counts
 * at which timers fire, and the calls for machines and debuggers.
 */

import { assert } from '../base/assert.ts'
import type { ByteReader, ByteWriter } from '../base/bytes.ts'
import { pageBytes } from '../base/units.ts'
import { csr } from '../riscv/csrs.ts'
import { buildCoreModule } from './core/core-module.ts'
import { interruptBit, menvcfgBit, mstatusBit } from './core/csr-fields.ts'
import { regionTableBase } from './core/handler-numbers.ts'
import {
  attention,
  type CellName,
  type CounterName,
  cells,
  coreExit,
  counterAddress,
  csrIndexBase,
  dataTlbBase,
  fBase,
  fetchSetBytes,
  fetchTlbBase,
  type Layout,
  pageFlag,
  planLayout,
  regionLeaves,
  stateCellNames,
  trapCountersBase,
  writeTlbOffset,
  xBase,
} from './core/layout.ts'
import { RecordEncoder } from './core/record-encoder.ts'
import { capDelta, firstCountAt, neverTicks, ticksAt } from './guest-time.ts'
import { type EngineProfile, noRegions, trapNames } from './profile.ts'
import { defaultTranslation, type TranslationOptions, Translator } from './regions/translator.ts'
import { SeedPool } from './seed-pool.ts'
import type { AccessSize, Bus, Engine, EngineExit, GuestClock, GuestPhysical } from './types.ts'
import { ramBase } from './types.ts'

interface CoreExports {
  run(budget: number): void
  readCsr(address: number, count: bigint): bigint
  writeCsr(address: number, value: bigint, count: bigint): number
  prepareWrite(offset: number, size: number): void
  updateMode(): void
  flushTranslations(): void
}

/**
 * The core counts what is left in 32 bits; and it must be left now and then, because code of V8's baseline compiler is
 * replaced by optimized code only when it is entered again (ENGINE, "No on-stack replacement").
 */
const longestRun = 1n << 20n
/** More than a counter of hot code reaches. */
const neverHot = 1 << 20
/** Beyond this a number would not hold an address exactly; nothing is there anyway. */
const physicalLimit = 1n << 53n

export interface EngineOptions {
  readonly ramBytes: number
  readonly bus: Bus
  /**
   * A stopwatch for the profile: what it says reaches no state. With it, translated code also counts what it runs and why
   * it is left, which costs a little.
   */
  readonly nowMs?: () => number
  /** Whether hot code is translated, and when. The guest cannot see it. */
  readonly translation?: Partial<TranslationOptions> | 'off'
}

export interface ProfiledEngine extends Engine {
  /** The counters since the engine was made. */
  readonly profile: EngineProfile
}

export function createEngine(options: EngineOptions): ProfiledEngine {
  return new WasmEngine(options)
}

/** Addresses of what every run looks at: a run may be a microsecond long, and to look all of them up by name takes as much. */
const hot = {
  count: cells.count.address,
  clockN0: cells.clockN0.address,
  clockT0: cells.clockT0.address,
  clockRate: cells.clockRate.address,
  clockCap: cells.clockCap.address,
  clockCapDelta: cells.clockCapDelta.address,
  exitReason: cells.exitReason.address,
  attention: cells.attention.address,
  watchHit: cells.watchHit.address,
  machineTimerCompare: cells.machineTimerCompare.address,
  stimecmp: cells.stimecmp.address,
  menvcfg: cells.menvcfg.address,
  mipTimers: cells.mipTimers.address,
  mie: cells.mie.address,
  mipSoft: cells.mipSoft.address,
  mipLines: cells.mipLines.address,
} as const

class WasmEngine implements ProfiledEngine {
  readonly ramBytes: number
  readonly ram: Uint8Array
  readonly seedPool = new SeedPool()
  readonly #bus: Bus
  readonly #layout: Layout
  readonly #view: DataView
  readonly #memory: Uint8Array
  readonly #core: CoreExports
  /** Pages of RAM that may hold anything but zeros. */
  readonly #usedPages: Uint8Array
  readonly #translator: Translator | undefined
  #stopRequested = false
  readonly #exits: Record<EngineExit, number> = { count: 0, waiting: 0, supervisorCall: 0, stopRequested: 0 }
  #ranInstructions = 0n
  #coreRuns = 0
  #deviceLoads = 0
  #deviceStores = 0
  #decodedInstructions = 0
  #watched: GuestPhysical | undefined

  constructor({ ramBytes, bus, nowMs, translation = {} }: EngineOptions) {
    this.ramBytes = ramBytes
    this.#bus = bus
    const layout = planLayout(ramBytes)
    this.#layout = layout
    const memory = new WebAssembly.Memory({ initial: layout.memoryPages, maximum: layout.memoryPages })
    this.#view = new DataView(memory.buffer)
    this.ram = new Uint8Array(memory.buffer, layout.ramStart, ramBytes)
    this.#usedPages = new Uint8Array(layout.ramPages)
    const encoder = new RecordEncoder(layout, memory.buffer)
    const { bytes, csrIndex, exported } = buildCoreModule(layout)
    const host = {
      busLoad: (address: bigint, size: number) => this.#busLoad(address, size as AccessSize),
      busStore: (address: bigint, size: number, value: bigint) => this.#busStore(address, size as AccessSize, value),
      decodeRecord: (record: number) => {
        this.#decodedInstructions++
        encoder.decodeRecord(record >>> 0)
      },
      decodeStraddling: (record: number, bits: number) => {
        this.#decodedInstructions++
        encoder.decodeStraddling(record, bits)
      },
      nominate: (record: number) => this.#translator?.nominate(record >>> 0),
      dropRegions: (page: number, first: number, last: number) => this.#translator?.dropRegions(page, first, last),
      readSeed: () => this.seedPool.take(),
    }
    const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), { host, env: { memory } })
    this.#core = instance.exports as unknown as CoreExports
    this.#memory = new Uint8Array(memory.buffer)
    for (const [address, index] of csrIndex) this.#memory[csrIndexBase + address] = index
    this.#memory.fill(0xff, dataTlbBase, fetchTlbBase + 3 * fetchSetBytes)
    for (let slot = 0; slot < layout.slotCount; slot++) {
      this.#view.setInt32(layout.freeListBase + slot * 4, layout.slotCount - 1 - slot, true)
    }
    this.#put(cells.freeSlots.address, layout.slotCount)
    this.#put(cells.hotThreshold.address, neverHot)
    if (translation !== 'off') {
      const options = { ...defaultTranslation, ...translation }
      this.#put(cells.hotThreshold.address, options.threshold)
      this.#translator = new Translator({
        layout,
        memory,
        core: instance.exports,
        exported,
        regionTableBase,
        options,
        nowMs,
        leaveRegion: () => this.#heed(attention.lookUpAfresh),
      })
    }
    this.#resetRegisters()
  }

  #get(address: number): bigint {
    return this.#view.getBigUint64(address, true)
  }
  #set(address: number, value: bigint): void {
    this.#view.setBigUint64(address, value, true)
  }
  #getSmall(address: number): number {
    return this.#view.getInt32(address, true)
  }
  #put(address: number, value: number): void {
    this.#view.setInt32(address, value, true)
  }

  // Running

  run(until: bigint): EngineExit {
    const before = this.count
    const exit = this.#run(until)
    this.#exits[exit]++
    this.#ranInstructions += this.count - before
    return exit
  }

  #run(until: bigint): EngineExit {
    this.#stopRequested = false
    for (;;) {
      const count = this.count
      if (count >= until) return 'count'
      this.#refreshTimers()
      this.#put(hot.exitReason, coreExit.none)
      this.#put(hot.attention, 0)
      this.#put(hot.watchHit, 0)
      this.#coreRuns++
      this.#translator?.beforeRun()
      this.#core.run(Number(this.#nextStop(count, until) - count))
      const reason = this.#getSmall(hot.exitReason)
      if (this.#stopRequested || this.#getSmall(hot.watchHit) !== 0) return 'stopRequested'
      if (reason === coreExit.supervisorCall) return 'supervisorCall'
      if (reason === coreExit.waitForInterrupt) {
        this.#refreshTimers()
        if ((this.#pendingBits() & this.#get(hot.mie)) === 0n) return 'waiting'
      }
    }
  }

  /** The first count behind `count` where the loop must look: `until`, a timer, or the longest run. */
  #nextStop(count: bigint, until: bigint): bigint {
    let stop = until - count > longestRun ? count + longestRun : until
    const clock = this.getClock()
    for (const deadline of this.#deadlines()) {
      const due = firstCountAt(clock, deadline)
      if (due !== undefined && due > count && due < stop) stop = due
    }
    return stop
  }

  /** What armed timers compare with; interrupts they raise need not be enabled. */
  #deadlines(): bigint[] {
    const machine = this.#get(hot.machineTimerCompare)
    return this.#hasSstc() ? [machine, this.#get(hot.stimecmp)] : [machine]
  }

  #hasSstc(): boolean {
    return (this.#get(hot.menvcfg) & menvcfgBit.stce) !== 0n
  }

  /** Makes mip say what the timers say at this count. */
  #refreshTimers(): void {
    const ticks = this.ticks
    const isDue = (compare: bigint): boolean => compare !== neverTicks && ticks >= compare
    let bits = 0n
    if (isDue(this.#get(hot.machineTimerCompare))) bits |= interruptBit.mtip
    if (this.#hasSstc() && isDue(this.#get(hot.stimecmp))) bits |= interruptBit.stip
    this.#set(hot.mipTimers, bits)
  }

  #pendingBits(): bigint {
    return this.#get(hot.mipSoft) | this.#get(hot.mipLines) | this.#get(hot.mipTimers)
  }

  #heed(bits: number): void {
    this.#put(hot.attention, this.#getSmall(hot.attention) | bits)
  }

  requestStop(): void {
    this.#stopRequested = true
    this.#heed(attention.leave)
  }

  setInterrupt(bit: bigint, level: boolean): void {
    const lines = this.#get(hot.mipLines)
    const next = level ? lines | bit : lines & ~bit
    if (next === lines) return
    this.#set(hot.mipLines, next)
    this.#heed(attention.lookUpAfresh)
  }

  #busLoad(address: bigint, size: AccessSize): bigint {
    this.#deviceLoads++
    const physical = BigInt.asUintN(64, address)
    const value = physical < physicalLimit ? this.#bus.load(Number(physical), size) : undefined
    if (value === undefined) this.#put(cells.busFault.address, 1)
    return value ?? 0n
  }

  #busStore(address: bigint, size: AccessSize, value: bigint): void {
    this.#deviceStores++
    const physical = BigInt.asUintN(64, address)
    const done = physical < physicalLimit && this.#bus.store(Number(physical), size, BigInt.asUintN(size * 8, value))
    if (!done) this.#put(cells.busFault.address, 1)
  }

  // Time

  get count(): bigint {
    return this.#get(hot.count)
  }
  set count(value: bigint) {
    this.#set(hot.count, value)
  }

  getClock(): GuestClock {
    return {
      n0: this.#get(hot.clockN0),
      t0: this.#get(hot.clockT0),
      ratePer2p32: this.#get(hot.clockRate),
      cap: this.#get(hot.clockCap),
    }
  }

  setClock(clock: GuestClock): void {
    assert(clock.n0 <= this.count, 'a clock entry starts in the past or now')
    this.#set(hot.clockN0, clock.n0)
    this.#set(hot.clockT0, clock.t0)
    this.#set(hot.clockRate, clock.ratePer2p32)
    this.#set(hot.clockCap, clock.cap)
    this.#set(hot.clockCapDelta, capDelta(clock))
    this.#heed(attention.leave)
  }

  get ticks(): bigint {
    return ticksAt(this.getClock(), this.count)
  }

  get nextDeadline(): bigint | undefined {
    const enabled = this.#get(hot.mie)
    const armed: bigint[] = []
    if ((enabled & interruptBit.mtip) !== 0n) armed.push(this.#get(hot.machineTimerCompare))
    if ((enabled & interruptBit.stip) !== 0n && this.#hasSstc()) armed.push(this.#get(hot.stimecmp))
    return armed
      .filter((deadline) => deadline !== neverTicks)
      .reduce<bigint | undefined>((first, next) => (first === undefined || next < first ? next : first), undefined)
  }

  get machineTimerCompare(): bigint {
    return this.#get(hot.machineTimerCompare)
  }
  set machineTimerCompare(value: bigint) {
    this.#set(hot.machineTimerCompare, value)
    this.#heed(attention.leave)
  }

  // Memory

  get supervisorCallsExit(): boolean {
    return this.#getSmall(cells.supervisorCallsExit.address) !== 0
  }
  set supervisorCallsExit(value: boolean) {
    this.#put(cells.supervisorCallsExit.address, value ? 1 : 0)
  }

  watchStore(address: GuestPhysical): void {
    const offset = this.#ramOffset(address, 8)
    assert(offset % 8 === 0, 'the watched word is aligned')
    this.#watched = address
    const flags = this.#layout.pageFlagsBase + Math.floor(offset / pageBytes)
    this.#view.setUint8(flags, this.#view.getUint8(flags) | pageFlag.watched)
    this.#put(cells.watchedWord.address, this.#layout.ramStart + offset)
    this.#forgetWriteEntries()
  }

  #ramOffset(address: GuestPhysical, length: number): number {
    const offset = address - ramBase
    assert(offset >= 0 && offset + length <= this.ramBytes, `no RAM at 0x${address.toString(16)}, ${length} bytes`)
    return offset
  }

  storeBytes(address: GuestPhysical, bytes: Uint8Array): void {
    const start = this.#ramOffset(address, bytes.length)
    this.#prepareWrite(start, bytes.length)
    this.ram.set(bytes, start)
  }

  /** Everything that must happen before bytes of RAM change: also the end of a reservation of theirs. */
  #prepareWrite(start: number, length: number): void {
    const end = start + length
    for (let offset = start; offset < end; ) {
      const size = Math.min(end - offset, pageBytes - (offset % pageBytes))
      this.#core.prepareWrite(offset, size)
      offset += size
    }
    const reserved = this.#get(cells.reservation.address)
    if (reserved < BigInt(end) && reserved + 8n > BigInt(start)) this.#set(cells.reservation.address, neverTicks)
  }

  takeWrittenPages(): number[] {
    const { writtenListBase, pageFlagsBase } = this.#layout
    const length = this.#getSmall(cells.writtenPages.address)
    const pages = Array.from({ length }, (_, index) => this.#view.getInt32(writtenListBase + index * 4, true))
    for (const page of pages) {
      this.#usedPages[page] = 1
      const flags = pageFlagsBase + page
      this.#view.setUint8(flags, this.#view.getUint8(flags) & ~(pageFlag.written | pageFlag.writeCached))
    }
    this.#put(cells.writtenPages.address, 0)
    this.#forgetWriteEntries()
    return pages.sort((a, b) => a - b)
  }

  /** Makes the next store to each page take the slow path. */
  #forgetWriteEntries(): void {
    this.#memory.fill(0xff, dataTlbBase + writeTlbOffset, fetchTlbBase)
  }

  restorePage(page: number, content: Uint8Array): void {
    assert(content.length === pageBytes, 'a page is 4096 bytes')
    this.storeBytes(ramBase + page * pageBytes, content)
  }

  // Registers

  getX(register: number): bigint {
    return this.#view.getBigUint64(xBase + register * 8, true)
  }
  setX(register: number, value: bigint): void {
    if (register !== 0) this.#view.setBigUint64(xBase + register * 8, value, true)
  }

  get pc(): bigint {
    return this.#get(cells.pc.address)
  }
  set pc(value: bigint) {
    this.#set(cells.pc.address, value)
  }

  getCsr(address: number): bigint {
    if (address === csr.seed) return 0n
    this.#refreshTimers()
    return BigInt.asUintN(64, this.#core.readCsr(address, this.count))
  }

  setCsr(address: number, value: bigint): void {
    this.#core.writeCsr(address, BigInt.asIntN(64, value), this.count)
    this.#heed(attention.leave)
  }

  get privilege(): number {
    return Number(this.#get(cells.privilege.address))
  }
  set privilege(value: number) {
    this.#set(cells.privilege.address, BigInt(value))
    this.#core.updateMode()
  }

  get profile(): EngineProfile {
    const at = (address: number): number => Number(this.#view.getBigUint64(address, true))
    const counter = (name: CounterName): number => at(counterAddress(name))
    const inRegions = BigInt(counter('regionInstructions'))
    const leaves = Object.fromEntries(regionLeaves.map((name) => [name, counter(name)]))
    const entries = Object.values(leaves).reduce((sum, times) => sum + times, 0)
    const traps = [...trapNames].map(([index, name]): [string, number] => [name, at(trapCountersBase + index * 8)])
    return {
      instructions: { interpreter: this.#ranInstructions - inRegions, regions: inRegions },
      exits: { ...this.#exits },
      coreRuns: this.#coreRuns,
      tlbMisses: { reads: counter('readMisses'), writes: counter('writeMisses'), fetches: counter('fetchMisses') },
      translationFlushes: counter('translationFlushes'),
      traps: Object.fromEntries(traps.filter(([, times]) => times > 0)),
      deviceAccesses: { loads: this.#deviceLoads, stores: this.#deviceStores },
      decodedInstructions: this.#decodedInstructions,
      storesIntoCode: counter('storesIntoCode'),
      regions: this.#translator ? { ...this.#translator.counters, entries, leaves } : noRegions,
    }
  }

  // Whole states

  #resetRegisters(): void {
    for (let register = 0; register < 32; register++) {
      this.#view.setBigInt64(xBase + register * 8, 0n, true)
      this.#view.setBigInt64(fBase + register * 8, 0n, true)
    }
    const kept: readonly CellName[] = ['count', 'clockN0', 'clockT0', 'clockRate', 'clockCap']
    for (const name of stateCellNames) if (!kept.includes(name)) this.#set(cells[name].address, 0n)
    this.#set(cells.privilege.address, 3n)
    this.#set(cells.reservation.address, neverTicks)
    this.#set(cells.mstatus.address, mstatusBit.uxl | mstatusBit.sxl)
    this.#set(hot.stimecmp, neverTicks)
    this.#set(hot.machineTimerCompare, neverTicks)
    this.#set(cells.pc.address, BigInt(ramBase))
    // The counters start at zero, wherever the count stands.
    this.#set(cells.mcycleBase.address, BigInt.asUintN(64, -this.count))
    this.#set(cells.minstretBase.address, BigInt.asUintN(64, -this.count))
    this.#derive()
  }

  /** Everything that follows from the architectural state. */
  #derive(): void {
    this.#set(hot.clockCapDelta, capDelta(this.getClock()))
    this.#core.flushTranslations()
    this.#core.updateMode()
    this.#refreshTimers()
  }

  reset(): void {
    this.#zeroRam()
    this.seedPool.clear()
    this.#watched = undefined
    this.#put(cells.watchedWord.address, 0)
    this.supervisorCallsExit = false
    this.#resetRegisters()
  }

  /** RAM to zero: only pages that were ever written need it. */
  #zeroRam(): void {
    this.takeWrittenPages()
    const zeros = new Uint8Array(pageBytes)
    this.#usedPages.forEach((used, page) => {
      if (used) this.restorePage(page, zeros)
    })
  }

  saveState(writer: ByteWriter): void {
    for (let register = 0; register < 32; register++) writer.u64(this.getX(register))
    for (let register = 0; register < 32; register++) {
      writer.u64(this.#view.getBigUint64(fBase + register * 8, true))
    }
    for (const name of stateCellNames) writer.u64(this.#get(cells[name].address))
    writer.bool(this.supervisorCallsExit)
    writer.u64(BigInt(this.#watched ?? 0))
    this.seedPool.save(writer)
  }

  loadState(reader: ByteReader): void {
    for (let register = 0; register < 32; register++) this.setX(register, reader.u64())
    for (let register = 0; register < 32; register++) {
      this.#view.setBigUint64(fBase + register * 8, reader.u64(), true)
    }
    for (const name of stateCellNames) this.#set(cells[name].address, reader.u64())
    this.supervisorCallsExit = reader.bool()
    const watched = Number(reader.u64())
    if (watched === 0) this.#put(cells.watchedWord.address, 0)
    else this.watchStore(watched)
    this.seedPool.load(reader)
    this.#derive()
  }
}
