/**
 * The machine of simulations: it keeps the contract of `Machine` and costs next to nothing. Most of its instructions do
 * nothing and are skipped at once; where the next one is that does something follows from its state.
 *
 * Its guest is a small server with a disk. A request frame (station, number) is applied once and answered with what it
 * counted; some answers wait for a write, some for a flush behind it. Beside that it reads, writes, prints, asks for entropy
 * and sleeps. Every input is mixed into its state at the instruction where it enters, so one that comes an instruction late
 * changes everything that follows.
 *
 * Like the real devices it keeps requests that overlap in order (one of them a change), and its disk knows no time.
 */

import { assert } from '../base/assert.ts'
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { hash64 } from '../base/digest.ts'
import { sectorBytes } from '../base/units.ts'
import { readOutput, writeOutput } from '../log/output-codec.ts'
import {
  type ClockAnchor,
  type DiskBus,
  type DiskOperation,
  type Input,
  type InstructionCount,
  instructionCount,
  type Machine,
  type MachineConfig,
  type MachineCopy,
  type Output,
  type StopReason,
  type Ticks,
} from '../machine/types.ts'
import { encodeReply, noStation, readRequest } from './workload.ts'

export type DiskRequest = Extract<Output, { kind: 'disk' }>

export const diskSectors = 24

export const tinyConfig: MachineConfig = {
  ramBytes: 64 * 1024 * 1024,
  disks: [{ sectors: BigInt(diskSectors), readOnly: false, serial: 'tiny' }],
  nic: { mac: Uint8Array.of(2, 0, 0, 0, 0, 1) },
}

/** Its memory, for copies of a running machine: small pages. */
const memoryPages = 16
const pageWords = 4

const machineMac = tinyConfig.nic!.mac

/** A request of the guest's, held or in flight. */
interface Work {
  readonly operation: DiskOperation
  readonly sector: number
  readonly sectors: number
  readonly data: Uint8Array | undefined
  /** The station whose request this is for; -1: nobody's. */
  readonly station: number
  sequence: number
}

/** What the guest keeps of a station. */
interface Station {
  readonly mac: Uint8Array
  /** The number of its last request that was applied. */
  lastId: number
  /** How many were: as many as that number says, or one was lost, or applied twice. */
  count: number
  /** Its answer, once there is one. */
  reply: Uint8Array | undefined
}

const isChange = (operation: DiskOperation): boolean => operation !== 'read' && operation !== 'flush'

export class TinyMachine implements Machine {
  readonly config: MachineConfig
  readonly hasPowerButtonDriver = true
  readonly frameRoom = Number.POSITIVE_INFINITY
  #count = 0
  #lowState = 1
  #highState = 2
  #isOn = false
  #isWaiting = false
  /** Guest time at which a sleep ends. */
  #deadline: Ticks = 0n
  /** The next instruction that does something. */
  #nextDeed = 0
  #nextSequence = 0
  #requests: Work[] = []
  #stations = new Map<number, Station>()
  /** Requests that were heard and not applied: station, number. */
  #heard: number[] = []
  #outputs: Output[] = []
  #clock = { n0: 0n, ticks: 0n, rate: 0n, cap: 0n }
  #anchor: ClockAnchor | undefined
  readonly #memory = new Uint32Array(memoryPages * pageWords)
  /** Pages written since a round of a copy began; undefined: nobody copies. */
  #written: Set<number> | undefined
  #lookAtWritten: (() => void) | undefined

  /** @param bus of its disk: a SCSI disk's driver is told of uncertain outcomes, and tries again */
  constructor(bus: DiskBus = 'blk') {
    this.config = { ...tinyConfig, disks: tinyConfig.disks.map((disk) => ({ ...disk, bus })) }
  }

