/**
 * A hart that writes the log, on its thread: the machine runs from live devices. What every discipline shares is here: power,
 * entropy, the clock's start, outputs, and the way to the main thread. When inputs enter, and how far the hart runs between
 * two looks at its door, is the discipline's business (exact-hart.ts, epoch-hart.ts).
 */

import { getRandomValues } from 'node:crypto'
import { ClockKeeper, defaultClockPolicy, type HostTime } from '../hypervisor/clock-keeper.ts'
import type { EnvironmentValue, Interrupt } from '../hypervisor/epoch/interrupts.ts'
import type { Recorder } from '../hypervisor/recorder.ts'
import type { MarkedOutput } from '../log/entry.ts'
import type { Machine } from '../machine/types.ts'
import { CopySender } from './copy-sender.ts'
import type { DelayHistogram } from './delay-histogram.ts'
import type { FromHart, HartSettings, ToHart } from './hart-messages.ts'

/** What a turn asks for: another one at once, or none before this host time (ns) unless the doorbell rings. */
export type Turn = 'again' | { readonly sleepUntilNs: bigint | undefined }

/** What the thread does: replays a log, or writes one. */
export interface HartMode {
  onMessage(message: ToHart): void
  turn(): Turn
}

/** What the thread gives its mode. */
export interface HartThread {
  readonly settings: HartSettings
  readonly frameDelays: DelayHistogram
  /** @param transfer buffers that are handed over instead of copied */
  post(message: FromHart, transfer?: readonly ArrayBuffer[]): void
  showProgress(of: Machine): void
  /** The doorbell rang since the turn began: a message is there, or an acknowledgement. */
  isRung(): boolean
  /** What the main thread says is acknowledged (`progressCell.acknowledgedEnd`). */
  acknowledgedEnd(): bigint
}

const resyncEveryNs = 1_000_000_000n

function hostTime(): HostTime {
  return { monotonicNs: process.hrtime.bigint(), wallClockNs: BigInt(Date.now()) * 1_000_000n }
}

export abstract class LiveHart implements HartMode {
  protected readonly recorder: Recorder
  protected readonly thread: HartThread
  protected keeper: ClockKeeper | undefined
  protected isOff = true
  #outputs: MarkedOutput[] = []
  #nextDigestNs = 0n
  #nextResyncNs = 0n
  readonly #copying: CopySender
  /** A guest that is copied, and writes faster than that, stands still until then. */
  #guestRestsUntilNs = 0n

  constructor(recorder: Recorder, thread: HartThread) {
    this.recorder = recorder
    this.thread = thread
    this.#copying = new CopySender(thread.post)
  }

  /** The guest runs for a while; if it is being copied, that goes on too. */
  turn(): Turn {
    const startedNs = process.hrtime.bigint()
    if (!this.#copying.isActive || this.isOff) return this.runGuest()
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
    const endedNs = process.hrtime.bigint()
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
    const rngSeed = getRandomValues(new Uint8Array(64))
    this.handle(this.letIn({ kind: 'boot', rngSeed, wallClockNs: hostTime().wallClockNs }))
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
    if (message.kind === 'input') this.onInput(message.input, message.arrivedNs)
    if (message.kind === 'startCopy' || message.kind === 'allowPages' || message.kind === 'endCopy') {
      this.#copying.onMessage(message, this.recorder)
    }
  }

  #startClock(): void {
    const { machine } = this.recorder
    const anchor = machine.clockAnchor
    if (!anchor) return
    const { settings } = this.thread
    const now = hostTime()
    this.keeper = new ClockKeeper(anchor, machine.ticks, now, settings.clockPolicy ?? defaultClockPolicy)
    this.#nextResyncNs = now.monotonicNs + resyncEveryNs
    this.#nextDigestNs = now.monotonicNs + BigInt(settings.digestEveryMs) * 1_000_000n
    this.isOff = false
    this.onClockStarted(this.keeper, now.monotonicNs)
  }

  /** What host time asks for now and then: a look at the host's calendar, and the digest that backups compare. */
  protected doRounds(keeper: ClockKeeper, nowNs: bigint): void {
    const { machine } = this.recorder
    if (nowNs >= this.#nextResyncNs) {
      this.#nextResyncNs = nowNs + resyncEveryNs
      if (machine.clockAnchor) keeper.resync(hostTime(), machine.clockAnchor)
    }
    if (nowNs >= this.#nextDigestNs) {
      this.#nextDigestNs = nowNs + BigInt(this.thread.settings.digestEveryMs) * 1_000_000n
      this.recorder.entryDigest()
    }
  }

  protected handle(outputs: readonly MarkedOutput[]): void {
    for (const marked of outputs) {
      const { output } = marked
      if (output.kind === 'entropyRequest') this.#answerEntropy(output.lengthBytes)
      else this.#outputs.push(marked)
      if (output.kind === 'power') this.#onPower(output.action, output.failed)
    }
  }

  #answerEntropy(lengthBytes: number): void {
    this.handle(this.letIn({ kind: 'entropy', bytes: getRandomValues(new Uint8Array(lengthBytes)) }))
  }

  #onPower(action: 'off' | 'reboot', failed: boolean): void {
    if (action === 'reboot') {
      this.powerOn()
      return
    }
    this.isOff = true
    this.flush()
    this.thread.post({ kind: 'off', failed })
  }

  /** The primary flushes at once: entries first, then the outputs that wait for them. */
  protected flush(): void {
    const batches = this.recorder.takeBatches()
    if (batches.length === 0 && this.#outputs.length === 0) return
    const bytesByCause = { ...this.recorder.bytesByCause }
    this.thread.post({ kind: 'recorded', batches, outputs: this.#outputs, bytesByCause })
    this.#outputs = []
  }
}
