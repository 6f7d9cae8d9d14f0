/**
 * The backup's side of Bressoud & Schneider's protocol: a way of driving a Replayer. The rules by their names:
 *
 *   P3  interrupts meant for the backup's own machine are ignored                        `onInterrupt`
 *   P4  [E, Int] is acknowledged and buffered for delivery at the end of E               `onEntries`
 *   P5  at the end of E: await [Tme], adopt it; await [end, E]; deliver; start E + 1     `run`
 *   P6  the primary has failed: the epoch that has no [end, E] is the *failover epoch*.
 *       It ends with the [Tme] that came, or else by this host's clock; then this
 *       replica is the primary of E + 1                                                  `promote`, `failOver`
 *   P7  at the end of the failover epoch, an *uncertain interrupt* for every I/O
 *       operation outstanding                                                            `failOver`
 *
 * P4 and P5 need no code of their own: an entry waits in the Replayer's queue until the machine stands at its count, which
 * is the end of E, and no instruction of E + 1 is run before an entry says so. The acknowledgement is the protocol's
 * (replication/backup.ts), sent on receipt.
 *
 * P6 differs from the paper in one thing. There the backup runs the failover epoch to its end with its outputs
 * suppressed, because it cannot know which of them the primary had performed. Here every output that could have left has
 * a marker in the log. So the rest of the failover epoch is run live, by the EpochPrimary that `failOver` returns.
 */

import { assert } from '../../base/assert.ts'
import type { LogBatch } from '../../log/batch.ts'
import type { EpochDiscipline } from '../../log/discipline.ts'
import type { LogEnd, MarkedOutput, ReissuedRequest } from '../../log/entry.ts'
import type { RecorderOptions } from '../recorder.ts'
import type { ReplayedRun, Replayer } from '../replayer.ts'
import { EpochPrimary } from './epoch-primary.ts'
import { canBeUncertain, type Interrupt } from './interrupts.ts'

export interface EpochFailover {
  readonly primary: EpochPrimary
  /** This replica's own first outputs (`GoneLive.outputs`). */
  readonly outputs: readonly MarkedOutput[]
  /** Operations outstanding whose drivers cannot be told: they are issued again. */
  readonly reissue: readonly ReissuedRequest[]
}

export class EpochBackup {
  readonly #replayer: Replayer
  readonly #early: Interrupt[] = []
  #isPromoted = false

  constructor(replayer: Replayer) {
    this.#replayer = replayer
  }

  /** Every entry below it is replayed. */
  get replayedEnd(): LogEnd {
    return this.#replayer.replayedEnd
  }

  /** P3. After `promote` it is this machine's own interrupt: it waits for the end of the failover epoch (P1). */
  onInterrupt(interrupt: Interrupt): void {
    if (this.#isPromoted) this.#early.push(interrupt)
  }

  /** P4: each [E, Int] among them waits for the end of E. */
  onEntries(batch: LogBatch): void {
    this.#replayer.append(batch)
  }

  /** P5: runs as far as entries allow. */
  run(maxInstructions: bigint): ReplayedRun {
    return this.#replayer.run(maxInstructions)
  }

  /** The arbiter's word: this replica is to be the primary, as soon as everything it acknowledged is replayed. */
  promote(): void {
    this.#isPromoted = true
  }

  /** P6 and P7, when everything acknowledged is replayed. */
  failOver(discipline: EpochDiscipline, options?: RecorderOptions): EpochFailover {
    assert(this.#isPromoted, 'a backup takes over only after it was promoted')
    const { recorder, outputs, reissue: outstanding } = this.#replayer.goLive(options)
    const { config } = recorder.machine
    const uncertain = outstanding.map(({ output }) => output).filter((request) => canBeUncertain(config, request))
    const reissue = outstanding.filter(({ output }) => !canBeUncertain(config, output))
    const primary = new EpochPrimary(recorder, discipline, uncertain)
    for (const interrupt of this.#early) primary.onInterrupt(interrupt)
    return { primary, outputs, reissue }
  }
}
