/**
 * What was measured so far, by name: the papers' tables are made from these alone, so a long measurement may be done in
 * pieces (`--continue`), and whoever measures need not be who reports.
 */

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { medianOf } from '../support/figures.ts'
import { describeCommit } from '../support/host.ts'

/** Figures that belong together, of one measurement. */
export type Sample = Readonly<Record<string, number>>

interface Kept {
  readonly commit: string
  readonly samples: Readonly<Record<string, readonly Sample[]>>
}

export class Samples {
  readonly #samples = new Map<string, Sample[]>()

  /** What `path` has, if there is such a file. @throws Error when it is of another commit */
  static read(path: string): Samples {
    const samples = new Samples()
    if (!existsSync(path)) return samples
    const { commit, samples: kept } = JSON.parse(readFileSync(path, 'utf8')) as Kept
    if (commit !== describeCommit()) throw new Error(`${path} is of commit ${commit}, this is ${describeCommit()}`)
    for (const [name, all] of Object.entries(kept)) for (const sample of all) samples.add(name, sample)
    return samples
  }

  write(path: string): void {
    const kept: Kept = { commit: describeCommit(), samples: Object.fromEntries(this.#samples) }
    writeFileSync(path, JSON.stringify(kept))
  }

  /** @param name parts of it are set apart by `/`: `exact/idle/protected` */
  add(name: string, sample: Sample): void {
    const all = this.#samples.get(name)
    if (all) all.push(sample)
    else this.#samples.set(name, [sample])
  }

  of(name: string): readonly Sample[] {
    return this.#samples.get(name) ?? []
  }

  has(name: string): boolean {
    return this.#samples.has(name)
  }

  /** Of one figure of these samples; undefined when there are none. */
  median(name: string, figure: string): number | undefined {
    return medianOf(this.of(name).flatMap((sample) => sample[figure] ?? []))
  }
}
