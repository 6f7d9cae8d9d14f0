/** Cuts a byte stream into lines, and refuses a line that grows beyond its limit. */

import { WorldError } from '../base/assert.ts'

export class LineSplitter {
  readonly #maxLineBytes: number
  #parts: Buffer[] = []
  #pendingBytes = 0

  constructor(maxLineBytes: number) {
    this.#maxLineBytes = maxLineBytes
  }

  /** The lines that `chunk` completes, without their line ends. */
  push(chunk: Buffer): string[] {
    const lines: string[] = []
    let start = 0
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      this.#keep(chunk.subarray(start, end))
      lines.push(Buffer.concat(this.#parts).toString())
      this.#parts = []
      this.#pendingBytes = 0
      start = end + 1
    }
    this.#keep(chunk.subarray(start))
    return lines
  }

  #keep(part: Buffer): void {
    this.#pendingBytes += part.length
    if (this.#pendingBytes > this.#maxLineBytes) {
      throw new WorldError('line-too-long', `a line is longer than ${this.#maxLineBytes} bytes`)
    }
    if (part.length > 0) this.#parts.push(part)
  }
}
