/**
 * A replica's side of its machine's place on the switch, sans I/O: what is sent when, over connections that come and go. The
 * switch's side is machine-port.ts.
 *
 *   connected, live ──► bind ──► bound: what was released meanwhile leaves, in order ──► outputs, covered …
 *   connection over ──► the switch is gone: what waits is lost, as on any network ──► connected again: bind again
 *
 * Frames sent before the MAC is bound wait for it, so that a go-live's unconfirmed outputs come first. The switch's numbers
 * are one above output sequences: there 0 means none.
 */

import { assert } from '../base/assert.ts'

/** An open connection to the switch. */
export interface PlaceLink {
  bind(binding: { readonly generation: bigint; readonly logId: bigint; readonly coveredFrameId: bigint }): void
  sendOutput(sequence: bigint, frame: Uint8Array): void
  covered(frameId: bigint): void
}

interface QueuedFrame {
  readonly sequence: bigint
  readonly bytes: Uint8Array
}

export class MachinePlace {
  /** Tells that the network has, or will never have, every frame up to this output. */
  readonly #onConfirmed: (sequence: bigint) => void
  #link: PlaceLink | undefined
  #isBound = false
  /** Where this replica is live. */
  #binding: { readonly generation: bigint; readonly logId: bigint } | undefined
  /** The last frame that reached this replica: a switch that was started again goes on numbering after it. */
  #receivedFrameId = 0n
  #queue: QueuedFrame[] = []
  #lastSequence: bigint | undefined

  constructor(onConfirmed: (sequence: bigint) => void) {
    this.#onConfirmed = onConfirmed
  }

  onConnected(link: PlaceLink): void {
    this.#link = link
    if (this.#binding) link.bind({ ...this.#binding, coveredFrameId: this.#receivedFrameId })
  }

  /** The replica is live. Frames after `coveredFrameId` are to be delivered (again). */
  bind(generation: bigint, logId: bigint, coveredFrameId: bigint): void {
    this.#binding = { generation, logId }
    if (coveredFrameId > this.#receivedFrameId) this.#receivedFrameId = coveredFrameId
    this.#link?.bind({ generation, logId, coveredFrameId: this.#receivedFrameId })
  }

  /** The switch has answered the bind on this connection. */
  onBound(): void {
    assert(this.#link, 'a bind is answered on the connection it was sent on')
    this.#isBound = true
    for (const { sequence, bytes } of this.#queue.splice(0)) this.#link.sendOutput(sequence + 1n, bytes)
  }

  onFrame(frameId: bigint): void {
    this.#receivedFrameId = frameId
  }

  /** The switch confirmed every output up to this number of its own. */
  onConfirmed(numberOnLan: bigint): void {
    this.#onConfirmed(numberOnLan - 1n)
  }

  send(sequence: bigint, bytes: Uint8Array): void {
    this.#lastSequence = sequence
    if (this.#isBound && this.#link) this.#link.sendOutput(sequence + 1n, bytes)
    else this.#queue.push({ sequence, bytes })
  }

  covered(frameId: bigint): void {
    if (this.#isBound) this.#link?.covered(frameId)
  }

  onClosed(): void {
    this.#link = undefined
    this.#isBound = false
  }

  /** Call before each attempt to connect again: without a switch there is no network, and nobody needs to keep frames. */
  giveUpQueue(): void {
    this.#queue = []
    if (this.#lastSequence !== undefined) this.#onConfirmed(this.#lastSequence)
  }
}
