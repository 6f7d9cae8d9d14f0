/** A machine whose console is the standard input and output of its process: `understudy run`, or QEMU. */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'

/** What any boot may take, on a busy machine too. */
export const bootWithinMs = 600_000

/** The promise's value, or an error with this complaint when it takes too long. */
export async function within<T>(limitMs: number, promise: Promise<T>, complaint: string): Promise<T> {
  const abort = new AbortController()
  const timeout = sleep(limitMs, undefined, { signal: abort.signal }).then(() => {
    throw new Error(`${complaint} within ${limitMs / 1000} s`)
  })
  timeout.catch(() => {})
  try {
    return await Promise.race([promise, timeout])
  } finally {
    abort.abort()
  }
}

export class ConsoleProcess {
  readonly process: ChildProcess
  readonly startedAt = performance.now()
  #text = ''
  #onText: (() => void) | undefined

  constructor(command: string, parameters: readonly string[]) {
    this.process = spawn(command, parameters, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.process.stdout!.setEncoding('latin1').on('data', (text: string) => {
      this.#text += text
      this.#onText?.()
    })
    this.process.once('exit', () => this.#onText?.())
    this.process.stdin!.on('error', () => {})
  }

  /** Waits until the console shows this, from where the last call stopped; returns the match. */
  async shows(pattern: RegExp): Promise<RegExpExecArray> {
    const found = Promise.withResolvers<RegExpExecArray>()
    this.#onText = () => {
      const match = pattern.exec(this.#text)
      if (match) {
        this.#text = this.#text.slice(match.index + match[0].length)
        found.resolve(match)
      } else if (this.process.exitCode !== null) {
        found.reject(new Error(`the machine ended before it showed ${pattern}: …${this.#text.slice(-300)}`))
      }
    }
    this.#onText()
    return await within(bootWithinMs, found.promise, `the console did not show ${pattern}`)
  }

  type(line: string): void {
    this.process.stdin!.write(`${line}\n`)
  }

  /** Waits until it ends by itself; returns its exit code. */
  async ended(): Promise<number | null> {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      await within(bootWithinMs, once(this.process, 'exit'), 'the machine did not end')
    }
    return this.process.exitCode
  }

  /** Ends it, by force after a while. */
  async end(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return
    const ended = once(this.process, 'exit')
    this.process.kill(signal)
    const force = setTimeout(() => this.process.kill('SIGKILL'), 10_000)
    await ended
    clearTimeout(force)
  }
}
