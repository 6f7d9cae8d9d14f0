/** What is measured, and what came of it: seconds per contestant and round, ratios of medians. */

import { geometricMean, median, round2 } from '../support/figures.ts'
import { type Contestant, contestants, type Timing } from './contestants.ts'

export type Group = 'bare' | 'linux'

/** A piece of work that is measured. */
export interface Work {
  readonly group: Group
  readonly name: string
  readonly title: string
  /** Also part of `--quick`. */
  readonly isQuick: boolean
}

/** The timings of one piece of work. */
export class Measurement {
  readonly work: Work
  readonly #seconds: Record<Contestant, number[]> = { understudy: [], qemu: [], icount: [] }
  #result: { readonly contestant: Contestant; readonly text: string } | undefined

  constructor(work: Work) {
    this.work = work
  }

  /** @throws Error when the contestants do not agree on what came out */
  add(contestant: Contestant, { seconds, result }: Timing): void {
    this.#result ??= { contestant, text: result }
    if (result !== this.#result.text) {
      const { contestant: first, text } = this.#result
      throw new Error(`${this.work.name}: ${first} says "${text}", ${contestant} says "${result}"`)
    }
    this.#seconds[contestant].push(seconds)
  }

  row(): Row {
    const medians = Object.fromEntries(contestants.map((name) => [name, median(this.#seconds[name])])) as Record<
      Contestant,
      number
    >
    return {
      group: this.work.group,
      name: this.work.name,
      title: this.work.title,
      seconds: mapValues(medians, round3),
      rounds: mapValues(this.#seconds, (all) => all.map(round3)),
      vs_qemu: round2(medians.qemu / medians.understudy),
      vs_icount: round2(medians.icount / medians.understudy),
    }
  }
}

export interface Row {
  readonly group: Group
  readonly name: string
  readonly title: string
  /** Medians. */
  readonly seconds: Readonly<Record<Contestant, number>>
  readonly rounds: Readonly<Record<Contestant, readonly number[]>>
  /** QEMU's time / ours: above 1 we are faster. */
  readonly vs_qemu: number
  readonly vs_icount: number
}

export interface Summary {
  readonly vs_qemu: { readonly geomean: number; readonly min: number }
  readonly vs_icount: { readonly geomean: number; readonly min: number }
}

/** Null for a group without rows. */
export function summarize(rows: readonly Row[], group: Group): Summary | null {
  const own = rows.filter((row) => row.group === group)
  if (own.length === 0) return null
  const over = (ratios: number[]) => ({ geomean: round2(geometricMean(ratios)), min: Math.min(...ratios) })
  return { vs_qemu: over(own.map((row) => row.vs_qemu)), vs_icount: over(own.map((row) => row.vs_icount)) }
}

function round3(value: number): number {
  return Math.round(value * 1000) / 1000
}

function mapValues<V, W>(record: Readonly<Record<Contestant, V>>, change: (value: V) => W): Record<Contestant, W> {
  return { understudy: change(record.understudy), qemu: change(record.qemu), icount: change(record.icount) }
}
