/**
 * The trace of a process: lines for people, in a file that is bounded. At its limit it becomes `NAME.trace.1`, in place
 * of an older one, and begins anew.
 *
 * Unlike `console.log` the file itself stays and is emptied, after a copy of it: the process's standard error, where
 * Node's last words go, is the same file, opened by whoever started the process.
 */

import { closeSync, copyFileSync, fstatSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { MiB } from '../base/units.ts'

const defaultLimitBytes = 8 * MiB

export class TraceFile {
  readonly #path: string
  readonly #limitBytes: number
  readonly #descriptor: number

  constructor(path: string, limitBytes = defaultLimitBytes) {
    this.#path = path
    this.#limitBytes = limitBytes
    this.#descriptor = openSync(path, 'a', 0o600)
  }

  /** Adds a line with its time in front: `logs` merges the traces of several processes by it. */
  write(line: string): void {
    const bytes = Buffer.from(`${new Date().toISOString()} ${line}\n`)
    const { size } = fstatSync(this.#descriptor)
    if (size > 0 && size + bytes.length > this.#limitBytes) {
      copyFileSync(this.#path, `${this.#path}.1`)
      ftruncateSync(this.#descriptor)
    }
    writeSync(this.#descriptor, bytes)
  }

  close(): void {
    closeSync(this.#descriptor)
  }
}
