/**
 * Inbound frames that the switch keeps for one machine until they cannot be lost any more (ARCHITECTURE, invariant 6).
 *
 * A frame that was delivered to the primary is lost with it unless the log entry that holds it was acknowledged. So the
 * switch numbers each frame, keeps it until the replica says "covered", and delivers the uncovered ones again to the
 * replica that goes live: the client's packet is answered without waiting for its retransmission timer.
 *
 * The store is bounded, as a real switch's buffer is: when it is full, new frames are dropped (and get no number, so
 * that the numbers of kept frames have no gaps).
 */

import { assert } from '../base/assert.ts'

export interface KeptFrame {
  /** Numbered per machine from 1, without gaps. */
  readonly frameId: bigint
  readonly frame: Uint8Array
}

export interface KeptLimits {
  readonly frames: number
  readonly bytes: number
}

export class KeptFrames {
  readonly #limits: KeptLimits
  #frames: KeptFrame[] = []
  /** Frames before this index are covered; the array is cut when half of it is. */
  #head = 0
  #bytes = 0
  #lastFrameId = 0n

  constructor(limits: KeptLimits) {
    this.#limits = limits
  }

  get count(): number {
    return this.#frames.length - this.#head
  }

  get bytes(): number {
    return this.#bytes
  }

  /** How full the store is, from 0 to 1. */
  get fill(): number {
    return Math.max(this.count / this.#limits.frames, this.#bytes / this.#limits.bytes)
  }

  /** The highest number given so far; 0 before the first. */
  get lastFrameId(): bigint {
    return this.#lastFrameId
  }

  /** Numbers and keeps a copy of `frame`; undefined when there is no room. */
  add(frame: Uint8Array): KeptFrame | undefined {
    if (this.count >= this.#limits.frames || this.#bytes + frame.length > this.#limits.bytes) return undefined
    // A copy, because `frame` may be a small view of a socket's large chunk that would stay alive with it.
    const kept = { frameId: ++this.#lastFrameId, frame: frame.slice() }
    this.#frames.push(kept)
    this.#bytes += frame.length
    return kept
  }

  /** Forgets every frame up to `frameId`. Cumulative: a lower number than before changes nothing. */
  cover(frameId: bigint): void {
    while (this.#head < this.#frames.length && this.#frames[this.#head]!.frameId <= frameId) {
      this.#bytes -= this.#frames[this.#head]!.frame.length
      this.#head++
    }
    if (this.#head > 64 && this.#head * 2 > this.#frames.length) {
      this.#frames = this.#frames.slice(this.#head)
      this.#head = 0
    }
    assert(this.#bytes >= 0 && (this.count > 0 || this.#bytes === 0), 'kept bytes are the sum of the kept frames')
  }

  /** The kept frames, oldest first. */
  all(): readonly KeptFrame[] {
    return this.#frames.slice(this.#head)
  }

  /**
   * Goes on numbering after `frameId`. A switch that was started again learns here how far its predecessor counted, so
   * that a replica never meets one number twice.
   */
  skipTo(frameId: bigint): void {
    if (frameId > this.#lastFrameId) {
      assert(this.count === 0, 'frames above the last number cannot be kept')
      this.#lastFrameId = frameId
    }
  }

  /** Forgets everything and numbers from 1 again: another log begins. */
  restart(): void {
    this.#frames = []
    this.#head = 0
    this.#bytes = 0
    this.#lastFrameId = 0n
  }
}
