/** In which functions of a guest's kernel its instructions went, by samples of the pc. All of user mode is one function. */

import { readFileSync } from 'node:fs'
import type { Engine } from '../src/engine/types.ts'

const shownRows = 40

export class SymbolHistogram {
  readonly #starts: bigint[] = []
  readonly #names: string[] = []
  readonly #samples = new Map<string, number>()
  #total = 0

  /** `path`: a file in the format of /proc/kallsyms. */
  constructor(path: string) {
    const lines = readFileSync(path, 'latin1').matchAll(/^([0-9a-f]+) [tTwW] (\S+)/gm)
    const symbols = [...lines].map(([, start, name]) => ({ start: BigInt(`0x${start}`), name: name! }))
    for (const { start, name } of symbols.sort((a, b) => (a.start < b.start ? -1 : 1))) {
      this.#starts.push(start)
      this.#names.push(name)
    }
  }

  sample({ privilege, pc }: Engine): void {
    const name = privilege === 0 ? '(user)' : this.#nameAt(pc)
    this.#samples.set(name, (this.#samples.get(name) ?? 0) + 1)
    this.#total++
  }

  #nameAt(pc: bigint): string {
    let [low, high] = [0, this.#starts.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#starts[middle]! <= pc) low = middle + 1
      else high = middle
    }
    return this.#names[low - 1] ?? '(before the kernel is mapped)'
  }

  print(instructions: number): void {
    const sorted = [...this.#samples].sort(([, one], [, other]) => other - one)
    for (const [name, count] of sorted.slice(0, shownRows)) {
      const share = count / this.#total
      console.error(
        `${((share * instructions) / 1e6).toFixed(0).padStart(8)} M ${(share * 100).toFixed(1).padStart(5)} %  ${name}`,
      )
    }
  }
}
