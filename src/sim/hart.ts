/**
 * The fake hart's thread: the real `Recorder`, `Replayer` and `ClockKeeper` around a machine, on fake time. It takes turns as
 * `host/processes/hart.ts` does: messages first, then the entries that time asks for, then a slice; what a slice made is told
 * when its time is over. Messages to and from the main thread take a moment, and the two threads run side by side.
 */

import { WorldError } from '../base/assert.ts'
import { ClockKeeper, type ClockPolicy, type HostTime } from '../hypervisor/clock-keeper.ts'
import { type CopyPolicy, LiveCopy, openState } from '../hypervisor/live-copy.ts'
import { Recorder } from '../hypervisor/recorder.ts'
import { type DiskAnswer, Replayer } from '../hypervisor/replayer.ts'
import type { LogBatch } from '../log/batch.ts'
import type { Divergence } from '../log/divergence.ts'
import type { LogEnd, MarkedOutput } from '../log/entry.ts'
import { type Input, instructionCount, type Machine, type StopReason } from '../machine/types.ts'
import type { Actor } from './actor.ts'
import type { Chance } from './chance.ts'
import type { DiskRequest } from './tiny-machine.ts'

export type ToHart =
  | { readonly kind: 'input'; readonly input: Input }
  | { readonly kind: 'append'; readonly batch: LogBatch }
  | { readonly kind: 'powerOn' }
  | { readonly kind: 'goLive' }
  | { readonly kind: 'pause'; readonly isPaused: boolean }
  | { readonly kind: 'cpuPercent'; readonly percent: number }
  | { readonly kind: 'startCopy'; readonly copy: number; readonly creditBytes: number }
  | { readonly kind: 'allowPages'; readonly copy: number; readonly bytes: number }
  | { readonly kind: 'endCopy'; readonly copy: number }
  | { readonly kind: 'loadPages'; readonly bytes: Uint8Array }
  | { readonly kind: 'loadState'; readonly state: Uint8Array }

export type FromHart =
  | { readonly kind: 'recorded'; readonly batches: readonly LogBatch[]; readonly outputs: readonly MarkedOutput[] }
  | {
      readonly kind: 'replayed'
      readonly replayedEnd: LogEnd
      readonly outputs: readonly MarkedOutput[]
      readonly diskAnswers: readonly DiskAnswer[]
    }
  | { readonly kind: 'diverged'; readonly divergence: Divergence }
  | { readonly kind: 'live'; readonly reissue: readonly DiskRequest[] }
  | { readonly kind: 'pages'; readonly copy: number; readonly bytes: Uint8Array }
  | { readonly kind: 'copied'; readonly copy: number; readonly state: Uint8Array }
  | { readonly kind: 'pagesLoaded'; readonly bytes: number }
  | { readonly kind: 'restored'; readonly inFlight: readonly DiskRequest[] }
  | { readonly kind: 'restoreFailed'; readonly detail: string }

export interface HartOptions {
  readonly actor: Actor
  readonly chance: Chance
  readonly machine: Machine
  readonly mode: 'live' | 'replaying'
  /** What the host's calendar says beside fake time; jumps with it. */
  readonly calendarOffsetMs: () => number
  readonly clockPolicy: ClockPolicy
  readonly digestEveryMs: number
  readonly onMessage: (message: FromHart) => void
  /** The moment in which entries exist and nobody else knows of them. */
  readonly onRecorded: (batch: LogBatch) => void
}

const instructionsPerUs = 10
const longestSliceUs = 2500
/** A page in a piece, and two in the last: so that a copy takes a while. */
const copyPolicy: CopyPolicy = { piecePages: 1, lastPages: 2, guestPercents: [100, 100, 50], maxRounds: 8 }
const calendarStartMs = 1_700_000_000_000

