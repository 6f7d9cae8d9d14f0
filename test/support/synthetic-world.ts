/**
 * A live world without a host: it drives a Recorder as the hart's thread does, but its clock is a number that grows with
 * the instructions run, its disk and its network answer after a while of that time, and everything random comes from one
 * seed. So a recording is made at once, has nothing of the host's in it, and can be made again.
 *
 *   nowNs ──► clock entries (ClockKeeper)      outputs ──► disk, station, entropy ──► events at a later nowNs ──► inputs
 *
 * The speed of the synthetic host changes all the time, so that clock entries, answers and frames land on every sort of
 * instruction. The disk answers out of order.
 */

import assert from 'node:assert/strict'
import { Prng } from '../../src/base/prng.ts'
import { ClockKeeper, type HostTime } from '../../src/hypervisor/clock-keeper.ts'
import { Recorder } from '../../src/hypervisor/recorder.ts'
import type { MarkedOutput } from '../../src/log/entry.ts'
import {
  type Input,
  type InstructionCount,
  instructionCount,
  type Machine,
  type StopReason,
} from '../../src/machine/types.ts'
import type { MemoryDisk } from './memory-disk.ts'

/** Somebody on the guest's network. Frames it returns reach the guest a little later. */
export interface Station {
  onFrame(frame: Uint8Array): Uint8Array[]
  /** Called every 10 ms of synthetic time, from the start. */
  onTick(): Uint8Array[]
}

export interface WorldParts {
  readonly seed: number
  readonly disk?: MemoryDisk
  readonly station?: Station
  readonly onConsole?: (text: string) => void
  /** The longest stretch without a look at the clock; the hart's thread has 25,000. */
  readonly longestSlice?: bigint
  /** Between these the synthetic host changes its speed. Default: 2,000 to 10,000, or 500 to 100 MIPS. */
  readonly psPerInstruction?: { readonly least: number; readonly most: number }
}

interface Event {
  readonly atNs: bigint
  readonly happen: () => void
}

const bootWallClockNs = 1_700_000_000_000_000_000n
const tickNs = 10_000_000n
const defaultPsPerInstruction = { least: 2_000, most: 10_000 }

export class SyntheticWorld {
  readonly recorder: Recorder
  readonly #parts: WorldParts
  readonly #prng: Prng
  #keeper: ClockKeeper | undefined
  #nowNs = 5_000_000_000n
  #psPerInstruction: number
  /** Ordered by time; equal times in order of arrival. */
  #events: Event[] = []
  #stop: StopReason = { kind: 'off' }
  #nextFrameId = 0n
  #nextResyncNs = 0n
  #boots = 0
  readonly #consoleText = new TextDecoder()

  constructor(machine: Machine, parts: WorldParts) {
    this.recorder = new Recorder(machine)
    this.#parts = parts
    this.#prng = new Prng(parts.seed)
    this.#psPerInstruction = (parts.psPerInstruction ?? defaultPsPerInstruction).least
  }

  get machine(): Machine {
    return this.recorder.machine
  }

  /** Whether the guest sleeps. */
  get isWaiting(): boolean {
    return this.#stop.kind === 'waiting'
  }

  powerOn(): void {
    this.#boot()
    this.#tick()
  }

  /** How often the machine was booted. */
  get boots(): number {
    return this.#boots
  }

