/**
 * The hart's thread's end of a state transfer: copies its machine between slices, a piece at a time, as far as the other
 * side takes them (credit, in bytes). The guest goes on, with a smaller share of time if it writes too fast.
 */

import { LiveCopy } from '../hypervisor/live-copy.ts'
import type { Recorder } from '../hypervisor/recorder.ts'
import type { FromHart, ToHart } from './hart-messages.ts'

export type CopyMessage = Extract<ToHart, { kind: 'startCopy' | 'allowPages' | 'endCopy' }>

/** Outputs are held from the last round on, until all that was sent before it has arrived. */
const lastOnWayBytes = 1024 * 1024

export class CopySender {
  readonly #post: (message: FromHart, transfer: readonly ArrayBuffer[]) => void
  #copy: { readonly id: number; readonly live: LiveCopy; readonly windowBytes: number } | undefined
  #creditBytes = 0

  constructor(post: (message: FromHart, transfer: readonly ArrayBuffer[]) => void) {
    this.#post = post
  }

  onMessage(message: CopyMessage, recorder: Recorder): void {
    if (message.kind === 'startCopy') {
      this.#copy?.live.abandon()
      this.#copy = { id: message.copy, live: new LiveCopy(recorder), windowBytes: message.creditBytes }
      this.#creditBytes = message.creditBytes
    } else if (message.copy === this.#copy?.id) {
      if (message.kind === 'allowPages') this.#creditBytes += message.bytes
      else this.#end()
    }
  }

  get isActive(): boolean {
    return this.#copy !== undefined
  }

  /** The share of time that the guest should have, in percent. */
  get guestPercent(): number {
    return this.#copy?.live.guestPercent ?? 100
  }

  /** There is something to copy, and somebody to take it. The last round waits until little is on its way before it. */
  get canWork(): boolean {
    if (this.#copy === undefined) return false
    const { live, windowBytes } = this.#copy
    return this.#creditBytes >= (live.isReadyToFinish ? windowBytes - lastOnWayBytes : live.pieceBytes)
  }

  /** Call between two slices, before all that was recorded is sent: the end of a copy has an entry of its own. */
  fixPlace(): void {
    if (this.canWork && this.#copy!.live.isReadyToFinish) this.#copy!.live.fixPlace()
  }

  /** Call between two slices, when all that was recorded is sent: one piece, or the last round and the rest. */
  work(): void {
    if (!this.canWork) return
    const { id, live } = this.#copy!
    if (!live.isReadyToFinish) {
      this.#postPages(id, live.nextPiece())
      return
    }
    const startedMs = performance.now()
    const { pages, state } = live.finish()
    const pauseMs = performance.now() - startedMs
    for (const piece of pages) this.#postPages(id, piece)
    this.#post({ kind: 'copied', copy: id, state, pauseMs, rounds: live.round }, [state.buffer as ArrayBuffer])
    this.#copy = undefined
  }

  #postPages(copy: number, bytes: Uint8Array): void {
    if (bytes.length === 0) return
    this.#creditBytes -= bytes.length
    this.#post({ kind: 'pages', copy, bytes }, [bytes.buffer as ArrayBuffer])
  }

  #end(): void {
    this.#copy?.live.abandon()
    this.#copy = undefined
  }
}
