/**
 * A live hart in VMware FT's *exact* discipline: an input enters between two slices, at the instruction where the hart then
 * stands; guest time runs with the instructions, and clock entries keep it near the host's.
 */

import type { ClockInput, ClockKeeper } from '../hypervisor/clock-keeper.ts'
import type { Interrupt } from '../hypervisor/epoch/interrupts.ts'
import type { Recorder } from '../hypervisor/recorder.ts'
import { instructionCount, type StopReason } from '../machine/types.ts'
import type { HartWorld, Turn } from './hart-world.ts'
import { LiveHart } from './live-hart.ts'
import { SlicePacer } from './slice-pacer.ts'

export class ExactHart extends LiveHart {
  readonly #pacer: SlicePacer
  #stop: StopReason = { kind: 'count' }

  constructor(recorder: Recorder, world: HartWorld) {
    super(recorder, world)
    this.#pacer = new SlicePacer(world.policy.slice)
  }

  protected override onClockStarted(keeper: ClockKeeper, nowNs: bigint): void {
    this.#applyClock(keeper.entryWhileRunning(nowNs, this.recorder.machine.ticks))
    this.#stop = { kind: 'count' }
  }

  protected override onInput(input: Interrupt, arrivedNs: bigint): void {
    if (this.#stop.kind === 'waiting') {
      this.#applyClock(this.keeper?.entryBeforeInput(this.world.nowNs(), this.recorder.machine.ticks))
    }
    this.handle(this.recorder.apply(input))
    this.#pacer.onInput()
    if (input.kind === 'frame') this.world.onFrameEntered(this.world.nowNs() - arrivedNs)
  }

  protected override runGuest(): Turn {
    const { machine } = this.recorder
    const { keeper } = this
    if (!keeper || this.isOff) {
      this.flush()
      return { sleepUntilNs: undefined }
    }
    const before = this.world.nowNs()
    this.#keepTime(keeper, before)
    const countBefore = machine.count
    const slice =
      this.#pacer.instructions < keeper.sliceInstructions ? this.#pacer.instructions : keeper.sliceInstructions
    const { stop, outputs } = this.recorder.run(instructionCount(countBefore + slice))
    this.#stop = stop
    const after = this.world.nowNs()
    if (stop.kind !== 'waiting') {
      keeper.onRan(machine.count - countBefore, after - before)
      this.#pacer.onRan(machine.count - countBefore, after - before)
    }
    this.handle(outputs)
    this.flush()
    this.world.showProgress(machine)
    if (stop.kind !== 'waiting') return 'again'
    return { sleepUntilNs: keeper.sleepUntilNs(after, machine.ticks, stop.deadline) }
  }

  #keepTime(keeper: ClockKeeper, nowNs: bigint): void {
    const { ticks } = this.recorder.machine
    this.#applyClock(
      this.#stop.kind === 'waiting'
        ? keeper.entryWhileWaiting(nowNs, ticks, this.#stop.deadline)
        : keeper.entryWhileRunning(nowNs, ticks),
    )
    this.doRounds(keeper, nowNs)
  }

  #applyClock(entry: ClockInput | undefined): void {
    if (entry) this.handle(this.recorder.apply(entry))
  }
}
