/**
 * A replica's side of its machine's place on the switch, sans I/O: what is sent when, over connections that come and go. The
 * switch's side is machine-port.ts.
 *
 *   connected, live ──► bind ──► bound: what is not confirmed leaves (again), in order ──► outputs, covered …
 *   connection over ──► connected again: bind again
 *                   └─► nobody there: what waits is lost, as on any network
 *
 * Frames sent before the MAC is bound wait for it, so that a go-live's unconfirmed outputs come first. A connection that broke
 * may have led to a switch that lives: what it has not forwarded is sent again, and what it delivered stays kept there until it
 * is covered (invariant 6). The switch's numbers are one above output sequences: there 0 means none.
 */

import { assert } from '../base/assert.ts'
import type { LanBinding } from './lan-client.ts'

/** An open connection to the switch. */
export interface PlaceLink {
  bind(binding: Required<LanBinding>): void
  sendOutput(sequence: bigint, frame: Uint8Array): void
  covered(frameId: bigint): void
}

interface UnconfirmedFrame {
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
  /** Every inbound frame up to this one is in an acknowledged log entry. */
  #coveredFrameId = 0n
  /** The last frame that reached this replica: a switch that was started again goes on numbering after it. */
  #receivedFrameId = 0n
  /** What was released, and the switch has not confirmed. */
  #unconfirmed: UnconfirmedFrame[] = []
  /** It was bound in this generation before: on a connection that broke. */
  #isComingBack = false
  #lastSequence: bigint | undefined

  constructor(onConfirmed: (sequence: bigint) => void) {
    this.#onConfirmed = onConfirmed
  }

  onConnected(link: PlaceLink): void {
    this.#link = link
    this.#bind()
  }

  /**
   * The replica is live. Frames after `receivedFrameId` are to be delivered (again); those after `coveredFrameId` are kept, for
   * they may be lost with this replica.
   */
  bind({ generation, logId, coveredFrameId, receivedFrameId }: Required<LanBinding>): void {
    this.#binding = { generation, logId }
    this.#isComingBack = false
    this.#coveredFrameId = coveredFrameId
    if (receivedFrameId > this.#receivedFrameId) this.#receivedFrameId = receivedFrameId
    this.#bind()
  }

  /**
   * The switch has answered the bind on this connection.
   * @param forwarded the last output that it has forwarded, by its own number; 0: none, for it was started again
   */
  onBound(forwarded: bigint): void {
    assert(this.#link, 'a bind is answered on the connection it was sent on')
    this.#isBound = true
    if (this.#isComingBack && forwarded === 0n) this.giveUpUnconfirmed()
    else if (this.#isComingBack) this.onConfirmed(forwarded)
    this.#isComingBack = true
    for (const { sequence, bytes } of this.#unconfirmed) this.#link.sendOutput(sequence + 1n, bytes)
  }

  onFrame(frameId: bigint): void {
    this.#receivedFrameId = frameId
  }

  /** The switch confirmed every output up to this number of its own. */
  onConfirmed(numberOnLan: bigint): void {
    const confirmed = this.#unconfirmed.findIndex(({ sequence }) => sequence >= numberOnLan)
    this.#unconfirmed.splice(0, confirmed < 0 ? this.#unconfirmed.length : confirmed)
    this.#onConfirmed(numberOnLan - 1n)
  }

  send(sequence: bigint, bytes: Uint8Array): void {
    this.#lastSequence = sequence
    this.#unconfirmed.push({ sequence, bytes })
    if (this.#isBound) this.#link?.sendOutput(sequence + 1n, bytes)
  }

  covered(frameId: bigint): void {
    this.#coveredFrameId = frameId
    if (this.#isBound) this.#link?.covered(frameId)
  }

  onClosed(): void {
    this.#link = undefined
    this.#isBound = false
  }

  /** Call when nobody is there: without a switch there is no network, and nobody needs to keep frames. */
  giveUpUnconfirmed(): void {
    this.#unconfirmed = []
    if (this.#lastSequence !== undefined) this.#onConfirmed(this.#lastSequence)
  }

  #bind(): void {
    if (!this.#binding) return
    const [coveredFrameId, receivedFrameId] = [this.#coveredFrameId, this.#receivedFrameId]
    this.#link?.bind({ ...this.#binding, coveredFrameId, receivedFrameId })
  }
}
