/**
 * Outputs that were regenerated or released, and whose receiver has not confirmed them yet (ARCHITECTURE, invariant 6): a
 * backup keeps them, because the primary may die between the acknowledgement and the send. At go-live they are sent
 * again; receivers drop what they have (TCP does, the switch does by number).
 *
 * Only frames and console output are here. A disk request is confirmed by its completion, which is a log entry: the
 * machine itself knows which are in flight, so a write is never both here and there. Entropy and power requests are
 * answered by whoever writes the log.
 */

import type { MarkedOutput, Output } from '../log/entry.ts'
import { type ConfirmedEnds, type ConfirmedKind, confirmedKinds } from './messages.ts'

export type ConfirmedOutput = Extract<Output, { kind: ConfirmedKind }>

export interface UnconfirmedOutput extends MarkedOutput {
  readonly output: ConfirmedOutput
}

function isConfirmedByReceiver(marked: MarkedOutput): marked is UnconfirmedOutput {
  return (confirmedKinds as readonly string[]).includes(marked.output.kind)
}

export class UnconfirmedOutputs {
  readonly #kept: Record<ConfirmedKind, UnconfirmedOutput[]> = { frame: [], console: [] }
  readonly #ends: Record<ConfirmedKind, bigint> = { frame: 0n, console: 0n }
  /** Exclusive bound of what was added: a receiver cannot confirm more. */
  readonly #added: Record<ConfirmedKind, bigint> = { frame: 0n, console: 0n }
  #bytes = 0

  get bytes(): number {
    return this.#bytes
  }

  get count(): number {
    return this.#kept.frame.length + this.#kept.console.length
  }

  get confirmedEnds(): ConfirmedEnds {
    return { ...this.#ends }
  }

  /** Keeps an output, unless it is of a kind that nobody confirms, or its confirmation came first (execution lag). */
  add(marked: MarkedOutput): void {
    if (!isConfirmedByReceiver(marked)) return
    const { kind, sequence, bytes } = marked.output
    this.#added[kind] = sequence + 1n
    if (sequence < this.#ends[kind]) return
    this.#kept[kind].push(marked)
    this.#bytes += bytes.length
  }

  /** A backup learns what the receivers have: everything below these ends, replayed here already or not. */
  confirm(ends: ConfirmedEnds): void {
    for (const kind of confirmedKinds) this.#confirmBelow(kind, ends[kind])
  }

  /**
   * A primary's receiver confirms every output of this kind up to `sequence`. It cannot confirm what was not released:
   * backups would forget outputs that nobody has.
   */
  confirmReleased(kind: ConfirmedKind, sequence: bigint): void {
    const end = sequence + 1n
    this.#confirmBelow(kind, end < this.#added[kind] ? end : this.#added[kind])
  }

  /** In the order in which the machine made them. */
  inOrder(): UnconfirmedOutput[] {
    return [...this.#kept.frame, ...this.#kept.console].sort((a, b) => (a.output.sequence < b.output.sequence ? -1 : 1))
  }

  #confirmBelow(kind: ConfirmedKind, end: bigint): void {
    if (end <= this.#ends[kind]) return
    this.#ends[kind] = end
    const kept = this.#kept[kind]
    let confirmed = 0
    for (const { output } of kept) {
      if (output.sequence >= end) break
      this.#bytes -= output.bytes.length
      confirmed++
    }
    kept.splice(0, confirmed)
  }
}