export class SimHart {
  readonly #options: HartOptions
  readonly machine: Machine
  /** How many times longer than usual it takes: other work keeps its host busy. */
  slowness = 1
  #recorder: Recorder | undefined
  #replayer: Replayer | undefined
  #keeper: ClockKeeper | undefined
  #outputs: MarkedOutput[] = []
  #stop: StopReason = { kind: 'off' }
  #nextDigestMs = 0
  #nextResyncMs = 0
  readonly #inbox: ToHart[] = []
  #isPaused = false
  #cpuPercent = 100
  #mayGoLive = false
  #isFinished = false
  #reported = -1n
  /** Inputs that came before the last turn of a replay. */
  readonly #early: Input[] = []
  /** The turn that is planned: an older plan is void. */
  #plan = 0
  #isInTurn = false
  /** As host/copy-sender.ts. */
  #copy: { readonly id: number; readonly live: LiveCopy } | undefined
  #creditBytes = 0
  #lastSendUs = 0
  #lastPostUs = 0

  constructor(options: HartOptions) {
    this.#options = options
    this.machine = options.machine
    if (options.mode === 'live') this.#recorder = new Recorder(options.machine)
    else this.#replayer = new Replayer(options.machine)
  }

  get isLive(): boolean {
    return this.#recorder !== undefined
  }

