/**
 * The way out of the machine, on a primary: what an output passes from the hart to its receiver, and what an inbound frame
 * waits for until the switch may forget it.
 *
 *   output ──► OutputGate ──acknowledged──► ReadBarrier ──► released ──► UnconfirmedOutputs ──receiver confirms──► forgotten
 *          └─► need not wait (`obeysOutputRule`) ─────────────┘
 *   frame in the log: uncovered ──acknowledged──► covered
 *
 * It decides nothing about backups: it is told up to which entry all of them have acknowledged.
 */

import type { BootArtefacts } from '../log/boot-artefacts.ts'
import type { LogEnd, MarkedOutput, ReissuedRequest } from '../log/entry.ts'
import { obeysOutputRule } from '../log/output-rule.ts'
import type { PrimaryEffect } from './effects.ts'
import type { ConfirmedEnds, ConfirmedKind } from './messages.ts'
import { type GateLimits, OutputGate } from './output-gate.ts'
import { ReadBarrier } from './read-barrier.ts'
import { UnconfirmedOutputs } from './unconfirmed-outputs.ts'
import { UncoveredFrames } from './uncovered-frames.ts'

export interface OutputPathOptions {
  readonly gate: GateLimits
  /** They say of which disks each replica has its own copy. */
  readonly artefacts: BootArtefacts | undefined
  /** What a backup that went live sends again. */
  readonly unconfirmed: UnconfirmedOutputs | undefined
  /** The last inbound frame in the log so far. */
  readonly coveredFrameId: bigint | undefined
}

export class OutputPath {
  readonly #gate: OutputGate
  readonly #reads: ReadBarrier
  /** What goes to them need not wait. */
  readonly #ownDisks: ReadonlySet<number>
  readonly #unconfirmed: UnconfirmedOutputs
  readonly #uncovered: UncoveredFrames
  readonly #effects: PrimaryEffect[]

  /** @param effects where what leaves is put, in order */
  constructor(options: OutputPathOptions, effects: PrimaryEffect[]) {
    this.#gate = new OutputGate(options.gate)
    this.#reads = new ReadBarrier(effects)
    const disks = options.artefacts?.config.disks.flatMap(({ isOwn }, disk) => (isOwn ? [disk] : []))
    this.#ownDisks = new Set(disks)
    this.#unconfirmed = options.unconfirmed ?? new UnconfirmedOutputs()
    this.#uncovered = new UncoveredFrames(options.coveredFrameId)
    this.#effects = effects
  }

  get status(): { readonly heldOutputs: number; readonly heldBytes: number; readonly unconfirmedOutputs: number } {
    const heldOutputs = this.#gate.heldOutputs + this.#reads.heldOutputs
    const heldBytes = this.#gate.heldBytes + this.#reads.heldBytes
    return { heldOutputs, heldBytes, unconfirmedOutputs: this.#unconfirmed.count }
  }

  /** How full it is with what is held and what is unconfirmed: 1 is full. */
  get fill(): number {
    const { bytes, count } = this.#unconfirmed
    return this.#gate.fill(bytes + this.#reads.heldBytes, count + this.#reads.heldOutputs)
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

  /**
   * The machine made outputs. Those that need not wait leave.
   * @param copying a backup is making its own copies of disks out of this one's, so it reads there what this one changes; every
   *   backup has replayed every entry below this. Default: none is.
   */
  take(outputs: readonly MarkedOutput[], copying?: { readonly replayedEnd: LogEnd | undefined }): void {
    const obeys = ({ output }: MarkedOutput): boolean => obeysOutputRule(output, this.#ownDisks)
    const unruled = outputs.filter((marked) => !obeys(marked))
    const free = copying ? this.#reads.pass(unruled, copying.replayedEnd) : unruled
    if (free.length > 0) this.#effects.push({ kind: 'release', outputs: free, afterAcknowledged: undefined })
    for (const marked of outputs) if (obeys(marked)) this.#gate.hold(marked)
  }

  /** The log below `end` holds every inbound frame up to this one. */
  onLoggedFrame(end: LogEnd, frameId: bigint): void {
    this.#uncovered.onLogged(end, frameId)
  }

  /** Disk requests that this replica found without an answer when it went live: they leave by `release`. */
  reissue(requests: readonly ReissuedRequest[]): void {
    this.#reads.hold(requests)
  }

  /** Whoever has replayed every entry below `replayedEnd`, and no more, can still read what the others have read. */
  canStillRead(replayedEnd: LogEnd): boolean {
    return this.#reads.canStillRead(replayedEnd)
  }

  /**
   * What the acknowledgements allow: outputs leave, frames are covered.
   * @param afterAcknowledged every backup has acknowledged every entry below it; undefined: there is no backup to wait for
   * @param replayedEnd … and has replayed every entry below this
   */
  release(afterAcknowledged: LogEnd | undefined, replayedEnd: LogEnd | undefined): void {
    const outputs = this.#reads.pass(this.#gate.release(afterAcknowledged), replayedEnd)
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
