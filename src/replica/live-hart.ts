/**
 * A hart that writes the log: the machine runs from live devices. What every discipline shares is here: power,
 * entropy, the clock's start, outputs, and the way to the replica. When inputs enter, and how far the hart runs between
 * two looks at its door, is the discipline's business (exact-hart.ts, epoch-hart.ts).
 */

import { ClockKeeper, type HostTime } from '../hypervisor/clock-keeper.ts'
import type { EnvironmentValue, Interrupt } from '../hypervisor/epoch/interrupts.ts'
import type { Recorder } from '../hypervisor/recorder.ts'
import type { MarkedOutput } from '../log/entry.ts'
import { CopySender } from './copy-sender.ts'
import type { ToHart } from './hart-messages.ts'
import type { HartMode, HartWorld, Turn } from './hart-world.ts'

type Arrival = Omit<Extract<ToHart, { kind: 'input' }>, 'kind'>

/** More than our switch keeps. A real network goes on sending; what is too much is lost, as on any network. */
const mostFramesAtTheDoor = 8192

export abstract class LiveHart implements HartMode {
  readonly recorder: Recorder
  protected readonly world: HartWorld
  protected keeper: ClockKeeper | undefined
  protected isOff = true
  #outputs: MarkedOutput[] = []
  #outputsSinceNs = 0n
  /** Frames that wait for room in the machine. */
  readonly #frames: Arrival[] = []
  #nextDigestNs = 0n
  #nextResyncNs = 0n
  readonly #copying: CopySender
  /** A guest that is copied, and writes faster than that, stands still until then. */
  #guestRestsUntilNs = 0n

  constructor(recorder: Recorder, world: HartWorld) {
    this.recorder = recorder
    this.world = world
    this.#copying = new CopySender(world)
  }

  /** The guest runs for a while; if it is being copied, that goes on too. */
  turn(): Turn {
    this.#letFramesIn()
    const next = this.#run()
    // The guest has made room for frames that came before it fell asleep.
    return this.#hasFrameToLetIn ? 'again' : next
  }

  #run(): Turn {
    if (!this.#copying.isActive || this.isOff) return this.runGuest()
    const startedNs = this.world.nowNs()
    const next: Turn =
      startedNs < this.#guestRestsUntilNs ? { sleepUntilNs: this.#guestRestsUntilNs } : this.#runCopiedGuest(startedNs)
    this.#copying.fixPlace()
    // Entries before the copy leave before it.
    this.flush()
    this.#copying.work()
    return this.#copying.canWork ? 'again' : next
  }