  /** Digests of the log that the machine agreed with. */
  get digestsCompared(): bigint {
    return this.#replayer?.digestsCompared ?? 0n
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

  /** At the end of a simulation: what it has written and not told. */
  takeLastBatches(): LogBatch[] {
    return this.#recorder?.takeBatches() ?? []
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
    for (const message of this.#inbox.splice(0)) if (!this.#isFinished) this.#onMessage(message)
    if (this.#isPaused) return
    if (this.#replayer) this.#replay(this.#replayer)
    else this.#run(this.#recorder!)
  }

  /** The rest of the turn's time passes; then what it made is told. */
  #endTurn(durationUs: number, then: () => void): void {
    this.#isInTurn = true
    const restUs = (durationUs * (100 - this.#cpuPercent)) / this.#cpuPercent
    this.#options.actor.after(durationUs, () => {
      then()
      this.#options.actor.after(Math.round(restUs), () => {
        this.#isInTurn = false
        this.#turn()
      })
    })
  }

  #post(message: FromHart): void {
    const { actor, chance, onMessage } = this.#options
    const nowUs = Math.round(actor.nowMs * 1000)
    this.#lastPostUs = Math.max(this.#lastPostUs, nowUs + chance.below(25))
    actor.after(this.#lastPostUs - nowUs, () => onMessage(message))
  }

  #onMessage(message: ToHart): void {
    switch (message.kind) {
      case 'input':
        if (this.#recorder) this.#input(message.input)
        else this.#early.push(message.input)
        return
      case 'append':
        this.#replayer?.append(message.batch)
        return
      case 'powerOn':
        this.#powerOn()
        return
      case 'goLive':
        this.#mayGoLive = true
        return
      case 'pause':
        this.#isPaused = message.isPaused
        return
      case 'cpuPercent':
        this.#cpuPercent = message.percent
        return
      case 'startCopy':
        this.#copy?.live.abandon()
        this.#copy = { id: message.copy, live: new LiveCopy(this.#recorder!, copyPolicy) }
        this.#creditBytes = message.creditBytes
        return
      case 'allowPages':
        if (this.#copy?.id === message.copy) this.#creditBytes += message.bytes
        return
      case 'endCopy':
        if (this.#copy?.id !== message.copy) return
        this.#copy.live.abandon()
        this.#copy = undefined
        return
      case 'loadPages':
        this.#restore(() => {
          this.machine.loadPages(message.bytes)
          this.#post({ kind: 'pagesLoaded', bytes: message.bytes.length })
        })
        return
      case 'loadState':
        this.#restore(() => {
          this.#replayer = openState(this.machine, message.state)
          this.#post({ kind: 'restored', inFlight: this.machine.inFlightDiskRequests() })
        })
    }
  }

  #restore(load: () => void): void {
    try {
      load()
    } catch (error) {
      if (!(error instanceof WorldError)) throw error
      this.#isFinished = true
      this.#post({ kind: 'restoreFailed', detail: error.message })
    }
  }

  /** One piece of the copy, or the last round and the rest: when all that was recorded is told. */
  #workOnCopy(): void {
    const copy = this.#copy
    if (!copy || (!copy.live.isReadyToFinish && this.#creditBytes < copy.live.pieceBytes)) return
    const { id, live } = copy
    const postPages = (bytes: Uint8Array): void => {
      if (bytes.length === 0) return
      this.#creditBytes -= bytes.length
      this.#post({ kind: 'pages', copy: id, bytes })
    }
    if (!live.isReadyToFinish) {
      postPages(live.nextPiece())
      return
    }
    live.fixPlace()
    this.#flush()
    const { pages, state } = live.finish()
    for (const piece of pages) postPages(piece)
    this.#post({ kind: 'copied', copy: id, state })
    this.#copy = undefined
  }

  // ---- live ----------------------------------------------------------------------------------------------------------

  #hostTime(): HostTime {
    const { actor, calendarOffsetMs } = this.#options
    const { nowMs } = actor
    const wallClockMs = calendarStartMs + nowMs + calendarOffsetMs()
    return { monotonicNs: ns(nowMs), wallClockNs: ns(wallClockMs) }
  }

  #powerOn(): void {
    this.#apply({ kind: 'boot', rngSeed: this.#options.chance.bytes(8), wallClockNs: this.#hostTime().wallClockNs })
    this.#startClock()
  }

  #startClock(): void {
    const anchor = this.machine.clockAnchor
    if (!anchor) return
    const now = this.#hostTime()
    this.#keeper = new ClockKeeper(anchor, this.machine.ticks, now, this.#options.clockPolicy)
    const { nowMs } = this.#options.actor
    this.#nextResyncMs = nowMs + 1000
    this.#nextDigestMs = nowMs + this.#options.digestEveryMs
    const entry = this.#keeper.entryWhileRunning(now.monotonicNs, this.machine.ticks)
    if (entry) this.#apply(entry)
    this.#stop = { kind: 'count' }
  }

  #input(input: Input): void {
    if (this.#stop.kind === 'waiting') {
      const entry = this.#keeper?.entryBeforeInput(ns(this.#options.actor.nowMs), this.machine.ticks)
      if (entry) this.#apply(entry)
    }
    this.#apply(input)
  }

  #run(recorder: Recorder): void {
    const { chance, actor } = this.#options
    const { machine } = this
    const keeper = this.#keeper
    if (!keeper || this.#stop.kind === 'off') {
      this.#flush()
      return
    }
    const nowNs = ns(actor.nowMs)
    this.#keepTime(keeper, nowNs)
    const before = Number(machine.count)
    const slice = (1 + chance.below(longestSliceUs)) * instructionsPerUs
    const { stop, outputs } = recorder.run(instructionCount(BigInt(before + slice)))
    this.#stop = stop
    const ran = Number(machine.count) - before
    const durationUs = Math.ceil((ran / instructionsPerUs) * this.slowness)
    if (stop.kind !== 'waiting') keeper.onRan(BigInt(ran), BigInt(durationUs) * 1000n)
    this.#handle(outputs)
    if (stop.kind === 'waiting') {
      this.#flush()
      this.#workOnCopy()
      const untilNs = keeper.sleepUntilNs(nowNs, machine.ticks, stop.deadline)
      const sleepUs = Math.max(1, Math.ceil(Number(untilNs - nowNs) / 1000))
      // While it is copied, a sleeping guest's hart goes on with that.
      this.#planTurn(this.#copy ? Math.min(sleepUs, 200) : sleepUs)
    } else {
      this.#endTurn(durationUs, () => {
        this.#flush()
        this.#workOnCopy()
      })
    }
  }

  #keepTime(keeper: ClockKeeper, nowNs: bigint): void {
    const { machine } = this
    const { nowMs } = this.#options.actor
    const entry =
      this.#stop.kind === 'waiting'
        ? keeper.entryWhileWaiting(nowNs, machine.ticks, this.#stop.deadline)
        : keeper.entryWhileRunning(nowNs, machine.ticks)
    if (entry) this.#apply(entry)
    if (nowMs >= this.#nextResyncMs) {
      this.#nextResyncMs = nowMs + 1000
      if (machine.clockAnchor) keeper.resync(this.#hostTime(), machine.clockAnchor)
    }
    if (nowMs >= this.#nextDigestMs) {
      this.#nextDigestMs = nowMs + this.#options.digestEveryMs
      this.#recorder!.entryDigest()
    }
  }

  #apply(input: Input): void {
    this.#handle(this.#recorder!.apply(input))
  }

  #handle(outputs: readonly MarkedOutput[]): void {
    for (const marked of outputs) {
      const { output } = marked
      if (output.kind === 'entropyRequest') {
        this.#apply({ kind: 'entropy', bytes: this.#options.chance.bytes(output.lengthBytes) })
      } else this.#outputs.push(marked)
      if (output.kind === 'power') this.#powerOn()
    }
  }

  #flush(): void {
    const batches = this.#recorder!.takeBatches()
    if (batches.length === 0 && this.#outputs.length === 0) return
    for (const batch of batches) this.#options.onRecorded(batch)
    this.#post({ kind: 'recorded', batches, outputs: this.#outputs })
    this.#outputs = []
  }

  // ---- replaying -----------------------------------------------------------------------------------------------------

  #replay(replayer: Replayer): void {
    const { chance } = this.#options
    const before = Number(this.machine.count)
    const { state, outputs, diskAnswers } = replayer.run(BigInt(1000 + chance.below(100_000)))
    const durationUs = 5 + Math.ceil(((Number(this.machine.count) - before) / instructionsPerUs / 2) * this.slowness)
    const { replayedEnd } = replayer
    this.#endTurnOfReplay(durationUs, () => {
      if (outputs.length > 0 || replayedEnd !== this.#reported) {
        this.#reported = replayedEnd
        this.#post({ kind: 'replayed', replayedEnd, outputs, diskAnswers })
      }
      if (state.kind === 'diverged') {
        this.#isFinished = true
        this.#post({ kind: 'diverged', divergence: state.divergence })
        return false
      }
      if (state.kind === 'needsEntries' && this.#mayGoLive && this.#inbox.length === 0) this.#goLive(replayer)
      return state.kind === 'progress' || this.#inbox.length > 0 || this.#recorder !== undefined
    })
  }

  #endTurnOfReplay(durationUs: number, then: () => boolean): void {
    this.#isInTurn = true
    this.#options.actor.after(durationUs, () => {
      this.#isInTurn = false
      if (then()) this.#turn()
    })
  }

  #goLive(replayer: Replayer): void {
    const { recorder, outputs, reissue } = replayer.goLive()
    this.#replayer = undefined
    this.#recorder = recorder
    this.#post({ kind: 'live', reissue })
    if (recorder.nextIndex === 0n) this.#powerOn()
    else this.#startClock()
    const { entropyRequests, powerRequest } = recorder.obligations
    for (const request of [...entropyRequests]) {
      this.#apply({ kind: 'entropy', bytes: this.#options.chance.bytes(request.lengthBytes) })
    }
    if (powerRequest) this.#powerOn()
    this.#handle(outputs.filter(({ output }) => output.kind !== 'entropyRequest' && output.kind !== 'power'))
    this.#stop = { kind: 'count' }
    for (const input of this.#early.splice(0)) this.#input(input)
  }
}

function ns(ms: number): bigint {
  return BigInt(Math.round(ms * 1000)) * 1000n
}
