/**
 * The primary's side of Bressoud & Schneider's protocol: a way of driving a Recorder in epochs. The rules by their names:
 *
 *   P0          an environment value is let in at its instruction, and sent             `environmentValue`
 *   P1          an interrupt in epoch E is buffered for the end of E, [E, Int] is sent  `onInterrupt`, `endEpoch`
 *   P2          at the end of E: send [Tme]; await acknowledgement of everything sent;
 *               deliver what is buffered and the timers that Tme implies; send
 *               [end, E]; start E + 1                                                   `endEpoch`, `run`
 *   P2 revised  no wait there; instead, at an output, everything sent is awaited        `run`
 *
 *   ── E runs ──┤ [E, Int] … [Tme] │ original: wait │ [end, E] ├── E + 1 runs ──
 *
 * [E, Int] is the ordinary entry of the input, [Tme] a clock entry, [end, E] an `epochEnd` entry, and all of them stand at
 * the count at which E ended. So a Replayer needs to know nothing of epochs, and a backup is one epoch behind by
 * itself: it runs to the end of E when entries say where that is. Two things follow that are not in the paper:
 * [E, Int] is sent at the end of E, because an epoch that the waiting hart ends early has no place before;
 * and *letting in* comes before the wait, while the hart stands: the guest is interrupted only after it.
 *
 * Sans I/O: the caller says what time it is, sends the Recorder's batches before it waits for anything, and says what
 * is acknowledged. Whether an output may leave is the output gate's business (replication/output-gate.ts): the Output
 * Rule holds under either P2, so an original primary's outputs wait in the middle of an epoch too.
 */

import { assert } from '../../base/assert.ts'
import type { EpochDiscipline } from '../../log/discipline.ts'
import { type LogEnd, logIndex, type MarkedOutput } from '../../log/entry.ts'
import { obeysOutputRule } from '../../log/output-rule.ts'
import {
  type InstructionCount,
  instructionCount,
  type Output,
  type StopReason,
  type Ticks,
} from '../../machine/types.ts'
import type { Recorder } from '../recorder.ts'
import type { EpochPosition } from './epoch-position.ts'
import { type EnvironmentValue, type Interrupt, uncertainInterrupt } from './interrupts.ts'

type DiskRequest = Extract<Output, { kind: 'disk' }>

/** Why `run` came back. */
export type EpochStop =
  /** `maxInstructions` are run; the epoch goes on. */
  | { readonly kind: 'slice' }
  /** The last instruction made outputs. */
  | { readonly kind: 'outputs' }
  /** The epoch is over: call `endEpoch`. */
  | { readonly kind: 'epochEnd' }
  /** P2, original or revised: nothing runs before everything below `end` is acknowledged (`onAcknowledged`). */
  | { readonly kind: 'awaiting'; readonly end: LogEnd }
  /**
   * WFI with nothing pending: the count stands still, so the epoch has to end early, and its end entry carries the count.
   * Call `endEpoch` when an interrupt has come, or it is time for the guest's timer.
   */
  | Extract<StopReason, { kind: 'waiting' | 'off' | 'exited' }>

export interface EpochRun {
  readonly stop: EpochStop
  readonly outputs: readonly MarkedOutput[]
}

const slice: EpochStop = { kind: 'slice' }
const epochEnd: EpochStop = { kind: 'epochEnd' }
const madeOutputs: EpochStop = { kind: 'outputs' }
const none: readonly MarkedOutput[] = []

export class EpochPrimary {
  readonly recorder: Recorder
  readonly #discipline: EpochDiscipline
  readonly #length: bigint
  /** The interrupt buffer: what came in during this epoch. */
  #interrupts: Interrupt[] = []
  /** P7: operations outstanding at the failover, whose drivers are told at the end of this, the failover epoch. */
  #uncertain: readonly DiskRequest[]
  /** [Tme] is sent and everything let in; [end, E] is not sent yet. */
  #isEnding = false
  /** Everything below it must be acknowledged before the hart runs on. */
  #awaited: LogEnd | undefined
  /** Undefined: there is no backup to wait for. Until somebody says so, there is. */
  #acknowledgedEnd: LogEnd | undefined = logIndex(0n)

  /**
   * Goes on where the recorder's log stands: in epoch 0 of a new machine, or in the failover epoch.
   * @param uncertain operations outstanding at a failover whose drivers are to be told
   */
  constructor(recorder: Recorder, discipline: EpochDiscipline, uncertain: readonly DiskRequest[] = []) {
    this.recorder = recorder
    this.#discipline = discipline
    this.#length = BigInt(discipline.instructions)
    this.#uncertain = uncertain
  }

