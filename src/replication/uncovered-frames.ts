/**
 * Inbound frames that are in the log, and whose entries are not acknowledged yet. The switch keeps them until then (invariant
 * 6): if the log's end is lost with the primary, it delivers them again.
 */

import type { LogEnd } from '../log/entry.ts'

export class UncoveredFrames {
  #frames: { readonly end: LogEnd; readonly frameId: bigint }[] = []
  #lastFrameId: bigint | undefined

  /** @param lastFrameId the last frame that is in the log already */
  constructor(lastFrameId: bigint | undefined) {
    this.#lastFrameId = lastFrameId
  }

  /** The last frame in the log. */
  get lastFrameId(): bigint | undefined {
    return this.#lastFrameId
  }

  /** The log below `end` holds every frame up to this one. */
  onLogged(end: LogEnd, frameId: bigint): void {
    this.#frames.push({ end, frameId })
    this.#lastFrameId = frameId
  }

  /**
   * Takes out what is covered now.
   * @param acknowledgedEnd every backup has acknowledged every entry below it; undefined: there is no backup to wait for
   * @returns the last frame that is newly covered, if there is one
   */
  takeCovered(acknowledgedEnd: LogEnd | undefined): bigint | undefined {
    let covered: bigint | undefined
    while (this.#frames[0] && (acknowledgedEnd === undefined || this.#frames[0].end <= acknowledgedEnd)) {
      covered = this.#frames.shift()!.frameId
    }
    return covered
  }
}
