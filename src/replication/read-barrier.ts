/**
 * Disk reads on the backup, the primary's part (VMware FT, "Disk reads on the backup"): a change of a disk waits until every
 * backup has done the reads that came before it and touch the same sectors. Otherwise a backup that is a little behind would
 * read what did not yet exist when its machine asked.
 *
 *   OutputGate ──acknowledged──► ReadBarrier ──every backup has replayed past `afterReadsEnd`──► released
 *   goLive ────reissued requests─────┘
 *
 * A backup that has replayed a `diskRead` entry has read its data, so its `replayedEnd` acknowledges the reads. Lost backups are
 * waited for until the arbiter has dropped them, as with the Output Rule; those that catch up are waited for, too. Nothing
 * waits behind what waits here: a change that overlaps another one is not made before that is answered, and the rest may
 * overtake.
 *
 * To its own copy of a disk a primary writes without waiting, since every backup reads its own in turn with its changes. Not
 * while a backup makes that copy out of the primary's: until its machine is whole, what it is going to read stands there.
 *
 * A backup that joins later, with a log that it has not replayed to its end, may find its reads overwritten: hence
 * `canStillRead`.
 */

import { type LogEnd, logIndex, type MarkedOutput, type ReissuedRequest } from '../log/entry.ts'
import type { PrimaryEffect } from './effects.ts'

export class ReadBarrier {
  readonly #effects: PrimaryEffect[]
  #held: (MarkedOutput | ReissuedRequest)[] = []
  /** Past every read whose sectors may have changed since. */
  #overwrittenEnd: LogEnd = logIndex(0n)

  /** @param effects where requests that may be issued again are put */
  constructor(effects: PrimaryEffect[]) {
    this.#effects = effects
  }

  get heldOutputs(): number {
    return this.#held.length
  }

  get heldBytes(): number {
    return this.#held.reduce((sum, { output }) => sum + (output.kind === 'disk' ? (output.data?.length ?? 0) : 0), 0)
  }

  /** Who has replayed every entry below `replayedEnd`, and no more, finds what the others have read. */
  canStillRead(replayedEnd: LogEnd): boolean {
    return replayedEnd >= this.#overwrittenEnd
  }

  /** Disk requests that this replica found without an answer when it went live. They leave by `pass`, as an effect. */
  hold(requests: readonly ReissuedRequest[]): void {
    this.#held.push(...requests)
  }

  /**
   * Call whenever a backup has come further, or one less is to be waited for.
   * @param outputs what the Output Rule lets out now
   * @param replayedEnd every backup has replayed every entry below it; undefined: there is no backup to wait for
   * @returns what may be released, of these and of those that waited
   */
  pass(outputs: readonly MarkedOutput[], replayedEnd: LogEnd | undefined): readonly MarkedOutput[] {
    if (this.#held.length === 0 && outputs.every(({ afterReadsEnd }) => afterReadsEnd === undefined)) return outputs
    const held: (MarkedOutput | ReissuedRequest)[] = []
    const released: MarkedOutput[] = []
    const reissued: ReissuedRequest[] = []
    for (const one of [...this.#held, ...outputs]) {
      const { afterReadsEnd } = one
      if (afterReadsEnd !== undefined) {
        if (replayedEnd !== undefined && replayedEnd < afterReadsEnd) {
          held.push(one)
          continue
        }
        if (afterReadsEnd > this.#overwrittenEnd) this.#overwrittenEnd = afterReadsEnd
      }
      if ('markerIndex' in one) released.push(one)
      else reissued.push(one)
    }
    this.#held = held
    if (reissued.length > 0) this.#effects.push({ kind: 'reissue', requests: reissued.map(({ output }) => output) })
    return released
  }
}