  get #position(): EpochPosition {
    return this.recorder.obligations.epochs
  }

  /** E: the epoch that is under way. */
  get epoch(): bigint {
    return this.#position.epoch
  }

  /** The count at which it ends at the latest. */
  get #endCount(): InstructionCount {
    return instructionCount(this.#position.startCount + this.#length)
  }

  /** Interrupts that wait for its end. */
  get bufferedInterrupts(): number {
    return this.#interrupts.length
  }

  /** P0: the guest asked for this at the instruction just run. It is let in there, and its entry sent. */
  environmentValue(value: EnvironmentValue): readonly MarkedOutput[] {
    return this.recorder.apply(value)
  }

  /** P1: buffered for delivery at the end of this epoch. */
  onInterrupt(interrupt: Interrupt): void {
    this.#interrupts.push(interrupt)
  }

  /** @param end every entry below it is acknowledged by every backup; undefined: there is no backup to wait for */
  onAcknowledged(end: LogEnd | undefined): void {
    this.#acknowledgedEnd = end
  }

  /** Runs the epoch on, for at most `maxInstructions`. */
  run(maxInstructions: bigint): EpochRun {
    if (this.#awaited !== undefined) {
      const end = this.#awaited
      if (this.#acknowledgedEnd !== undefined && this.#acknowledgedEnd < end) {
        return { stop: { kind: 'awaiting', end }, outputs: none }
      }
      this.#awaited = undefined
    }
    if (this.#isEnding) this.#startNext()
    const { count } = this.recorder.machine
    const endCount = this.#endCount
    // A failover epoch may be over by its log already.
    if (this.#position.isAtItsEnd || count >= endCount) return { stop: epochEnd, outputs: none }
    const sliceEnd = instructionCount(count + maxInstructions)
    const { stop, outputs } = this.recorder.run(sliceEnd < endCount ? sliceEnd : endCount)
    if (outputs.length > 0) this.#onOutputs(outputs)
    return { stop: this.#stopOf(stop), outputs }
  }

  /**
   * P2. Lets in what waits for the end of this epoch, at this time.
   * @param now guest time by this host's clock. P6: one that lies behind the last adopted time is not used, and none is if
   *   the primary that failed had sent the epoch's [Tme]
   * @returns outputs that what was let in made
   */
  endEpoch(now: Ticks): readonly MarkedOutput[] {
    assert(this.#awaited === undefined && !this.#isEnding, 'an epoch ends once, and only when nothing is awaited')
    const { recorder } = this
    let outputs = none
    if (this.#interrupts.length > 0) outputs = this.#letIn(this.#interrupts.splice(0))
    if (!this.#position.hasTme) {
      const { ticks } = recorder.machine
      const tme = recorder.apply({ kind: 'clock', ticks: now > ticks ? now : ticks, ratePer2p32: 0n, capTicks: 0n })
      if (tme.length > 0) outputs = [...outputs, ...tme]
    }
    if (this.#uncertain.length > 0) outputs = [...outputs, ...this.#letIn(this.#uncertain.map(uncertainInterrupt))]
    this.#uncertain = []
    if (this.#discipline.protocol === 'original') {
      this.#awaited = recorder.nextIndex
      this.#isEnding = true
    } else {
      if (outputs.length > 0) this.#onOutputs(outputs)
      this.#startNext()
    }
    return outputs
  }

  #letIn(interrupts: readonly Interrupt[]): readonly MarkedOutput[] {
    return interrupts.flatMap((interrupt) => this.recorder.apply(interrupt))
  }

  #startNext(): void {
    this.#isEnding = false
    this.recorder.entryEpochEnd()
  }

  /** P2 revised: the hart stops at an I/O operation until everything sent is acknowledged, its own marker included. */
  #onOutputs(outputs: readonly MarkedOutput[]): void {
    if (this.#discipline.protocol === 'revised' && outputs.some(({ output }) => obeysOutputRule(output))) {
      this.#awaited = this.recorder.nextIndex
    }
  }

  #stopOf(stop: StopReason): EpochStop {
    switch (stop.kind) {
      case 'count':
        return this.recorder.machine.count >= this.#endCount ? epochEnd : slice
      case 'outputs':
        return madeOutputs
      case 'waiting':
        return this.#interrupts.length + this.#uncertain.length > 0 ? epochEnd : stop
      case 'off':
      case 'exited':
        return stop
    }
  }
}
