/**
 * passt as a child process: starting it, what it said, how it ended. What to tell it is the gateway's business.
 *
 * passt talks on stderr, whether it fails or not, and its exit code says only that it failed; so the last lines are kept
 * for the one sentence that the user gets.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { assert, WorldError } from '../base/assert.ts'

const keptLines = 20

/** Lines that are no reason for anything: a missing syslog, and the change to an unprivileged user. */
const chatter = /to syslog$|Don't run as root|^Started as root/

export class PasstProcess {
  readonly processId: number
  /** Resolves when the process has ended and all that it said was read. */
  readonly ended: Promise<void>
  readonly #child: ChildProcess
  readonly #lines: string[] = []
  #rest = ''
  #hasEnded = false

  private constructor(child: ChildProcess) {
    assert(child.pid !== undefined && child.stderr, 'a started child has an id and its stderr')
    this.#child = child
    this.processId = child.pid
    this.ended = new Promise((resolve) => {
      child.once('close', () => {
        this.#hasEnded = true
        this.#hear('\n')
        resolve()
      })
    })
    child.stderr.setEncoding('utf8')
    child.stderr.on('data', (text: string) => this.#hear(text))
  }

  /** Throws `WorldError('passt-missing')` when there is no such program. */
  static start(path: string, args: readonly string[]): Promise<PasstProcess> {
    return new Promise((resolve, reject) => {
      const child = spawn(path, args, { stdio: ['ignore', 'ignore', 'pipe'] })
      child.once('error', (error) => reject(describeSpawnError(path, error)))
      child.once('spawn', () => resolve(new PasstProcess(child)))
    })
  }

  get hasEnded(): boolean {
    return this.#hasEnded
  }

  said(pattern: RegExp): boolean {
    return this.#lines.some((line) => pattern.test(line))
  }

  /** The last line it said, or how it ended when it said nothing. */
  get lastWords(): string {
    const { signalCode, exitCode } = this.#child
    return this.#lines.at(-1) ?? (signalCode ? `signal ${signalCode}` : `exit code ${exitCode}`)
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGTERM')
    await this.ended
  }

  #hear(text: string): void {
    const lines = (this.#rest + text).split('\n')
    this.#rest = lines.pop()!.slice(-1000)
    for (const line of lines) {
      // Newer versions put a time stamp in front.
      const words = line.replace(/^\d+\.\d+:\s*/, '').trim()
      if (words !== '' && !chatter.test(words)) this.#lines.push(words)
    }
    this.#lines.splice(0, this.#lines.length - keptLines)
  }
}

function describeSpawnError(path: string, error: Error): WorldError {
  const code = 'code' in error ? String(error.code) : error.message
  return new WorldError(
    'passt-missing',
    code === 'ENOENT'
      ? `"${path}" is not there: install Debian's package passt (apt install passt), the gateway to the host's ports`
      : `cannot start "${path}" (${code}): is it a program for this host?`,
  )
}
