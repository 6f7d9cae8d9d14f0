/** The replica's end of its hart, whoever gives it its turns (see hart-messages.ts). */

import type { Interrupt } from '../hypervisor/epoch/interrupts.ts'
import type { Discipline } from '../log/discipline.ts'
import type { LogEnd } from '../log/entry.ts'
import type { BootImage, MachineConfig } from '../machine/types.ts'
import { DelayHistogram, type DelaySummary } from './delay-histogram.ts'
import type { EngineSetting } from './engine-setting.ts'
import { HartInPlace } from './hart-in-place.ts'
import {
  type FromHartThread,
  type HartSettings,
  nobodyAcknowledges,
  progressCell,
  progressCells,
  type ToHartThread,
} from './hart-messages.ts'
import type { HartRunner } from './hart-runner.ts'
import { HartThread } from './hart-thread.ts'
import { HartWatch } from './hart-watch.ts'

export interface HartOptions {
  readonly config: MachineConfig
  readonly image: BootImage
  readonly mode: 'live' | 'replaying'
  readonly digestEveryMs: number
  readonly discipline: Discipline
  /** See HartWorld. Default: no. */
  readonly leavesOutReads?: boolean
  readonly isProfiled?: boolean
  /** Default: it translates. */
  readonly engine?: EngineSetting
  readonly onMessage: (message: FromHartThread) => void
  /** It ended without being told to, or takes no turns any more: a broken invariant. Called once. */
  readonly onFailed: (error: Error) => void
}

/** 10 ticks of 500 ms: 5 s. The longest turn of a healthy hart is some tens of milliseconds. */
const hartSilenceTicks = 10

export class Hart {
  readonly #runner: HartRunner
  #isStopping = false
  #hasFailed = false
  readonly #onFailed: (error: Error) => void
  readonly #watch = new HartWatch(hartSilenceTicks)
  readonly #frameDelays = new DelayHistogram()
  readonly #progress = new BigInt64Array(new SharedArrayBuffer(8 * progressCells))

  constructor(options: HartOptions) {
    const {
      leavesOutReads = false,
      isProfiled = false,
      engine = 'translate',
      onMessage,
      onFailed,
      ...machine
    } = options
    const settings: HartSettings = {
      ...machine,
      leavesOutReads,
      isProfiled,
      engine,
      progress: this.#progress.buffer as SharedArrayBuffer,
      frameDelays: this.#frameDelays.buffer,
    }
    this.#onFailed = onFailed
    const events = { onMessage, onFailed: (error: Error) => this.#fail(error) }
    this.#runner = waitsEveryEpoch(machine.discipline)
      ? new HartInPlace(settings, events)
      : new HartThread(settings, events)
  }

  /** Attempted instructions, as of the hart's last slice. */
  get instructions(): bigint {
    return Atomics.load(this.#progress, progressCell.instructions)
  }

  /** Guest time, as of the hart's last slice. */
  get ticks(): bigint {
    return Atomics.load(this.#progress, progressCell.ticks)
  }

  /** Whether a driver of the guest has taken the power button, as of the hart's last slice. */
  get hasPowerButtonDriver(): boolean {
    return Atomics.load(this.#progress, progressCell.powerButtonDriver) === 1n
  }

  /** Digests of the log that the replayed machine agreed with. */
  get digestsCompared(): bigint {
    return Atomics.load(this.#progress, progressCell.digestsCompared)
  }

  /** From a frame's arrival at this replica to its log entry. */
  get frameDelays(): DelaySummary {
    return this.#frameDelays.summary
  }

  /** Something from the world, for a live machine: it gets its log entry between the hart's next two slices. */
  sendInput(input: Interrupt): void {
    this.send({ kind: 'input', input, arrivedNs: process.hrtime.bigint() })
  }

  /** For a hart that waits for acknowledgements itself (epoch discipline); undefined: there is no backup to wait for. */
  acknowledged(end: LogEnd | undefined): void {
    const value = end ?? nobodyAcknowledges
    if (Atomics.exchange(this.#progress, progressCell.acknowledgedEnd, value) !== value) this.#runner.ring()
  }

  /** @param transfer buffers that are handed over instead of copied */
  send(message: ToHartThread, transfer: readonly ArrayBuffer[] = []): void {
    this.#runner.send(message, transfer)
  }

  /** Call at every tick: sees whether the hart still takes turns, and rings when it does not. */
  watch(): void {
    const health = this.#watch.onTick(Atomics.load(this.#progress, progressCell.turns))
    if (health === 'silent') this.#runner.ring()
    if (health === 'hanging') this.#fail(new Error(`it took no turn for ${hartSilenceTicks} ticks`))
  }

  #fail(error: Error): void {
    if (this.#isStopping || this.#hasFailed) return
    this.#hasFailed = true
    this.#onFailed(error)
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    await this.#runner.stop()
  }
}

/** The original P2: a guest whose every epoch waits for the backup gains nothing from a thread of its own. */
function waitsEveryEpoch(discipline: Discipline): boolean {
  return discipline.kind === 'epoch' && discipline.protocol === 'original'
}
