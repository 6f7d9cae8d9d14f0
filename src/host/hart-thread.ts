/** A hart on a thread of its own, so that it never stalls its replica, nor its replica the guest (processes/hart.ts). */

import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { entryFile } from './child-process.ts'
import type { HartSettings, HartThreadSettings, ToHartThread } from './hart-messages.ts'
import type { HartRunner, HartRunnerEvents } from './hart-runner.ts'

/**
 * Short-lived objects of a hart's thread are few; V8 would let them pile up to a hundred megabytes before it looks. That
 * counts beside guest RAM (docs/BENCHMARKS.md, "Memory").
 */
export const hartResourceLimits = { maxYoungGenerationSizeMb: 6 } as const
const stopWithinMs = 1000

export class HartThread implements HartRunner {
  readonly #worker: Worker
  readonly #doorbell = new Int32Array(new SharedArrayBuffer(4))
  #hasExited = false

  constructor(settings: HartSettings, { onMessage, onFailed }: HartRunnerEvents) {
    this.#worker = new Worker(entryFile('hart'), {
      workerData: {
        ...settings,
        doorbell: this.#doorbell.buffer as SharedArrayBuffer,
      } satisfies HartThreadSettings,
      name: 'hart',
      resourceLimits: hartResourceLimits,
    })
    this.#worker.on('message', onMessage)
    this.#worker.on('error', onFailed)
    this.#worker.once('exit', (code) => {
      this.#hasExited = true
      onFailed(new Error(`the hart's thread ended with code ${code}`))
    })
  }

  send(message: ToHartThread, transfer: readonly ArrayBuffer[]): void {
    this.#worker.postMessage(message, [...transfer])
    this.ring()
  }

  ring(): void {
    Atomics.add(this.#doorbell, 0, 1)
    Atomics.notify(this.#doorbell, 0)
  }

  /**
   * The thread ends by itself, between two slices: terminating it in the middle of WebAssembly can abort the process. One
   * that hangs is not waited for: it ends with the process, which Node then aborts (SIGABRT instead of the exit code).
   */
  async stop(): Promise<void> {
    if (this.#hasExited) return
    const exited = once(this.#worker, 'exit').catch(() => {})
    this.send({ kind: 'stop' }, [])
    const gaveUp = new AbortController()
    await Promise.race([exited, sleep(stopWithinMs, undefined, { signal: gaveUp.signal }).catch(() => {})])
    gaveUp.abort()
    if (!this.#hasExited) this.#worker.unref()
  }
}
