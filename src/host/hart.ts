/** The main thread's end of a hart's thread (see hart-messages.ts). */

import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import type { BootImage, MachineConfig } from '../machine/types.ts'
import { type FromHart, type HartSettings, progressCell, progressCells, type ToHart } from './hart-messages.ts'

export interface HartOptions {
  readonly config: MachineConfig
  readonly image: BootImage
  readonly mode: 'live' | 'replaying'
  readonly digestEveryMs: number
  readonly onMessage: (message: FromHart) => void
  /** The thread ended by an error: a broken invariant. */
  readonly onFailed: (error: Error) => void
}

export class Hart {
  readonly #worker: Worker
  #hasExited = false
  readonly #doorbell = new Int32Array(new SharedArrayBuffer(4))
  readonly #progress = new BigInt64Array(new SharedArrayBuffer(8 * progressCells))

  constructor(options: HartOptions) {
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    const { config, image, mode, digestEveryMs } = options
    const settings: HartSettings = {
      config,
      image,
      mode,
      digestEveryMs,
      doorbell: this.#doorbell.buffer as SharedArrayBuffer,
      progress: this.#progress.buffer as SharedArrayBuffer,
    }
    this.#worker = new Worker(fileURLToPath(new URL(`./processes/hart.${extension}`, import.meta.url)), {
      workerData: settings,
      name: 'hart',
    })
    this.#worker.on('message', options.onMessage)
    this.#worker.on('error', options.onFailed)
    this.#worker.once('exit', () => {
      this.#hasExited = true
    })
  }

  /** Attempted instructions, as of the hart's last slice. */
  get instructions(): bigint {
    return Atomics.load(this.#progress, progressCell.instructions)
  }

  /** Guest time, as of the hart's last slice. */
  get ticks(): bigint {
    return Atomics.load(this.#progress, progressCell.ticks)
  }

  /** Digests of the log that the replayed machine agreed with. */
  get digestsCompared(): bigint {
    return Atomics.load(this.#progress, progressCell.digestsCompared)
  }

  send(message: ToHart): void {
    this.#worker.postMessage(message)
    Atomics.add(this.#doorbell, 0, 1)
    Atomics.notify(this.#doorbell, 0)
  }

  /** The thread ends by itself, between two slices: terminating it in the middle of WebAssembly can abort the process. */
  async stop(): Promise<void> {
    if (this.#hasExited) return
    const exited = once(this.#worker, 'exit')
    this.send({ kind: 'stop' })
    await exited
  }
}
