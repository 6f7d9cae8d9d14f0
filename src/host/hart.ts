/** The main thread's end of a hart's thread (see hart-messages.ts). */

import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import type { Interrupt } from '../hypervisor/epoch/interrupts.ts'
import type { Discipline } from '../log/discipline.ts'
import type { LogEnd } from '../log/entry.ts'
import type { BootImage, MachineConfig } from '../machine/types.ts'
import { entryFile } from './child-process.ts'
import { DelayHistogram, type DelaySummary } from './delay-histogram.ts'
import type { EngineSetting } from './engine-setting.ts'
import {
  type FromHartThread,
  type HartSettings,
  nobodyAcknowledges,
  progressCell,
  progressCells,
  type ToHartThread,
} from './hart-messages.ts'
import { HartWatch } from './hart-watch.ts'

export interface HartOptions {
  readonly config: MachineConfig
  readonly image: BootImage
  readonly mode: 'live' | 'replaying'
  readonly digestEveryMs: number
  readonly discipline: Discipline
  readonly isProfiled?: boolean
  /** Default: it translates. */
  readonly engine?: EngineSetting
  readonly onMessage: (message: FromHartThread) => void
  /** The thread ended without being told to, or takes no turns any more: a broken invariant. Called once. */
  readonly onFailed: (error: Error) => void
}

/** 10 ticks of 500 ms: 5 s. The longest turn of a healthy hart is some tens of milliseconds. */
const hartSilenceTicks = 10
/**
 * Short-lived objects of a hart's thread are few; V8 would let them pile up to a hundred megabytes before it looks. That
 * counts beside guest RAM (docs/BENCHMARKS.md, "Memory").
 */
export const hartResourceLimits = { maxYoungGenerationSizeMb: 6 } as const
const stopWithinMs = 1000

export class Hart {
  readonly #worker: Worker
  #hasExited = false
  #isStopping = false
  #hasFailed = false
  readonly #onFailed: (error: Error) => void
  readonly #watch: HartWatch
  readonly #doorbell = new Int32Array(new SharedArrayBuffer(4))
  readonly #frameDelays = new DelayHistogram()
  readonly #progress = new BigInt64Array(new SharedArrayBuffer(8 * progressCells))

  constructor(options: HartOptions) {
    const { config, image, mode, digestEveryMs, discipline, isProfiled = false, engine = 'translate' } = options
    const settings: HartSettings = {
      config,
      image,
      mode,
      digestEveryMs,
      discipline,
      isProfiled,
      engine,
      doorbell: this.#doorbell.buffer as SharedArrayBuffer,
      progress: this.#progress.buffer as SharedArrayBuffer,
      frameDelays: this.#frameDelays.buffer,
    }
    this.#worker = new Worker(entryFile('hart'), {
      workerData: settings,
      name: 'hart',
      resourceLimits: hartResourceLimits,
    })
    this.#worker.on('message', options.onMessage)
    this.#onFailed = options.onFailed
    this.#worker.on('error', (error: Error) => this.#fail(error))
    this.#worker.once('exit', (code) => {
      this.#hasExited = true
      this.#fail(new Error(`the hart's thread ended with code ${code}`))
    })
    this.#watch = new HartWatch(hartSilenceTicks)
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
    if (Atomics.exchange(this.#progress, progressCell.acknowledgedEnd, value) !== value) this.#ring()
  }

  /** @param transfer buffers that are handed over instead of copied */
  send(message: ToHartThread, transfer: readonly ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, [...transfer])
    this.#ring()
  }

  /** Call at every tick: sees whether the thread still takes turns, and rings when it does not. */
  watch(): void {
    const health = this.#watch.onTick(Atomics.load(this.#progress, progressCell.turns))
    if (health === 'silent') this.#ring()
    if (health === 'hanging') this.#fail(new Error(`it took no turn for ${hartSilenceTicks} ticks`))
  }

  #ring(): void {
    Atomics.add(this.#doorbell, 0, 1)
    Atomics.notify(this.#doorbell, 0)
  }

  #fail(error: Error): void {
    if (this.#isStopping || this.#hasFailed) return
    this.#hasFailed = true
    this.#onFailed(error)
  }

  /**
   * The thread ends by itself, between two slices: terminating it in the middle of WebAssembly can abort the process. One
   * that hangs is not waited for: it ends with the process, which Node then aborts (SIGABRT instead of the exit code).
   */
  async stop(): Promise<void> {
    this.#isStopping = true
    if (this.#hasExited) return
    const exited = once(this.#worker, 'exit').catch(() => {})
    this.send({ kind: 'stop' })
    const gaveUp = new AbortController()
    await Promise.race([exited, sleep(stopWithinMs, undefined, { signal: gaveUp.signal }).catch(() => {})])
    gaveUp.abort()
    if (!this.#hasExited) this.#worker.unref()
  }
}
