/** Many seeds: sums up what they went through, and keeps those that failed. */

import { victims } from './faults.ts'
import { runSeed, type SeedResult } from './simulation.ts'
import { noSituations, type SituationCounts, situations } from './situations.ts'

export type FailedSeed = Pick<SeedResult, 'seed' | 'crash' | 'violations'>

export interface CampaignResult {
  readonly seeds: number
  readonly failed: readonly FailedSeed[]
  /** Seeds in which each situation came up. */
  readonly situations: SituationCounts
  /** Log entries of the shortest seed, and of all. */
  readonly leastEntries: number
  readonly entries: number
  readonly leastFaults: number
}

export class Campaign {
  #seeds = 0
  #entries = 0
  #leastEntries = Number.POSITIVE_INFINITY
  #leastFaults = Number.POSITIVE_INFINITY
  readonly #failed: FailedSeed[] = []
  readonly #situations = noSituations()

  run(seed: number): void {
    this.#add(runSeed(seed))
  }

  #add(result: SeedResult): void {
    this.#seeds++
    this.#entries += result.entries
    this.#leastEntries = Math.min(this.#leastEntries, result.entries)
    this.#leastFaults = Math.min(this.#leastFaults, result.faults)
    for (const situation of situations) if (result.situations[situation] > 0) this.#situations[situation]++
    if (result.violations.length > 0) this.#failed.push(result)
  }

  /**
   * Every process dies at every boundary of log entries of a short run, in every way: one after the other.
   * @param step leaves boundaries out: of so many, one is tried
   */
  runExhaustively(seed: number, step = 1): void {
    const { boundaries } = runSeed(seed, { exhaustive: { crash: undefined } })
    for (let boundary = 1; boundary <= boundaries; boundary += step) {
      for (const victim of victims) {
        for (const how of ['process', 'host'] as const)
          this.#add(runSeed(seed, { exhaustive: { crash: { boundary, victim, how } } }))
      }
    }
  }

  get result(): CampaignResult {
    return {
      seeds: this.#seeds,
      failed: this.#failed,
      situations: this.#situations,
      leastEntries: this.#leastEntries,
      entries: this.#entries,
      leastFaults: this.#leastFaults,
    }
  }
}

/** What several campaigns are together. */
export function sumOf(results: readonly CampaignResult[]): CampaignResult {
  const total = noSituations()
  for (const result of results) for (const situation of situations) total[situation] += result.situations[situation]
  return {
    seeds: results.reduce((sum, { seeds }) => sum + seeds, 0),
    failed: results.flatMap(({ failed }) => failed),
    situations: total,
    leastEntries: Math.min(...results.map(({ leastEntries }) => leastEntries)),
    entries: results.reduce((sum, { entries }) => sum + entries, 0),
    leastFaults: Math.min(...results.map(({ leastFaults }) => leastFaults)),
  }
}
