/**
 * The hart's end of a state transfer: copies its machine between slices, a piece at a time, as far as the other
 * side takes them (credit, in bytes). The guest goes on, with a smaller share of time if it writes too fast.
 */

import { LiveCopy } from '../hypervisor/live-copy.ts'
import type { Recorder } from '../hypervisor/recorder.ts'
import type { ToHart } from './hart-messages.ts'
import type { HartWorld } from './hart-world.ts'

export type CopyMessage = Extract<ToHart, { kind: 'startCopy' | 'allowPages' | 'endCopy' }>

export class CopySender {
  readonly #world: HartWorld
  #copy: { readonly id: number; readonly live: LiveCopy; readonly windowBytes: number } | undefined
  #creditBytes = 0

  constructor(world: HartWorld) {
    this.#world = world
  }

  onMessage(message: CopyMessage, recorder: Recorder): void {
    if (message.kind === 'startCopy') {
      this.#copy?.live.abandon()
      this.#copy = {
        id: message.copy,
        live: new LiveCopy(recorder, this.#world.policy.copy),
        windowBytes: message.creditBytes,
      }
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
    return (
      this.#creditBytes >= (live.isReadyToFinish ? windowBytes - this.#world.policy.lastOnWayBytes : live.pieceBytes)
    )
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
    const startedNs = this.#world.nowNs()
    const { pages, state } = live.finish()
    const pauseMs = Number(this.#world.nowNs() - startedNs) / 1e6
    for (const piece of pages) this.#postPages(id, piece)
    this.#world.post({ kind: 'copied', copy: id, state, pauseMs, rounds: live.round }, [state.buffer as ArrayBuffer])
    this.#copy = undefined
  }

  #postPages(copy: number, bytes: Uint8Array): void {
    if (bytes.length === 0) return
    this.#creditBytes -= bytes.length
    this.#world.post({ kind: 'pages', copy, bytes }, [bytes.buffer as ArrayBuffer])
  }

  #end(): void {
    this.#copy?.live.abandon()
    this.#copy = undefined
  }
}