  get count(): InstructionCount {
    return instructionCount(BigInt(this.#count))
  }

  get ticks(): Ticks {
    const { n0, ticks, rate, cap } = this.#clock
    const passed = ((BigInt(this.#count) - n0) * rate) >> 32n
    return ticks + (passed < cap ? passed : cap)
  }

  get clockAnchor(): ClockAnchor | undefined {
    return this.#anchor
  }

  run(until: InstructionCount): StopReason {
    if (!this.#isOn) return { kind: 'off' }
    const end = Number(until)
    if (this.#outputs.length > 0 && this.#count < end) return { kind: 'outputs' }
    while (!this.#isWaiting && this.#count < end) {
      if (this.#nextDeed > end) {
        this.#count = end
        break
      }
      this.#count = this.#nextDeed
      this.#mix(this.#count)
      this.#do()
      this.#planDeed()
      if (this.#outputs.length > 0) return { kind: 'outputs' }
    }
    return this.#isWaiting ? { kind: 'waiting', deadline: this.#deadline } : { kind: 'count' }
  }

  apply(input: Input): void {
    this.#mix(this.#count)
    if (input.kind === 'boot') this.#boot(input.rngSeed, input.wallClockNs)
    switch (input.kind) {
      case 'boot':
        break
      case 'clock':
        assert(input.ticks >= this.ticks, 'guest time went back')
        this.#clock = { n0: BigInt(this.#count), ticks: input.ticks, rate: input.ratePer2p32, cap: input.capTicks }
        this.#mix(Number(input.ticks & 0xffff_ffffn))
        this.#mix(Number(input.ratePer2p32 & 0xffff_ffffn))
        if (input.ticks >= this.#deadline) this.#isWaiting = false
        break
      case 'diskCompletion':
        this.#onDiskAnswer(input)
        this.#isWaiting = false
        break
      case 'frame':
        this.#mixBytes(input.bytes)
        if (this.#isOn) this.#onFrame(input.bytes)
        this.#isWaiting = false
        break
      case 'consoleInput':
      case 'entropy':
        this.#mixBytes(input.bytes)
        this.#isWaiting = false
        break
      case 'powerButton':
        if (!this.#isOn) break
        this.#emit({ kind: 'power', action: 'reboot', failed: false, sequence: 0n })
        this.#isOn = false
    }
    this.#planDeed()
  }

  takeOutputs(): Output[] {
    if (this.#outputs.length === 0) return []
    const outputs = this.#outputs
    this.#outputs = []
    return outputs
  }

  inFlightDiskRequests(): DiskRequest[] {
    return this.#requests.filter(({ sequence }) => sequence >= 0).map(describe)
  }

  /** As the real machine: looking at what was written makes it due for a copy. */
  digest(): bigint {
    this.#lookAtWritten?.()
    return hash64(this.snapshot())
  }

  snapshot(): Uint8Array {
    const { n0, ticks, rate, cap } = this.#clock
    const writer = new ByteWriter(1024)
    writer.f64(this.#count).u32(this.#lowState).u32(this.#highState).bool(this.#isOn).bool(this.#isWaiting)
    writer.u64(this.#deadline).f64(this.#nextDeed).f64(this.#nextSequence)
    writer.u64(n0).u64(ticks).u64(rate).u64(cap)
    writer.bool(this.#anchor !== undefined)
    if (this.#anchor) writer.u64(this.#anchor.wallClockNs).u64(this.#anchor.ticks)
    writer.u32(this.#heard.length)
    for (const value of this.#heard) writer.u32(value)
    writer.u32(this.#stations.size)
    for (const [number, { mac, lastId, count, reply }] of this.#stations) {
      writer
        .u32(number)
        .raw(mac)
        .u32(lastId)
        .u32(count)
        .bool(reply !== undefined)
      if (reply) writer.bytes(reply)
    }
    writer.u32(this.#requests.length)
    for (const word of this.#memory) writer.u32(word)
    for (const request of this.#requests) {
      writer.u32(request.station + 1).bool(request.sequence >= 0)
      writeOutput(writer, describe(request.sequence >= 0 ? request : { ...request, sequence: 0 }))
    }
    return writer.finish()
  }

  restore(snapshot: Uint8Array): void {
    const reader = new ByteReader(snapshot)
    this.#count = reader.f64()
    this.#lowState = reader.u32()
    this.#highState = reader.u32()
    this.#isOn = reader.bool()
    this.#isWaiting = reader.bool()
    this.#deadline = reader.u64()
    this.#nextDeed = reader.f64()
    this.#nextSequence = reader.f64()
    this.#clock = { n0: reader.u64(), ticks: reader.u64(), rate: reader.u64(), cap: reader.u64() }
    this.#anchor = reader.bool() ? { wallClockNs: reader.u64(), ticks: reader.u64() } : undefined
    this.#heard = Array.from({ length: reader.u32() }, () => reader.u32())
    this.#stations = new Map()
    for (let left = reader.u32(); left > 0; left--) {
      const number = reader.u32()
      const mac = reader.raw(6).slice()
      const [lastId, count] = [reader.u32(), reader.u32()]
      this.#stations.set(number, { mac, lastId, count, reply: reader.bool() ? reader.bytes() : undefined })
    }
    const requests = reader.u32()
    for (let word = 0; word < this.#memory.length; word++) this.#memory[word] = reader.u32()
    this.#requests = Array.from({ length: requests }, () => {
      const station = reader.u32() - 1
      const isInFlight = reader.bool()
      const { operation, sector, lengthBytes, data, sequence } = readOutput(reader) as DiskRequest
      const sectors = lengthBytes / sectorBytes
      return { operation, sector: Number(sector), sectors, data, station, sequence: isInFlight ? Number(sequence) : -1 }
    })
    reader.end()
    this.#outputs = []
  }

  startCopy(): MachineCopy {
    const due = new Set(Array.from({ length: memoryPages }, (_, page) => page))
    const written = new Set<number>()
    this.#written = written
    let round = 1
    this.#lookAtWritten = () => {
      for (const page of written) due.add(page)
      written.clear()
    }
    return {
      get duePages() {
        return due.size
      },
      get round() {
        return round
      },
      beginRound: () => {
        round++
        this.#lookAtWritten?.()
      },
      takePages: (maxPages) => {
        const writer = new ByteWriter()
        for (const page of [...due].slice(0, maxPages)) {
          due.delete(page)
          written.delete(page)
          writer.u32(page)
          for (const word of this.#pageAt(page)) writer.u32(word)
        }
        return writer.finish()
      },
      takeState: () => {
        // Standing still: what was written in the last round was taken with it, or is due.
        assert(due.size === 0, 'the state is taken after the last pages')
        return this.snapshot()
      },
      end: () => {
        this.#written = undefined
        this.#lookAtWritten = undefined
      },
    }
  }

  loadPages(pages: Uint8Array): void {
    const reader = new ByteReader(pages)
    while (reader.remaining > 0) {
      const page = this.#pageAt(reader.u32())
      for (let word = 0; word < pageWords; word++) page[word] = reader.u32()
    }
  }

  /** Memory is as the pages made it: the state's own is left alone. */
  loadState(state: Uint8Array): void {
    const memory = this.#memory.slice()
    this.restore(state)
    this.#memory.set(memory)
  }

  // ---- the guest -----------------------------------------------------------------------------------------------------

  /** Requests in flight stay in overlap ordering; nobody waits for their answers any more. */
  #boot(rngSeed: Uint8Array, wallClockNs: bigint): void {
    this.#isOn = true
    this.#isWaiting = false
    this.#deadline = 0n
    this.#heard = []
    this.#clock = { n0: BigInt(this.#count), ticks: 0n, rate: 0n, cap: 0n }
    this.#anchor = { wallClockNs, ticks: 0n }
    this.#requests = this.#requests.filter(({ sequence }) => sequence >= 0)
    this.#requests = this.#requests.map((request) => ({ ...request, station: -1 }))
    // What it has counted is kept in a battery, so to say; who waits for an answer asks again, and gets it then.
    for (const [number, station] of this.#stations) station.reply ??= this.#replyTo(number, station)
    this.#mixBytes(rngSeed)
  }

  #pageAt(page: number): Uint32Array {
    return this.#memory.subarray(page * pageWords, (page + 1) * pageWords)
  }

  /** A store: a few words of a few pages are written most of the time. */
  #store(): void {
    const page = this.#below(4) === 0 ? this.#below(memoryPages) : this.#below(4)
    this.#pageAt(page)[this.#below(pageWords)] = this.#lowState
    this.#written?.add(page)
  }

  /** The instruction at `#nextDeed`. */
  #do(): void {
    this.#store()
    if (this.#heard.length > 0 && this.#below(4) > 0) {
      this.#applyRequest()
      return
    }
    switch (this.#below(16)) {
      case 0:
        this.#emit({ kind: 'console', sequence: 0n, bytes: this.#someBytes(12) })
        return
      case 1:
      case 2:
        this.#request('read', -1)
        return
      case 3:
        this.#request('write', -1)
        return
      case 4:
        if (this.#below(3) === 0) this.#request(this.#below(2) === 0 ? 'discard' : 'writeZeroes', -1)
        return
      case 5:
        this.#request('flush', -1)
        return
      case 6:
        if (this.#below(4) === 0) this.#emit({ kind: 'entropyRequest', sequence: 0n, lengthBytes: 8 })
        return
      case 7:
        this.#emit({
          kind: 'frame',
          sequence: 0n,
          bytes: encodeReply(broadcast, machineMac, noStation, 0, this.#lowState),
        })
        return
      default:
        if (this.#heard.length > 0) return
        this.#isWaiting = true
        this.#deadline = this.ticks + BigInt(20_000 + this.#below(600_000))
    }
  }

  #onFrame(frame: Uint8Array): void {
    const request = readRequest(frame)
    if (!request) return
    const { station: number, id } = request
    let station = this.#stations.get(number)
    if (!station) {
      station = { mac: frame.slice(6, 12), lastId: 0, count: 0, reply: undefined }
      this.#stations.set(number, station)
    }
    // Asked again: its answer was lost, or is still to come.
    if (id === station.lastId && station.reply) this.#emit({ kind: 'frame', sequence: 0n, bytes: station.reply })
    else if (id > station.lastId) this.#heard.push(number, id)
  }

  #applyRequest(): void {
    const number = this.#heard.shift()!
    const id = this.#heard.shift()!
    const station = this.#stations.get(number)!
    if (id <= station.lastId) return
    station.lastId = id
    station.count++
    station.reply = undefined
    const way = this.#below(8)
    if (way < 3) this.#reply(number)
    else this.#request('write', number)
  }

  #reply(number: number): void {
    const station = this.#stations.get(number)
    if (!station) return
    station.reply = this.#replyTo(number, station)
    this.#emit({ kind: 'frame', sequence: 0n, bytes: station.reply })
  }

  #replyTo(number: number, { mac, lastId, count }: Station): Uint8Array {
    return encodeReply(mac, machineMac, number, lastId, count)
  }

  #request(operation: DiskOperation, station: number): void {
    if (this.#requests.length >= 12) {
      if (station >= 0) this.#reply(station)
      return
    }
    const sectors = operation === 'flush' ? 0 : 1 + this.#below(3)
    const sector = operation === 'flush' ? 0 : this.#below(diskSectors - sectors)
    const data = operation === 'write' ? this.#someSectors(sectors) : undefined
    const request: Work = { operation, sector, sectors, data, station, sequence: -1 }
    this.#requests.push(request)
    if (!this.#mustWait(this.#requests.length - 1)) this.#start(request)
  }

  #mustWait(position: number): boolean {
    const later = this.#requests[position]!
    if (later.operation === 'flush') return false
    for (let index = 0; index < position; index++) {
      const earlier = this.#requests[index]!
      const touch = earlier.sector < later.sector + later.sectors && later.sector < earlier.sector + earlier.sectors
      if (touch && (isChange(earlier.operation) || isChange(later.operation))) return true
    }
    return false
  }

  #start(request: Work): void {
    request.sequence = this.#nextSequence++
    this.#outputs.push(describe(request))
  }

  #onDiskAnswer({ sequence, status, data }: Extract<Input, { kind: 'diskCompletion' }>): void {
    const index = this.#requests.findIndex((request) => request.sequence === Number(sequence))
    assert(index >= 0, `an answer to disk request ${sequence}, which is not in flight`)
    const request = this.#requests[index]!
    const { operation, station } = request
    this.#mix(Number(sequence))
    if (status === 'uncertain') {
      // Nobody knows: the driver tries again, and what waits for the request goes on waiting.
      this.#start(request)
      return
    }
    this.#requests.splice(index, 1)
    this.#mix(status === 'ok' ? 1 : 2)
    if (data) this.#mixBytes(data)
    for (let position = 0; position < this.#requests.length; position++) {
      const request = this.#requests[position]!
      if (request.sequence < 0 && !this.#mustWait(position)) this.#start(request)
    }
    if (station < 0) return
    if (operation === 'write' && this.#below(3) === 0) this.#request('flush', station)
    else this.#reply(station)
  }

  // ---- small change --------------------------------------------------------------------------------------------------

  #planDeed(): void {
    this.#nextDeed = this.#count + 1 + this.#below(this.#heard.length > 0 ? 2000 : 30_000)
  }

  #mix(value: number): void {
    let low = Math.imul(this.#lowState ^ value, 0x9e37_79b1)
    low ^= low >>> 15
    let high = Math.imul(this.#highState + low, 0x85eb_ca77)
    high ^= high >>> 13
    this.#lowState = (low ^ (high >>> 7)) >>> 0
    this.#highState = high >>> 0
  }

  #mixBytes(bytes: Uint8Array): void {
    const hash = hash64(bytes)
    this.#mix(Number(hash & 0xffff_ffffn))
    this.#mix(Number(hash >> 32n))
  }

  /** Decided by the state, and changes it. */
  #below(limit: number): number {
    this.#mix(limit)
    return (this.#highState >>> 3) % limit
  }

  #someBytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    const view = new DataView(bytes.buffer)
    view.setUint32(0, this.#lowState)
    view.setUint32(4, this.#highState)
    view.setUint32(8, this.#nextSequence)
    return bytes
  }

  /** Each sector begins with a stamp that no other write has, so that a mixture is seen. */
  #someSectors(sectors: number): Uint8Array {
    const data = new Uint8Array(sectors * sectorBytes)
    const view = new DataView(data.buffer)
    for (let sector = 0; sector < sectors; sector++) {
      view.setUint32(sector * sectorBytes, this.#lowState)
      view.setUint32(sector * sectorBytes + 4, this.#nextSequence * 8 + sector + 1)
    }
    return data
  }

  #emit(output: Output): void {
    this.#outputs.push({ ...output, sequence: BigInt(this.#nextSequence++) })
  }
}

const broadcast = Uint8Array.of(255, 255, 255, 255, 255, 255)

function describe({ operation, sector, sectors, data, sequence }: Work): DiskRequest {
  const request = {
    kind: 'disk',
    sequence: BigInt(sequence),
    disk: 0,
    operation,
    sector: BigInt(sector),
    lengthBytes: sectors * sectorBytes,
  } as const
  return data ? { ...request, data } : request
}
