/**
 * The Output Rule (VMware FT; ARCHITECTURE, invariant 5): the primary may not send an output to the outside before every
 * backup has received and acknowledged the log entry of the operation that produced it: its marker.
 *
 * Only outputs wait, the machine runs on. The gate decides nothing about backups: it is told up to which entry everything
 * is acknowledged, and lets out what that allows, in order.
 *
 * Which outputs need not wait is `obeysOutputRule`'s word.
 */

import type { LogEnd, MarkedOutput, Output } from '../log/entry.ts'

export interface GateLimits {
  readonly maxBytes: number
  readonly maxOutputs: number
}

export const defaultGateLimits: GateLimits = { maxBytes: 16 * 1024 * 1024, maxOutputs: 8192 }

function sizeOf(output: Output): number {
  switch (output.kind) {
    case 'frame':
    case 'console':
      return output.bytes.length
    case 'disk':
      return output.data?.length ?? 0
    case 'entropyRequest':
    case 'power':
      return 0
  }
}

export class OutputGate {
  readonly #limits: GateLimits
  #held: MarkedOutput[] = []
  #bytes = 0

  constructor(limits: GateLimits = defaultGateLimits) {
    this.#limits = limits
  }

  get held(): readonly MarkedOutput[] {
    return this.#held
  }

  get heldOutputs(): number {
    return this.#held.length
  }

  get heldBytes(): number {
    return this.#bytes
  }

  hold(marked: MarkedOutput): void {
    this.#held.push(marked)
    this.#bytes += sizeOf(marked.output)
  }

  /**
   * What may leave now.
   * @param acknowledgedEnd every backup has acknowledged every entry below it; undefined: there is no backup to wait for
   */
  release(acknowledgedEnd: LogEnd | undefined): MarkedOutput[] {
    let count = this.#held.length
    if (acknowledgedEnd !== undefined) {
      const first = this.#held.findIndex(({ markerIndex }) => markerIndex >= acknowledgedEnd)
      if (first >= 0) count = first
    }
    if (count === 0) return []
    const released = this.#held.splice(0, count)
    for (const { output } of released) this.#bytes -= sizeOf(output)
    return released
  }

  /** How full the gate is, from 0 to 1 and beyond, with `otherBytes` and `otherOutputs` that wait elsewhere. */
  fill(otherBytes = 0, otherOutputs = 0): number {
    const { maxBytes, maxOutputs } = this.#limits
    return Math.max((this.#bytes + otherBytes) / maxBytes, (this.#held.length + otherOutputs) / maxOutputs)
  }
}