  #runCopiedGuest(startedNs: bigint): Turn {
    const next = this.runGuest()
    const endedNs = this.world.nowNs()
    const { guestPercent } = this.#copying
    this.#guestRestsUntilNs = endedNs + ((endedNs - startedNs) * BigInt(100 - guestPercent)) / BigInt(guestPercent)
    return next
  }

  /** Lets the guest run for a while. */
  protected abstract runGuest(): Turn

  /** Something from the world. */
  protected abstract onInput(input: Interrupt, arrivedNs: bigint): void

  /** The machine is on, and `keeper` begins to keep its time. */
  protected abstract onClockStarted(keeper: ClockKeeper, nowNs: bigint): void

  /** The answer to what the guest asked for at this very instruction. */
  protected letIn(value: EnvironmentValue): readonly MarkedOutput[] {
    return this.recorder.apply(value)
  }

  powerOn(): void {
    const rngSeed = this.world.randomBytes(64)
    this.handle(this.letIn({ kind: 'boot', rngSeed, wallClockNs: this.world.wallClockNs() }))
    this.#startClock()
  }

  /** Takes over where the log ends: the clock goes on, and what the log left unanswered is answered. */
  goOn(outputs: readonly MarkedOutput[]): void {
    if (this.recorder.nextIndex === 0n) {
      // The log begins with the power-on, and its writer died before that had reached anybody.
      this.powerOn()
      return
    }
    this.#startClock()
    const { entropyRequests, powerRequest } = this.recorder.obligations
    for (const request of [...entropyRequests]) this.#answerEntropy(request.lengthBytes)
    if (powerRequest) this.#onPower(powerRequest.action, powerRequest.failed)
    this.handle(outputs.filter(({ output }) => output.kind !== 'entropyRequest' && output.kind !== 'power'))
  }

  onMessage(message: ToHart): void {
    if (message.kind === 'powerOn') this.powerOn()
    if (message.kind === 'input') this.#onInput(message)
    if (message.kind === 'startCopy' || message.kind === 'allowPages' || message.kind === 'endCopy') {
      this.#copying.onMessage(message, this.recorder)
    }
  }

  #onInput({ input, arrivedNs }: Arrival): void {
    if (input.kind !== 'frame') {
      this.onInput(input, arrivedNs)
      return
    }
    if (this.#frames.length >= mostFramesAtTheDoor) return
    this.#frames.push({ input, arrivedNs })
    this.#letFramesIn()
  }

  /**
   * A frame that the network card would have to drop stays outside, and so out of the log. Whoever sent it is slowed: the
   * switch keeps what is not covered, and takes no more from its ports when it keeps much.
   */
  #letFramesIn(): void {
    while (this.#hasFrameToLetIn) {
      const { input, arrivedNs } = this.#frames.shift()!
      this.onInput(input, arrivedNs)
    }
  }

  get #hasFrameToLetIn(): boolean {
    return this.#frames.length > 0 && this.frameRoom > 0
  }

  /** So many frames more may be given to `onInput`. */
  protected get frameRoom(): number {
    return this.recorder.machine.frameRoom
  }

  #hostTime(): HostTime {
    return { monotonicNs: this.world.nowNs(), wallClockNs: this.world.wallClockNs() }
  }

  get #digestEveryNs(): bigint {
    return BigInt(this.world.digestEveryMs) * 1_000_000n
  }

  #startClock(): void {
    const { machine } = this.recorder
    const anchor = machine.clockAnchor
    if (!anchor) return
    const { policy } = this.world
    const now = this.#hostTime()
    this.keeper = new ClockKeeper(anchor, machine.ticks, now, policy.clock)
    this.#nextResyncNs = now.monotonicNs + policy.resyncEveryNs
    this.#nextDigestNs = now.monotonicNs + this.#digestEveryNs
    this.isOff = false
    this.onClockStarted(this.keeper, now.monotonicNs)
  }

  /** What host time asks for now and then: a look at the host's calendar, and the digest that backups compare. */
  protected doRounds(keeper: ClockKeeper, nowNs: bigint): void {
    const { machine } = this.recorder
    if (nowNs >= this.#nextResyncNs) {
      this.#nextResyncNs = nowNs + this.world.policy.resyncEveryNs
      if (machine.clockAnchor) keeper.resync(this.#hostTime(), machine.clockAnchor)
    }
    if (nowNs >= this.#nextDigestNs) {
      this.#nextDigestNs = nowNs + this.#digestEveryNs
      this.recorder.entryDigest()
    }
  }

  protected handle(outputs: readonly MarkedOutput[]): void {
    for (const marked of outputs) {
      const { output } = marked
      if (output.kind === 'entropyRequest') this.#answerEntropy(output.lengthBytes)
      else this.#keep(marked)
      if (output.kind === 'power') this.#onPower(output.action, output.failed)
    }
  }

  #keep(marked: MarkedOutput): void {
    if (this.#outputs.length === 0) this.#outputsSinceNs = this.world.nowNs()
    this.#outputs.push(marked)
  }

  #answerEntropy(lengthBytes: number): void {
    this.handle(this.letIn({ kind: 'entropy', bytes: this.world.randomBytes(lengthBytes) }))
  }

  #onPower(action: 'off' | 'reboot', failed: boolean): void {
    if (action === 'reboot') {
      this.powerOn()
      return
    }
    this.isOff = true
    this.flush()
    this.world.post({ kind: 'off', failed })
  }

  /** Entries or outputs that nobody else knows of. */
  protected get hasUnsent(): boolean {
    return this.#outputs.length > 0 || this.recorder.hasPending
  }

  /** The primary flushes at once: entries first, then the outputs that wait for them. */
  protected flush(): void {
    const batches = this.recorder.takeBatches()
    if (batches.length === 0 && this.#outputs.length === 0) return
    const bytesByCause = { ...this.recorder.bytesByCause }
    const outputsSinceNs = this.#outputsSinceNs
    this.world.post({ kind: 'recorded', batches, outputs: this.#outputs, outputsSinceNs, bytesByCause })
    this.#outputs = []
  }
}
