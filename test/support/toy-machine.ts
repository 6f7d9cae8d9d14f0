/**
 * A toy that keeps the contract of `Machine` and nothing else: for tests of the log, the hypervisor and the protocol,
 * where a real machine would be slow and beside the point.
 *
 * Its state is a counter and a hash. Every instruction mixes the hash; now and then, decided by the hash alone, an
 * instruction sends frames, writes or reads the disk, prints, asks for entropy, or waits. Inputs are mixed in where they
 * are applied, so one input at another instruction changes everything that follows: what a replay test needs.
 */

import { assert } from '../../src/base/assert.ts'
import { ByteReader, ByteWriter } from '../../src/base/bytes.ts'
import { hash64 } from '../../src/base/digest.ts'
import { readOutput, writeOutput } from '../../src/log/output-codec.ts'
import {
  type ClockAnchor,
  type Input,
  type InstructionCount,
  instructionCount,
  type Machine,
  type MachineConfig,
  type MachineCopy,
  type Output,
  type StopReason,
  type Ticks,
} from '../../src/machine/types.ts'

type DiskRequest = Extract<Output, { kind: 'disk' }>
type Unnumbered<T> = T extends Output ? Omit<T, 'sequence'> : never

const multiplier = 0x9e37_79b9_7f4a_7c15n

export const toyConfig: MachineConfig = {
  ramBytes: 64 * 1024 * 1024,
  disks: [{ sectors: 1024n, readOnly: false, serial: 'toy' }],
  nic: { mac: Uint8Array.of(2, 0, 0, 0, 0, 1) },
}

/** How often, in instructions, the toy does what. 0: never. */
export interface ToyHabits {
  readonly frameEvery: number
  readonly diskEvery: number
  readonly consoleEvery: number
  readonly entropyEvery: number
  readonly waitEvery: number
}

export const toyHabits: ToyHabits = {
  frameEvery: 53,
  diskEvery: 97,
  consoleEvery: 211,
  entropyEvery: 499,
  waitEvery: 307,
}

export class ToyMachine implements Machine {
  readonly config: MachineConfig
  readonly #habits: ToyHabits
  #count = 0n
  #state = 0n
  #isOn = false
  #isWaiting = false
  #outputs: Output[] = []
  #nextSequence = 0n
  #inFlight: DiskRequest[] = []
  /** A request to the sector of one in flight starts only after it: the overlap rule in small. */
  #queued: Unnumbered<DiskRequest>[] = []
  #clock = { n0: 0n, ticks: 0n, rate: 0n, cap: 0n }
  #anchor: ClockAnchor | undefined

  constructor(habits: ToyHabits = toyHabits, config: MachineConfig = toyConfig) {
    this.#habits = habits
    this.config = config
  }

