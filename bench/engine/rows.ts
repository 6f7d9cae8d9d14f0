/** What is measured, and what came of it: seconds per contestant and round, ratios of medians. */

import { geometricMean, median, round2, round3 } from '../support/figures.ts'
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

type PerContestant<T> = Readonly<Record<Contestant, T>>

export type Timings = PerContestant<readonly Timing[]>

/** The timings of one piece of work. */
export class Measurement<W extends Work = Work> {
  readonly work: W
  readonly #timings: Record<Contestant, Timing[]> = { understudy: [], qemu: [], icount: [] }

  /** `earlier`: of earlier rounds. */
  constructor(work: W, earlier?: Timings) {
    this.work = work
    for (const contestant of contestants) {
      for (const timing of earlier?.[contestant] ?? []) this.add(contestant, timing)
    }
  }

  get timings(): Timings {
    return this.#timings
  }

  /** As many as every contestant has done. */
  get rounds(): number {
    return Math.min(...contestants.map((contestant) => this.#timings[contestant].length))
  }

  /** @throws Error when the contestants do not agree on what came out */
  add(contestant: Contestant, timing: Timing): void {
    for (const other of contestants) {
      const result = this.#timings[other][0]?.result ?? timing.result
      if (result !== timing.result) {
        throw new Error(`${this.work.name}: ${other} says "${result}", ${contestant} says "${timing.result}"`)
      }
    }
    this.#timings[contestant].push(timing)
  }

  row(): Row {
    const { group, name, title } = this.work
    const rounds = mapValues(this.#timings, (all) => all.map(({ seconds }) => round3(seconds)))
    const seconds = mapValues(rounds, median)
    const cpu = mapValues(this.#timings, (all) => median(all.map(({ cpuSeconds }) => cpuSeconds)))
    return {
      group,
      name,
      title,
      seconds,
      rounds,
      vs_qemu: round2(seconds.qemu / seconds.understudy),
      vs_icount: round2(seconds.icount / seconds.understudy),
      cpu_seconds: mapValues(cpu, round3),
      cpu_vs_qemu: round2(cpu.qemu / cpu.understudy),
      cpu_vs_icount: round2(cpu.icount / cpu.understudy),
    }
  }
}

export interface Row {
  readonly group: Group
  readonly name: string
  readonly title: string
  /** Medians of wall time. */
  readonly seconds: PerContestant<number>
  readonly rounds: PerContestant<readonly number[]>
  /** QEMU's time / ours: above 1 we are faster. */
  readonly vs_qemu: number
  readonly vs_icount: number
  /** The same of CPU time, all threads: what a busy host distorts less. */
  readonly cpu_seconds: PerContestant<number>
  readonly cpu_vs_qemu: number
  readonly cpu_vs_icount: number
}

interface Ratios {
  readonly geomean: number
  readonly min: number
}

export interface Summary {
  readonly vs_qemu: Ratios
  readonly vs_icount: Ratios
  readonly cpu_vs_qemu: Ratios
  readonly cpu_vs_icount: Ratios
}

/** Null for a group without rows. */
export function summarize(rows: readonly Row[], group: Group): Summary | null {
  const own = rows.filter((row) => row.group === group)
  if (own.length === 0) return null
  const over = (ratios: number[]) => ({ geomean: round2(geometricMean(ratios)), min: Math.min(...ratios) })
  return {
    vs_qemu: over(own.map((row) => row.vs_qemu)),
    vs_icount: over(own.map((row) => row.vs_icount)),
    cpu_vs_qemu: over(own.map((row) => row.cpu_vs_qemu)),
    cpu_vs_icount: over(own.map((row) => row.cpu_vs_icount)),
  }
}

function mapValues<V, W>({ understudy, qemu, icount }: PerContestant<V>, change: (value: V) => W): PerContestant<W> {
  return { understudy: change(understudy), qemu: change(qemu), icount: change(icount) }
}
