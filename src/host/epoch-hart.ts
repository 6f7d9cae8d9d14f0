/**
 * A live hart in Bressoud & Schneider's *epoch* discipline: `EpochPrimary` says where it stops, the host's clock says what
 * time it is there.
 *
 * An epoch may take microseconds, so a turn runs many of them: until somebody rings, the hart has to wait, or it is time
 * for a look around. The entries of epochs in which nothing else happened travel with the next batch, after a millisecond
 * at most; what is awaited, or what an output depends on, is sent at once.
 */

import type { ClockKeeper } from '../hypervisor/clock-keeper.ts'
import type { EpochPrimary } from '../hypervisor/epoch/epoch-primary.ts'
import type { EnvironmentValue, Interrupt } from '../hypervisor/epoch/interrupts.ts'
import { logIndex, type MarkedOutput } from '../log/entry.ts'
import { nobodyAcknowledges } from './hart-messages.ts'
import { type HartThread, LiveHart, type Turn } from './live-hart.ts'
import { SlicePacer } from './slice-pacer.ts'

/** How long entries wait for company: a thousandth of what a failover takes. */
const batchNs = 1_000_000n

export class EpochHart extends LiveHart {
  readonly #epochs: EpochPrimary
  readonly #pacer = new SlicePacer()
  /** When the frames arrived that wait for the end of the epoch. */
  #arrivals: bigint[] = []
  #flushDueNs = 0n

  constructor(epochs: EpochPrimary, thread: HartThread) {
    super(epochs.recorder, thread)
    this.#epochs = epochs
  }

  protected override letIn(value: EnvironmentValue): readonly MarkedOutput[] {
    return this.#epochs.environmentValue(value)
  }

  /** The first [Tme] is at the end of the first epoch. */
  protected override onClockStarted(): void {}

  protected override onInput(input: Interrupt, arrivedNs: bigint): void {
    this.#epochs.onInterrupt(input)
    if (input.kind === 'frame') this.#arrivals.push(arrivedNs)
  }

  protected override runGuest(): Turn {
    const { keeper } = this
    const { machine } = this.recorder
    const next = keeper && !this.isOff ? this.#runEpochs(keeper) : { sleepUntilNs: undefined }
    if (next !== 'again' || process.hrtime.bigint() >= this.#flushDueNs) this.#flushNow()
    this.thread.showProgress(machine)
    return next
  }

  /** Runs until there is a reason to look at the door, or to sleep. */
  #runEpochs(keeper: ClockKeeper): Turn {
    const { machine } = this.recorder
    let nowNs = process.hrtime.bigint()
    const turnEndNs = nowNs + batchNs
    this.doRounds(keeper, nowNs)
    while (nowNs < turnEndNs && !this.thread.isRung() && !this.isOff) {
      const countBefore = machine.count
      const { stop, outputs } = this.#epochs.run(this.#pacer.instructions)
      const beforeNs = nowNs
      nowNs = process.hrtime.bigint()
      this.#pacer.onRan(machine.count - countBefore, nowNs - beforeNs)
      if (outputs.length > 0) this.#handleAndFlush(outputs)
      switch (stop.kind) {
        case 'slice':
        case 'outputs':
          break
        case 'epochEnd':
          this.#endEpoch(keeper, nowNs)
          break
        case 'awaiting':
          this.#flushNow()
          if (!this.#isAcknowledged(stop.end)) return { sleepUntilNs: undefined }
          break
        case 'waiting': {
          const sleepUntilNs = keeper.sleepUntilNs(nowNs, machine.ticks, stop.deadline)
          if (nowNs < sleepUntilNs) return { sleepUntilNs }
          this.#endEpoch(keeper, nowNs)
          break
        }
        case 'off':
        case 'exited':
          return { sleepUntilNs: undefined }
      }
    }
    return 'again'
  }

  #endEpoch(keeper: ClockKeeper, nowNs: bigint): void {
    const outputs = this.#epochs.endEpoch(keeper.epochTime(nowNs, this.recorder.machine.ticks))
    for (const arrivedNs of this.#arrivals.splice(0)) this.thread.frameDelays.add(nowNs - arrivedNs)
    if (outputs.length > 0) this.#handleAndFlush(outputs)
  }

  #isAcknowledged(end: bigint): boolean {
    const acknowledgedEnd = this.thread.acknowledgedEnd()
    this.#epochs.onAcknowledged(acknowledgedEnd === nobodyAcknowledges ? undefined : logIndex(acknowledgedEnd))
    return acknowledgedEnd >= end
  }

  #handleAndFlush(outputs: readonly MarkedOutput[]): void {
    this.handle(outputs)
    this.#flushNow()
  }

  #flushNow(): void {
    this.flush()
    this.#flushDueNs = process.hrtime.bigint() + batchNs
  }
}
