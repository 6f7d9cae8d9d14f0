/**
 * What Bressoud & Schneider's protocol promises, by the log alone: a checker that knows nothing of who wrote it.
 *
 *   … [end, E−1] ── markers, environment values ── [E, Int]… [Tme] [end, E] …
 *                                                 └── all at one count: the end of E ──┘
 *
 *  - P1, P5: what comes from outside enters where an epoch ends, and nothing runs before [end, E];
 *  - P2: epochs are numbered without a gap, none is longer than it may be, and each has one [Tme]: P6, also the failover
 *    epoch, whether its Tme came from the primary that failed or not;
 *  - P7: at the end of the failover epoch, and nowhere else, each operation that was outstanding at the failure gets an
 *    uncertain interrupt, where the disk has a word for it.
 */

import { unreachable } from '../base/assert.ts'
import type { EpochDiscipline } from '../log/discipline.ts'
import type { LogEnd, LogEntry } from '../log/entry.ts'
import type { DiskBus } from '../machine/types.ts'
import type { Situation } from './situations.ts'

export interface EpochSettings {
  readonly discipline: EpochDiscipline
  readonly bus: DiskBus
}

export class EpochRules {
  readonly #settings: EpochSettings
  readonly #count: (situation: Situation) => void
  /** Where logs of primaries that failed ended, oldest first. */
  readonly #failovers: LogEnd[]
  #epoch = 0n
  #startCount = 0n
  #times = 0
  /** Where the epoch ended, once something entered there. */
  #endCount: bigint | undefined
  #isFailoverEpoch = false
  readonly #outstanding = new Set<bigint>()
  /** Operations that are owed an uncertain interrupt. */
  #uncertain = new Set<bigint>()

  constructor(settings: EpochSettings, failovers: readonly LogEnd[], count: (situation: Situation) => void) {
    this.#settings = settings
    this.#failovers = [...failovers]
    this.#count = count
    count(settings.discipline.protocol === 'original' ? 'epoch_original' : 'epoch_revised')
  }

  /** @returns what is wrong, or undefined */
  onEntry({ index, count, body }: LogEntry): string | undefined {
    while (this.#failovers.length > 0 && index >= this.#failovers[0]!) this.#onFailover()
    if (this.#endCount !== undefined && count !== this.#endCount) {
      return `entry ${index} is at ${count}, and epoch ${this.#epoch} had come to its end at ${this.#endCount}`
    }
    switch (body.kind) {
      case 'epochEnd':
        return this.#onEnd(body.epoch, count)
      case 'clock':
        this.#endCount = count
        this.#times++
        return undefined
      case 'diskCompletion':
        this.#endCount = count
        return this.#onAnswer(body.sequence, body.status === 'uncertain')
      case 'diskRead':
        this.#endCount = count
        return this.#onAnswer(body.sequence, false)
      case 'frame':
      case 'consoleInput':
      case 'powerButton':
        this.#endCount = count
        return undefined
      case 'marker':
        if (body.outputKind === 'disk') this.#outstanding.add(body.sequence)
        return undefined
      case 'boot':
      case 'entropy':
      case 'digest':
        return undefined
      default:
        return unreachable(body)
    }
  }

  #onFailover(): void {
    this.#failovers.shift()
    this.#isFailoverEpoch = true
    if (this.#times > 0) this.#count('failover_tme_came')
    if (this.#settings.bus === 'scsi') this.#uncertain = new Set(this.#outstanding)
  }

  #onAnswer(sequence: bigint, isUncertain: boolean): string | undefined {
    this.#outstanding.delete(sequence)
    const isOwed = this.#uncertain.delete(sequence)
    if (isUncertain) this.#count('uncertain_interrupt')
    if (isUncertain === isOwed) return undefined
    return isUncertain
      ? `P7: operation ${sequence} was not outstanding at a failover, and got an uncertain interrupt`
      : `P7: operation ${sequence} was outstanding at the failover, and got another answer than an uncertain interrupt`
  }

  #onEnd(epoch: bigint, count: bigint): string | undefined {
    const wrong = this.#wrongAtEnd(epoch, count)
    const longest = BigInt(this.#settings.discipline.instructions)
    if (count - this.#startCount < longest) this.#count('epoch_ended_early')
    if (this.#isFailoverEpoch) this.#count('failover_epoch_finished')
    this.#epoch = epoch + 1n
    this.#startCount = count
    this.#endCount = undefined
    this.#times = 0
    this.#isFailoverEpoch = false
    return wrong
  }

  #wrongAtEnd(epoch: bigint, count: bigint): string | undefined {
    const { discipline } = this.#settings
    const ran = count - this.#startCount
    if (epoch !== this.#epoch) return `P2: [end, ${epoch}] in epoch ${this.#epoch}`
    if (ran > BigInt(discipline.instructions)) return `P2: epoch ${epoch} had ${ran} instructions`
    if (this.#times !== 1) return `P6: epoch ${epoch} had ${this.#times} times`
    const [missing] = this.#uncertain
    return missing === undefined ? undefined : `P7: no uncertain interrupt for operation ${missing} in epoch ${epoch}`
  }
}
