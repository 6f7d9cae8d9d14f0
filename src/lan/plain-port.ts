/**
 * The socket part of a plain port: Ethernet frames over a stream socket in QEMU's `stream` netdev framing. QEMU guests,
 * passt and other switches speak it. What a frame means is the switch's business (ethernet-switch.ts).
 */

import type { Socket } from 'node:net'
import { WorldError } from '../base/assert.ts'
import { BatchedWriter } from './batched-writer.ts'
import { maxFrameBytes, minFrameBytes } from './frame.ts'
import { encodePrefix, LengthPrefixSplitter } from './length-prefix.ts'

/** As a real port drops when its queue is full. Two of the largest TCP windows in common use. */
const maxQueuedBytes = 8 * 1024 * 1024

export interface PlainPortHandlers {
  /** `frame` is valid for this call only. */
  readonly onFrame: (frame: Uint8Array) => void
  /** Called once, with the reason when it was not an ordinary end. */
  readonly onClosed: (error?: WorldError) => void
}

export class PlainPort {
  readonly #socket: Socket
  readonly #writer: BatchedWriter
  readonly #splitter = new LengthPrefixSplitter(minFrameBytes, maxFrameBytes)
  #handlers: PlainPortHandlers
  #framesDropped = 0

  constructor(socket: Socket, handlers: PlainPortHandlers) {
    this.#socket = socket
    this.#writer = new BatchedWriter(socket)
    this.#handlers = handlers
    let failure: WorldError | undefined
    socket.on('data', (chunk: Buffer) => {
      try {
        this.#splitter.push(chunk, (frame) => this.#handlers.onFrame(frame))
      } catch (error) {
        if (!(error instanceof WorldError)) throw error
        failure = error
        socket.destroy()
      }
    })
    socket.on('error', (error) => {
      failure ??= new WorldError('connection-broken', error.message)
    })
    socket.once('close', () => this.#handlers.onClosed(failure))
  }

  /** Frames that found the queue full. */
  get framesDropped(): number {
    return this.#framesDropped
  }

  /** Hands the port over to another owner; frames that came before went to the old handlers. */
  setHandlers(handlers: PlainPortHandlers): void {
    this.#handlers = handlers
  }

  /**
   * Sends a frame, or drops it when the peer does not read.
   * @returns whether it was sent
   */
  send(frame: Uint8Array): boolean {
    if (this.#writer.queuedBytes > maxQueuedBytes) {
      this.#framesDropped++
      return false
    }
    this.#writer.write(encodePrefix(frame.length), frame)
    return true
  }

  /** Stops reading: the peer's queue fills, and it waits or drops as it sees fit. What was read already still comes. */
  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  close(): void {
    this.#socket.destroy()
  }
}
