/** Sv39 page tables for tests, built from the outside. */

import { csr } from '../../riscv/csrs.ts'
import { type Engine, ramBase } from '../types.ts'
import { storeWord64 } from './bare-hart.ts'

export const pte = { v: 1n, r: 2n, w: 4n, x: 8n, u: 16n, g: 32n, a: 64n, d: 128n } as const
/** Readable, writable, executable, accessed, dirty: what a kernel maps for itself. */
export const kernelPage = pte.v | pte.r | pte.w | pte.x | pte.a | pte.d

/** Offsets in RAM of the root table, and of the first free table behind it. */
export const rootTable = 0x10_0000

export class PageTables {
  readonly #engine: Engine
  readonly #root: number
  #free: number
  readonly #tables = new Map<string, number>()

  /** @param root offset in RAM of the root table; the others follow it */
  constructor(engine: Engine, root = rootTable) {
    this.#engine = engine
    this.#root = root
    this.#free = root + 4096
  }

  /** A new empty table: its offset in RAM. */
  #newTable(): number {
    const table = this.#free
    this.#free += 4096
    return table
  }

  /**
   * Maps the page at `virtual` to an offset in RAM; level 0 maps 4 KiB, 1 maps 2 MiB, 2 maps 1 GiB.
   * @returns the offset in RAM of the leaf entry
   */
  map(virtual: bigint, offset: number, flags: bigint, level = 0): number {
    let table = this.#root
    for (let at = 2; ; at--) {
      const index = Number((virtual >> BigInt(12 + 9 * at)) & 511n)
      const entry = table + index * 8
      if (at === level) {
        storeWord64(this.#engine, entry, entryOf(offset, flags))
        return entry
      }
      const key = `${table}/${index}`
      let next = this.#tables.get(key)
      if (next === undefined) {
        next = this.#newTable()
        this.#tables.set(key, next)
        storeWord64(this.#engine, entry, entryOf(next, pte.v))
      }
      table = next
    }
  }

  /** Turns translation on for S and U mode. */
  enable(): void {
    this.#engine.setCsr(csr.satp, (8n << 60n) | (BigInt(ramBase + this.#root) >> 12n))
  }
}

/** A page table entry for an offset in RAM. */
export function entryOf(offset: number, flags: bigint): bigint {
  return (((BigInt(ramBase) + BigInt(offset)) >> 12n) << 10n) | flags
}
