/**
 * The way out of the machine, on a primary: what an output passes from the hart to its receiver, and what an inbound frame
 * waits for until the switch may forget it.
 *
 *   output ──► OutputGate: held ──acknowledged──► released ──► UnconfirmedOutputs ──receiver confirms──► forgotten
 *          └─► need not wait (`obeysOutputRule`) ─────┘
 *   frame in the log: uncovered ──acknowledged──► covered
 *
 * It decides nothing about backups: it is told up to which entry all of them have acknowledged.
 */

import type { LogEnd, MarkedOutput } from '../log/entry.ts'
import { obeysOutputRule } from '../log/output-rule.ts'
import type { PrimaryEffect } from './effects.ts'
import type { ConfirmedEnds, ConfirmedKind } from './messages.ts'
import { type GateLimits, OutputGate } from './output-gate.ts'
import { UnconfirmedOutputs } from './unconfirmed-outputs.ts'
import { UncoveredFrames } from './uncovered-frames.ts'

export interface OutputPathOptions {
  readonly gate: GateLimits
  /** Disks of which each replica has its own copy: what goes to them need not wait. */
  readonly ownDisks: ReadonlySet<number>
  /** What a backup that went live sends again. */
  readonly unconfirmed: UnconfirmedOutputs | undefined
  /** The last inbound frame in the log so far. */
  readonly coveredFrameId: bigint | undefined
}

export class OutputPath {
  readonly #gate: OutputGate
  readonly #ownDisks: ReadonlySet<number>
  readonly #unconfirmed: UnconfirmedOutputs
  readonly #uncovered: UncoveredFrames
  readonly #effects: PrimaryEffect[]

  /** @param effects where what leaves is put, in order */
  constructor(options: OutputPathOptions, effects: PrimaryEffect[]) {
    this.#gate = new OutputGate(options.gate)
    this.#ownDisks = options.ownDisks
    this.#unconfirmed = options.unconfirmed ?? new UnconfirmedOutputs()
    this.#uncovered = new UncoveredFrames(options.coveredFrameId)
    this.#effects = effects
  }

  get status(): { readonly heldOutputs: number; readonly heldBytes: number; readonly unconfirmedOutputs: number } {
    const { heldOutputs, heldBytes } = this.#gate
    return { heldOutputs, heldBytes, unconfirmedOutputs: this.#unconfirmed.count }
  }

  /** How full it is with what is held and what is unconfirmed: 1 is full. */
  get fill(): number {
    return this.#gate.fill(this.#unconfirmed.bytes, this.#unconfirmed.count)
  }

  get confirmedEnds(): ConfirmedEnds {
    return this.#unconfirmed.confirmedEnds
  }

  /** For a backup that gets the machine as it is now: the last frame in its log, and all that nobody has confirmed. */
  get ofState(): { readonly coveredFrameId: bigint | undefined; readonly unconfirmed: readonly MarkedOutput[] } {
    return {
      coveredFrameId: this.#uncovered.lastFrameId,
      unconfirmed: [...this.#unconfirmed.inOrder(), ...this.#gate.held],
    }
  }

  /** The machine made outputs. Those that need not wait leave. */
  take(outputs: readonly MarkedOutput[]): void {
    const obeys = ({ output }: MarkedOutput): boolean => obeysOutputRule(output, this.#ownDisks)
    const free = outputs.filter((marked) => !obeys(marked))
    if (free.length > 0) this.#effects.push({ kind: 'release', outputs: free, afterAcknowledged: undefined })
    for (const marked of outputs) if (obeys(marked)) this.#gate.hold(marked)
  }

  /** The log below `end` holds every inbound frame up to this one. */
  onLoggedFrame(end: LogEnd, frameId: bigint): void {
    this.#uncovered.onLogged(end, frameId)
  }

  /**
   * What the acknowledgements allow: outputs leave, frames are covered.
   * @param afterAcknowledged every backup has acknowledged every entry below it; undefined: there is no backup to wait for
   */
  release(afterAcknowledged: LogEnd | undefined): void {
    const outputs = this.#gate.release(afterAcknowledged)
    for (const marked of outputs) this.#unconfirmed.add(marked)
    if (outputs.length > 0) this.#effects.push({ kind: 'release', outputs, afterAcknowledged })
    const frameId = this.#uncovered.takeCovered(afterAcknowledged)
    if (frameId !== undefined) this.#effects.push({ kind: 'covered', frameId })
  }

  /** The receiver has every output of this kind up to `sequence`. */
  onConfirmed(kind: ConfirmedKind, sequence: bigint): void {
    this.#unconfirmed.confirmReleased(kind, sequence)
  }
}
