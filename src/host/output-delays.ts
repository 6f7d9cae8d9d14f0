/**
 * How long outputs wait because there are backups (VMware FT, Output Rule), and for what:
 *
 *   hart makes it ──flush──► the main thread has its entry ──acknowledgement──► released
 *
 * `flush`: until the hart lets its log out and the main thread has it. `acknowledgement`: until every backup that counts has
 * received the entries, from their way into the channel on, all main threads included. Only outputs that waited for somebody
 * are counted: not those of an unprotected machine, nor writes to disks of which each replica has its own copy.
 */

import type { LogIndex, MarkedOutput } from '../log/entry.ts'
import { DelayHistogram, type DelaySummary, summarizeDelays } from './delay-histogram.ts'

export const delayCauses = ['flush', 'acknowledgement', 'total'] as const
export type DelayCause = (typeof delayCauses)[number]

export type OutputDelaySummaries = Readonly<Record<DelayCause, DelaySummary>>

/** Outputs by how long they waited, as `DelayHistogram.counts`: the difference of two is what happened in between. */
export type OutputDelayCounts = Readonly<Record<DelayCause, readonly number[]>>

export const noOutputDelays: OutputDelaySummaries = Object.freeze({
  flush: summarizeDelays([]),
  acknowledgement: summarizeDelays([]),
  total: summarizeDelays([]),
})

interface Waiting {
  readonly madeNs: bigint
  readonly sentNs: bigint
}

export class OutputDelays {
  readonly #waiting = new Map<LogIndex, Waiting>()
  readonly #histograms: Readonly<Record<DelayCause, DelayHistogram>> = {
    flush: new DelayHistogram(),
    acknowledgement: new DelayHistogram(),
    total: new DelayHistogram(),
  }

  get summaries(): OutputDelaySummaries {
    const { flush, acknowledgement, total } = this.#histograms
    return { flush: flush.summary, acknowledgement: acknowledgement.summary, total: total.summary }
  }

  get counts(): OutputDelayCounts {
    const { flush, acknowledgement, total } = this.#histograms
    return { flush: flush.counts, acknowledgement: acknowledgement.counts, total: total.counts }
  }

  /**
   * The hart made these, and their entries have been sent.
   * @param madeNs the hart's clock when it made the first of them; `sentNs`: the same clock now
   */
  onSent(outputs: readonly MarkedOutput[], madeNs: bigint, sentNs: bigint): void {
    for (const { markerIndex } of outputs) this.#waiting.set(markerIndex, { madeNs, sentNs })
  }

  /** @param hasWaited there was a backup whose acknowledgement they needed */
  onReleased(outputs: readonly MarkedOutput[], hasWaited: boolean, nowNs: bigint): void {
    for (const { markerIndex } of outputs) {
      const waiting = this.#waiting.get(markerIndex)
      this.#waiting.delete(markerIndex)
      if (!waiting || !hasWaited) continue
      this.#histograms.flush.add(waiting.sentNs - waiting.madeNs)
      this.#histograms.acknowledgement.add(nowNs - waiting.sentNs)
      this.#histograms.total.add(nowNs - waiting.madeNs)
    }
  }
}
