/**
 * The fake thread of a hart: the real `HartDriver` on fake time. A turn is carried out in one moment of the simulation, and
 * takes as long as its instructions do: the thread's clock goes on with them, and what the turn says is told when its time has
 * come. Messages to and from the main thread take a moment, and the two threads run side by side.
 */

import type { LogBatch } from '../log/batch.ts'
import type { Discipline } from '../log/discipline.ts'
import { type LogEnd, logIndex } from '../log/entry.ts'
import type { Machine } from '../machine/types.ts'
import { HartDriver } from '../replica/hart-driver.ts'
import type { FromHart, ToHart } from '../replica/hart-messages.ts'
import type { HartPolicy, HartWorld } from '../replica/hart-world.ts'
import type { Actor } from './actor.ts'
import type { Chance } from './chance.ts'

export interface HartOptions {
  readonly actor: Actor
  readonly chance: Chance
  readonly machine: Machine
  readonly mode: 'live' | 'replaying'
  /** What the host's calendar says beside fake time; jumps with it. */
  readonly calendarOffsetMs: () => number
  readonly policy: HartPolicy
  readonly discipline: Discipline
  readonly digestEveryMs: number
  readonly leavesOutReads: boolean
  readonly onMessage: (message: FromHart) => void
  /** The moment in which entries exist and nobody else knows of them. */
  readonly onRecorded: (batch: LogBatch) => void
}

/** Nanoseconds that an instruction takes, executed for the first time and replayed. */
const liveNs = 100
const replayNs = 50
/** A turn takes so long at least: the way in and out. */
const leastTurnUs = 5
const calendarStartNs = 1_700_000_000_000_000_000n

export class SimHart {
  readonly #options: HartOptions
  readonly machine: Machine
  /** How many times longer than usual it takes: other work keeps its host busy. */
  slowness = 1
  readonly #driver: HartDriver
  readonly #inbox: ToHart[] = []
  #isFinished = false
  /** The turn that is planned: an older plan is void. */
  #plan = 0
  #isInTurn = false
  /** An acknowledgement came. */
  #isRung = false
  /** As the product's shared cell: until somebody says something, there is a backup to wait for. */
  #acknowledgedEnd: LogEnd | undefined = logIndex(0n)
  /** The machine's count when its turn began; undefined while it stands. */
  #countAtTurn: bigint | undefined
  #lastSendUs = 0
  #lastPostUs = 0
  /** Written, and its time to be told has not come. */
  #untold: LogBatch[] = []

  constructor(options: HartOptions) {
    this.#options = options
    this.machine = options.machine
    this.#driver = new HartDriver(options.machine, options.mode, this.#world())
  }

  #world(): HartWorld {
    const { policy, discipline, digestEveryMs, leavesOutReads, chance, calendarOffsetMs } = this.#options
    return {
      policy,
      discipline,
      digestEveryMs,
      leavesOutReads,
      nowNs: () => this.nowNs,
      wallClockNs: () => calendarStartNs + this.nowNs + nsOf(calendarOffsetMs()),
      randomBytes: (lengthBytes) => chance.bytes(lengthBytes),
      post: (message) => this.#post(message),
      showProgress: () => {},
      showDigestsCompared: () => {},
      onFrameEntered: () => {},
      // What comes while a turn is carried out comes after its moment.
      isRung: () => false,
      acknowledgedEnd: () => this.#acknowledgedEnd,
    }
  }

  /** The thread's clock. */
  get nowNs(): bigint {
    return nsOf(this.#options.actor.nowMs) + BigInt(this.#ranUs()) * 1000n
  }

  /** So long has the machine run since its turn began. */
  #ranUs(): number {
    if (this.#countAtTurn === undefined) return 0
    const instructions = Number(this.machine.count - this.#countAtTurn)
    const ns = instructions * (this.#driver.recorder ? liveNs : replayNs) * this.slowness
    return Math.ceil(ns / 1000)
  }

  send(message: ToHart): void {
    const { actor, chance } = this.#options
    // The queue between threads keeps its order.
    const nowUs = Math.round(actor.nowMs * 1000)
    this.#lastSendUs = Math.max(this.#lastSendUs, nowUs + 1 + chance.below(30))
    actor.after(this.#lastSendUs - nowUs, () => {
      this.#inbox.push(message)
      if (!this.#isInTurn) this.#planTurn(0)
    })
  }

  /** The main thread writes it where the hart's thread reads it, and wakes it. */
  acknowledged(end: LogEnd | undefined): void {
    if (end === this.#acknowledgedEnd) return
    this.#acknowledgedEnd = end
    this.#isRung = true
    if (!this.#isInTurn) this.#planTurn(1 + this.#options.chance.below(30))
  }

  /** At the end of a simulation: what it has written and not told. */
  takeLastBatches(): LogBatch[] {
    return [...this.#untold, ...(this.#driver.recorder?.takeBatches() ?? [])]
  }

  /** For fault trials: it takes no turn any more. */
  hang(): void {
    this.#isFinished = true
  }

  #planTurn(delayUs: number): void {
    const plan = ++this.#plan
    this.#options.actor.after(delayUs, () => {
      if (plan === this.#plan) this.#turn()
    })
  }

  #turn(): void {
    if (this.#isFinished) return
    this.#isInTurn = true
    this.#isRung = false
    for (const message of this.#inbox.splice(0)) this.#driver.onMessage(message)
    this.#countAtTurn = this.machine.count
    const turn = this.#driver.turn()
    const tookUs = Math.max(leastTurnUs, this.#ranUs())
    this.#countAtTurn = undefined
    const restUs = turn !== 'again' && 'restNs' in turn ? Math.round(Number(turn.restNs) / 1000) : 0
    const { actor } = this.#options
    actor.after(tookUs + restUs, () => {
      this.#isInTurn = false
      if (turn === 'again' || 'restNs' in turn || this.#inbox.length > 0 || this.#isRung) this.#turn()
      else if (turn.sleepUntilNs !== undefined) {
        this.#planTurn(Math.max(0, Math.ceil(Number(turn.sleepUntilNs - this.nowNs) / 1000)))
      }
    })
  }

  /** Told when the thread's time has come to where it is now, and a moment later. */
  #post(message: FromHart): void {
    const { actor, onRecorded } = this.#options
    const batches = message.kind === 'recorded' ? message.batches : []
    this.#untold.push(...batches)
    actor.after(Math.max(leastTurnUs, this.#ranUs()), () => {
      this.#untold.splice(0, batches.length)
      for (const batch of batches) onRecorded(batch)
      this.#deliver(message)
    })
  }

  /** The queue between threads keeps its order. */
  #deliver(message: FromHart): void {
    const { actor, chance, onMessage } = this.#options
    const nowUs = Math.round(actor.nowMs * 1000)
    this.#lastPostUs = Math.max(this.#lastPostUs, nowUs + chance.below(25))
    actor.after(this.#lastPostUs - nowUs, () => onMessage(message))
  }
}

function nsOf(ms: number): bigint {
  return BigInt(Math.round(ms * 1000)) * 1000n
}
