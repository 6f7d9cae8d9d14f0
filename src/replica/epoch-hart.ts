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
import type { LogEnd, MarkedOutput } from '../log/entry.ts'
import type { HartWorld, Turn } from './hart-world.ts'
import { LiveHart } from './live-hart.ts'
import { SlicePacer } from './slice-pacer.ts'

export class EpochHart extends LiveHart {
  readonly #epochs: EpochPrimary
  readonly #pacer: SlicePacer
  /** When the frames arrived that wait for the end of the epoch. */
  #arrivals: bigint[] = []
  #flushDueNs = 0n

  constructor(epochs: EpochPrimary, world: HartWorld) {
    super(epochs.recorder, world)
    this.#epochs = epochs
    this.#pacer = new SlicePacer(world.policy.slice)
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

  /** Those that wait for the end of the epoch have their places already. */
  protected override get frameRoom(): number {
    return super.frameRoom - this.#arrivals.length
  }

  protected override runGuest(): Turn {
    const { keeper } = this
    const { machine } = this.recorder
    const next = keeper && !this.isOff ? this.#runEpochs(keeper) : { sleepUntilNs: undefined }
    if (this.hasUnsent && (next !== 'again' || this.world.nowNs() >= this.#flushDueNs)) this.#flushNow()
    this.world.showProgress(machine)
    return next
  }

  /** Runs until there is a reason to look at the door, or to sleep. */
  #runEpochs(keeper: ClockKeeper): Turn {
    const { machine } = this.recorder
    let nowNs = this.world.nowNs()
    const turnEndNs = nowNs + this.world.policy.batchNs
    this.doRounds(keeper, nowNs)
    while (nowNs < turnEndNs && !this.world.isRung() && !this.isOff) {
      const countBefore = machine.count
      const { stop, outputs } = this.#epochs.run(this.#pacer.instructions)
      const beforeNs = nowNs
      nowNs = this.world.nowNs()
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
    for (const arrivedNs of this.#arrivals.splice(0)) this.world.onFrameEntered(nowNs - arrivedNs)
    if (outputs.length > 0) this.#handleAndFlush(outputs)
  }

  #isAcknowledged(end: LogEnd): boolean {
    const acknowledgedEnd = this.world.acknowledgedEnd()
    this.#epochs.onAcknowledged(acknowledgedEnd)
    return acknowledgedEnd === undefined || acknowledgedEnd >= end
  }

  #handleAndFlush(outputs: readonly MarkedOutput[]): void {
    this.handle(outputs)
    this.#flushNow()
  }

  #flushNow(): void {
    this.flush()
    this.#flushDueNs = this.world.nowNs() + this.world.policy.batchNs
  }
}