  get count(): InstructionCount {
    return instructionCount(this.#count)
  }

  get ticks(): Ticks {
    const { n0, ticks, rate, cap } = this.#clock
    const passed = ((this.#count - n0) * rate) >> 32n
    return ticks + (passed < cap ? passed : cap)
  }

  readonly hasPowerButtonDriver = false
  /** Whatever a test says: the toy takes every frame. */
  frameRoom = Number.POSITIVE_INFINITY

  get clockAnchor(): ClockAnchor | undefined {
    return this.#anchor
  }

  /** For tests: what a broken machine would do to itself. */
  corrupt(): void {
    this.#state ^= 1n
  }

  run(until: InstructionCount): StopReason {
    if (!this.#isOn) return { kind: 'off' }
    if (this.#isWaiting) return { kind: 'waiting', deadline: this.ticks + 1000n }
    while (this.#count < until) {
      this.#count++
      this.#mix(this.#count)
      const draw = Number(this.#state >> 20n)
      const does = (every: number, lane: number) => every > 0 && (draw + lane) % every === 0
      if (does(this.#habits.frameEvery, 1)) {
        for (let frames = 1 + Number((this.#state >> 8n) % 3n); frames > 0; frames--) this.#sendFrame()
      }
      if (does(this.#habits.diskEvery, 2)) this.#useDisk()
      if (does(this.#habits.consoleEvery, 3)) this.#emit({ kind: 'console', bytes: this.#someBytes(8) })
      if (does(this.#habits.entropyEvery, 4)) this.#emit({ kind: 'entropyRequest', lengthBytes: 16 })
      if (does(this.#habits.waitEvery, 5)) this.#isWaiting = true
      if (this.#outputs.length > 0) return { kind: 'outputs' }
      if (this.#isWaiting) return { kind: 'waiting', deadline: this.ticks + 1000n }
    }
    return { kind: 'count' }
  }

  apply(input: Input): void {
    if (input.kind === 'boot') {
      this.#isOn = true
      this.#isWaiting = false
      this.#clock = { n0: this.#count, ticks: 0n, rate: 0n, cap: 0n }
      this.#anchor = { wallClockNs: input.wallClockNs, ticks: this.ticks }
    }
    assert(this.#isOn, 'input for a machine that is off')
    switch (input.kind) {
      case 'boot':
        this.#mixBytes(input.rngSeed)
        return
      case 'clock':
        assert(input.ticks >= this.ticks, 'guest time went back')
        this.#clock = { n0: this.#count, ticks: input.ticks, rate: input.ratePer2p32, cap: input.capTicks }
        this.#mix(input.ticks)
        this.#isWaiting = false
        return
      case 'diskCompletion': {
        const request = this.#inFlight.find((candidate) => candidate.sequence === input.sequence)
        assert(request, `completion of unknown request ${input.sequence}`)
        this.#inFlight = this.#inFlight.filter((candidate) => candidate !== request)
        this.#mix(input.sequence)
        if (input.data) this.#mixBytes(input.data)
        this.#isWaiting = false
        if (input.status === 'uncertain') {
          // As Linux does after VIRTIO_SCSI_S_RESET: the same request once more.
          this.#startRequest(request)
          return
        }
        const next = this.#queued.findIndex((queued) => queued.sector === request.sector)
        if (next >= 0) this.#startRequest(this.#queued.splice(next, 1)[0]!)
        return
      }
      case 'frame':
        this.#mix(input.frameId)
        this.#mixBytes(input.bytes)
        this.#isWaiting = false
        return
      case 'consoleInput':
      case 'entropy':
        this.#mixBytes(input.bytes)
        this.#isWaiting = false
        return
      case 'powerButton':
        this.#isOn = false
        this.#emit({ kind: 'power', action: 'off', failed: false })
    }
  }

  takeOutputs(): Output[] {
    return this.#outputs.splice(0)
  }

  inFlightDiskRequests(): DiskRequest[] {
    return [...this.#inFlight]
  }

  digest(): bigint {
    return hash64(this.snapshot())
  }

  snapshot(): Uint8Array {
    const { n0, ticks, rate, cap } = this.#clock
    const writer = new ByteWriter().u64(this.#count).u64(this.#state).bool(this.#isOn).bool(this.#isWaiting)
    writer.u64(this.#nextSequence).u64(n0).u64(ticks).u64(rate).u64(cap)
    for (const list of [this.#inFlight, this.#queued.map((request) => ({ ...request, sequence: 0n }))]) {
      writer.u32(list.length)
      for (const request of list) writeOutput(writer, request)
    }
    return writer.finish()
  }

  restore(snapshot: Uint8Array): void {
    const reader = new ByteReader(snapshot)
    this.#count = reader.u64()
    this.#state = reader.u64()
    this.#isOn = reader.bool()
    this.#isWaiting = reader.bool()
    this.#nextSequence = reader.u64()
    this.#clock = { n0: reader.u64(), ticks: reader.u64(), rate: reader.u64(), cap: reader.u64() }
    const list = () => Array.from({ length: reader.u32() }, () => readOutput(reader) as DiskRequest)
    this.#inFlight = list()
    this.#queued = list()
    this.#outputs = []
  }

  /** Its state is its only page. */
  startCopy(): MachineCopy {
    let round = 1
    return {
      duePages: 0,
      get round() {
        return round
      },
      beginRound: () => void round++,
      takePages: () => new Uint8Array(),
      takeState: () => this.snapshot(),
      end: () => {},
    }
  }

  loadPages(): void {}

  loadState(state: Uint8Array): void {
    this.restore(state)
  }

  #mix(value: bigint): void {
    const mixed = BigInt.asUintN(64, (this.#state ^ value) * multiplier + 1n)
    this.#state = mixed ^ (mixed >> 29n)
  }

  #mixBytes(bytes: Uint8Array): void {
    this.#mix(hash64(bytes))
  }

  #someBytes(length: number): Uint8Array {
    return new ByteWriter().u64(this.#state).u64(this.#nextSequence).finish().subarray(0, length)
  }

  #emit(output: Unnumbered<Output>): Output {
    const numbered = { ...output, sequence: this.#nextSequence++ } as Output
    this.#outputs.push(numbered)
    return numbered
  }

  #sendFrame(): void {
    this.#emit({ kind: 'frame', bytes: this.#someBytes(16) })
  }

  #useDisk(): void {
    const sector = (this.#state >> 12n) % 4n
    const isWrite = ((this.#state >> 16n) & 1n) === 1n
    const request = { kind: 'disk', disk: 0, sector, lengthBytes: 16 } as const
    const complete = isWrite
      ? ({ ...request, operation: 'write', data: this.#someBytes(16) } as const)
      : ({ ...request, operation: 'read' } as const)
    if (this.#inFlight.some((other) => other.sector === sector)) this.#queued.push(complete)
    else this.#startRequest(complete)
  }

  #startRequest(request: Unnumbered<DiskRequest>): void {
    this.#inFlight.push(this.#emit(request) as DiskRequest)
  }
}