  #boot(): void {
    const wallClockNs = this.#time.wallClockNs
    this.#apply({ kind: 'boot', rngSeed: this.#prng.bytes(64), wallClockNs })
    const anchor = this.machine.clockAnchor
    assert.ok(anchor)
    this.#keeper = new ClockKeeper(anchor, this.machine.ticks, this.#time)
    this.#stop = { kind: 'count' }
    this.#boots++
  }

  /** Somebody types on the guest's console: in a moment, since only a turn lets things in. */
  type(text: string): void {
    this.#after(0, () => this.#arrive({ kind: 'consoleInput', bytes: new TextEncoder().encode(text) }))
  }

  get #time(): HostTime {
    return { monotonicNs: this.#nowNs, wallClockNs: bootWallClockNs + this.#nowNs }
  }

  /** Lets the world go on until this many instructions are run, or `isDone` says so between two slices. */
  runTo(count: bigint, isDone: () => boolean = () => false): void {
    while (this.machine.count < count && !isDone()) {
      assert.notEqual(this.#stop.kind, 'off', `the guest went off at instruction ${this.machine.count}`)
      this.#turn(count)
    }
  }

  /** As `Live.turn` of the hart's thread. */
  #turn(limit: bigint): void {
    const keeper = this.#keeper!
    const { machine } = this
    this.#deliverDue()
    const entry =
      this.#stop.kind === 'waiting'
        ? keeper.entryWhileWaiting(this.#nowNs, machine.ticks, this.#stop.deadline)
        : keeper.entryWhileRunning(this.#nowNs, machine.ticks)
    if (entry) this.#apply(entry)
    if (this.#nowNs >= this.#nextResyncNs && machine.clockAnchor) {
      this.#nextResyncNs = this.#nowNs + 1_000_000_000n
      keeper.resync(this.#time, machine.clockAnchor)
    }
    const before = machine.count
    const { stop, outputs } = this.recorder.run(this.#nextStop(before, limit))
    this.#stop = stop
    const ran = machine.count - before
    const durationNs = (ran * BigInt(this.#psPerInstruction)) / 1000n
    this.#nowNs += durationNs
    if (stop.kind !== 'waiting') keeper.onRan(ran, durationNs)
    if (this.#prng.chance(0.02)) this.#changeSpeed()
    this.#handle(outputs)
    if (stop.kind === 'waiting') this.#sleep(keeper.sleepUntilNs(this.#nowNs, machine.ticks, stop.deadline))
  }

  #changeSpeed(): void {
    const { least, most } = this.#parts.psPerInstruction ?? defaultPsPerInstruction
    this.#psPerInstruction = least + this.#prng.below(most - least)
  }

  #nextStop(count: InstructionCount, limit: bigint): InstructionCount {
    let slice = this.#parts.longestSlice ?? 25_000n
    const shorten = (other: bigint) => {
      if (other < slice) slice = other
    }
    shorten(limit - count)
    shorten(this.#keeper!.sliceInstructions)
    const next = this.#events[0]
    // To the instruction at which the next event is due, and at least one.
    if (next) shorten(((next.atNs - this.#nowNs) * 1000n) / BigInt(this.#psPerInstruction) + 1n)
    return instructionCount(count + slice)
  }

  #sleep(untilNs: bigint): void {
    const next = this.#events[0]
    const wakeNs = next && next.atNs < untilNs ? next.atNs : untilNs
    if (wakeNs > this.#nowNs) this.#nowNs = wakeNs
  }

  #deliverDue(): void {
    for (let next = this.#events[0]; next && next.atNs <= this.#nowNs; next = this.#events[0]) {
      this.#events.shift()
      next.happen()
    }
  }

  #after(delayNs: number, happen: () => void): void {
    const atNs = this.#nowNs + BigInt(delayNs)
    const later = this.#events.findIndex((event) => event.atNs > atNs)
    this.#events.splice(later < 0 ? this.#events.length : later, 0, { atNs, happen })
  }

  /** An input that may wake a waiting hart, so guest time is brought up to date first. */
  #arrive(input: Input): void {
    const { machine } = this
    if (this.#stop.kind === 'waiting') {
      const entry = this.#keeper!.entryBeforeInput(this.#nowNs, machine.ticks)
      if (entry) this.#apply(entry)
    }
    this.#apply(input)
  }

  #apply(input: Input): void {
    this.#handle(this.recorder.apply(input))
  }

  #handle(outputs: readonly MarkedOutput[]): void {
    for (const { output } of outputs) {
      switch (output.kind) {
        case 'console':
          this.#parts.onConsole?.(this.#consoleText.decode(output.bytes, { stream: true }))
          break
        case 'disk': {
          assert.ok(this.#parts.disk, 'a disk request in a world without a disk')
          const completion = this.#parts.disk.answer(output)
          this.#after(20_000 + this.#prng.below(300_000), () => this.#arrive(completion))
          break
        }
        case 'frame':
          this.#send(this.#parts.station?.onFrame(output.bytes) ?? [])
          break
        case 'entropyRequest':
          this.#apply({ kind: 'entropy', bytes: this.#prng.bytes(output.lengthBytes) })
          break
        case 'power':
          this.#stop = { kind: 'off' }
          if (output.action === 'reboot') this.#boot()
          break
      }
    }
  }

  #tick(): void {
    this.#send(this.#parts.station?.onTick() ?? [])
    this.#after(Number(tickNs), () => this.#tick())
  }

  #send(frames: readonly Uint8Array[]): void {
    let delayNs = 30_000
    for (const bytes of frames) {
      delayNs += this.#prng.below(60_000)
      const frameId = this.#nextFrameId++
      this.#after(delayNs, () => this.#arrive({ kind: 'frame', frameId, bytes }))
    }
  }
}
