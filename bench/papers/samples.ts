/** What was measured so far, by name: the papers' tables are made from these alone. */

import { medianOf } from '../support/figures.ts'
import { readKept, writeKept } from '../support/kept-file.ts'

/** Figures that belong together, of one measurement. */
export type Sample = Readonly<Record<string, number>>

export class Samples {
  readonly #samples = new Map<string, Sample[]>()

  /** What `path` has, if there is such a file. @throws WorldError when it is of another commit */
  static read(path: string): Samples {
    const samples = new Samples()
    const kept = readKept<{ readonly samples: Readonly<Record<string, readonly Sample[]>> }>(path)
    for (const [name, all] of Object.entries(kept?.samples ?? {})) for (const sample of all) samples.add(name, sample)
    return samples
  }

  write(path: string): void {
    writeKept(path, { samples: Object.fromEntries(this.#samples) })
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
