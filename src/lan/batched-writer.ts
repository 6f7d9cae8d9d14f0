/**
 * Writes to a socket in batches: what is written within one turn of the event loop leaves in one system call. A burst
 * of small frames costs one write, and a single frame still leaves at the end of the turn it was written in.
 */

import type { Socket } from 'node:net'

export class BatchedWriter {
  readonly #socket: Socket
  #isCorked = false

  constructor(socket: Socket) {
    this.#socket = socket
  }

  /** Bytes that the peer has not taken yet. */
  get queuedBytes(): number {
    return this.#socket.writableLength
  }

  write(...parts: readonly Uint8Array[]): void {
    if (!this.#socket.writable) return
    if (!this.#isCorked) {
      this.#isCorked = true
      this.#socket.cork()
      process.nextTick(() => {
        this.#isCorked = false
        this.#socket.uncork()
      })
    }
    for (const part of parts) this.#socket.write(part)
  }
}
