/**
 * The file `console.log` of a VM: what the guest printed, released. Whichever replica is live appends.
 *
 * It is bounded: a file that has reached its limit becomes `console.log.1`, in place of an older one, and a new one
 * begins. So the last `limitBytes` at least are kept, twice that at most. A reader that follows notices a new file by its
 * inode (trace-reader.ts).
 */

import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { MiB } from '../base/units.ts'

export const consoleLogName = 'console.log'
const defaultLimitBytes = 8 * MiB

export class ConsoleLog {
  readonly #path: string
  readonly #limitBytes: number
  #descriptor: number | undefined
  #sizeBytes = 0

  constructor(folderPath: string, limitBytes = defaultLimitBytes) {
    this.#path = join(folderPath, consoleLogName)
    this.#limitBytes = limitBytes
  }

  /** Opens the file at the first call: until then it may be another replica's. */
  append(bytes: Uint8Array): void {
    if (this.#descriptor === undefined) this.#open()
    if (this.#sizeBytes > 0 && this.#sizeBytes + bytes.length > this.#limitBytes) this.#startAnew()
    for (let written = 0; written < bytes.length; ) written += writeSync(this.#descriptor!, bytes.subarray(written))
    this.#sizeBytes += bytes.length
  }

  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor)
    this.#descriptor = undefined
  }

  #open(): void {
    this.#descriptor = openSync(this.#path, 'a', 0o600)
    this.#sizeBytes = fstatSync(this.#descriptor).size
  }

  #startAnew(): void {
    this.close()
    renameSync(this.#path, `${this.#path}.1`)
    this.#open()
  }
}
