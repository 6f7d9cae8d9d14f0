/**
 * Random Sv39 page tables (RISC-V privileged specification, "Sv39") for tests, with everything in them that a walk must
 * refuse: invalid and reserved entries, misaligned superpages, pointers at the last level, addresses without memory.
 *
 * Each root maps all of RAM twice, 1 GiB each: at its own address for S mode, 1 GiB higher for U mode, so that code runs
 * wherever the rest leads. The rest leads to the data area only: its first half is for data, its second half for code.
 */

import type { Prng } from '../../src/base/prng.ts'

export const tablesBase = 0x8060_0000
export const tableBytes = 4096
/** 2 MiB, aligned, so that one superpage maps it. */
export const dataAreaBase = 0x80a0_0000
export const dataAreaBytes = 0x20_0000
/** From this frame of the data area on, there is code. */
export const firstCodeFrame = 256
/** Distance of the alias through which U mode runs code. */
export const userAlias = 0x4000_0000

const rootCount = 4
const middleCount = 8
const leafCount = 8
export const tableCount = rootCount + middleCount + leafCount

/** Entries in use at each level; neighbors among the lowest, for accesses across pages. */
const rootSlots = [0, 1, 5, 255, 256, 511] as const
const middleSlots = [0, 5, 17, 511] as const
const leafSlots = [0, 1, 2, 3, 4, 100, 510, 511] as const

const bit = { v: 1n, r: 2n, w: 4n, x: 8n, u: 16n, g: 32n, a: 64n, d: 128n } as const
const flagBits = 10n
/** Neither RAM nor a device, on QEMU's `virt` as on ours. */
export const nowhere = 0x3_0000_0000n

export interface ProbeAddress {
  readonly root: number
  readonly address: bigint
}

export class PageTables {
  readonly bytes = new Uint8Array(tableCount * tableBytes)
  readonly #view = new DataView(this.bytes.buffer)
  readonly #prng: Prng

  constructor(prng: Prng) {
    this.#prng = prng
    const tables = (first: number, count: number): number[] => Array.from({ length: count }, (_, i) => first + i)
    const middles = tables(rootCount, middleCount)
    const leaves = tables(rootCount + middleCount, leafCount)
    for (const root of tables(0, rootCount)) {
      const all = bit.v | bit.r | bit.w | bit.x | bit.a | bit.d
      this.#set(root, 2, this.#entry(0x8000_0000n, all))
      this.#set(root, 3, this.#entry(0x8000_0000n, all | bit.u))
      for (const slot of rootSlots) this.#set(root, slot, this.#random(middles, 0x8000_0000n, 1 << 18))
    }
    for (const table of middles) {
      for (const slot of middleSlots) this.#set(table, slot, this.#random(leaves, BigInt(dataAreaBase), 1 << 9))
    }
    for (const table of leaves) {
      for (const slot of leafSlots) {
        const frame = BigInt(dataAreaBase + prng.below(dataAreaBytes / tableBytes) * tableBytes)
        this.#set(
          table,
          slot,
          prng.chance(0.05) ? this.#pointer(leaves) : this.#leaf(prng.chance(0.05) ? nowhere : frame),
        )
      }
    }
  }

  static rootAddress(root: number): number {
    return tablesBase + root * tableBytes
  }

  #set(table: number, slot: number, entry: bigint): void {
    this.#view.setBigUint64(table * tableBytes + slot * 8, entry, true)
  }

  #entry(physical: bigint, flags: bigint): bigint {
    return ((physical >> 12n) << flagBits) | flags
  }

  /** A pointer or a superpage; seldom an entry that is neither. */
  #random(tables: readonly number[], physical: bigint, frames: number): bigint {
    const prng = this.#prng
    if (prng.chance(0.65)) return this.#pointer(tables)
    const misalignment = prng.chance(0.15) ? BigInt(1 + prng.below(frames - 1)) << 12n : 0n
    return this.#leaf(physical + misalignment)
  }

  #pointer(tables: readonly number[]): bigint {
    const prng = this.#prng
    const entry = this.#entry(BigInt(tablesBase + prng.pick(tables) * tableBytes), bit.v)
    if (!prng.chance(0.1)) return entry
    // Reserved in a pointer, or not valid at all.
    return entry ^ prng.pick([bit.a, bit.d, bit.u, bit.v, 1n << 54n, 1n << 61n, 1n << 63n])
  }

  #leaf(physical: bigint): bigint {
    const prng = this.#prng
    const access = prng.pick([bit.r, bit.r | bit.w, bit.r | bit.x, bit.x, bit.r | bit.w | bit.x, bit.w, bit.w | bit.x])
    const sometimes = (flag: bigint, probability: number): bigint => (prng.chance(probability) ? flag : 0n)
    const state = sometimes(bit.u, 0.5) | sometimes(bit.g, 0.1) | sometimes(bit.a, 0.6) | sometimes(bit.d, 0.5)
    const reserved = sometimes(1n << BigInt(54 + prng.below(10)), 0.05) | (BigInt(prng.below(4)) << 8n)
    return this.#entry(physical, access | state | reserved | sometimes(bit.v, 0.95))
  }

  /** An address that leads through entries in use, in a random root; one in twenty is not canonical. */
  pick(): ProbeAddress {
    const prng = this.#prng
    const root = prng.below(rootCount)
    const top = prng.pick(rootSlots)
    const entry = this.#view.getBigUint64(root * tableBytes + top * 8, true)
    // A superpage of 1 GiB maps all of RAM: only the data area's part of it may be touched.
    const middle = entry & (bit.r | bit.w | bit.x) ? 5 : prng.pick(middleSlots)
    const page = (BigInt(top) << 30n) | (BigInt(middle) << 21n) | (BigInt(prng.pick(leafSlots)) << 12n)
    const canonical = BigInt.asUintN(64, BigInt.asIntN(39, page))
    return { root, address: prng.chance(0.05) ? canonical ^ (1n << BigInt(39 + prng.below(25))) : canonical }
  }

  /** The frame of the data area that an address means, permissions aside; −1 outside, undefined where nothing is mapped. */
  frameOf({ root, address }: ProbeAddress): number | undefined {
    if (BigInt.asUintN(64, BigInt.asIntN(39, address)) !== address) return undefined
    let table = root
    for (let level = 2; level >= 0; level--) {
      const slot = Number((address >> BigInt(12 + 9 * level)) & 511n)
      const entry = this.#view.getBigUint64(table * tableBytes + slot * 8, true)
      if (!(entry & bit.v)) return undefined
      const frames = (entry >> flagBits) & ((1n << 44n) - 1n)
      if (entry & (bit.r | bit.w | bit.x)) {
        const low = (1n << BigInt(9 * level)) - 1n
        const frame = Number((frames & ~low) | ((address >> 12n) & low)) - dataAreaBase / tableBytes
        return frame >= 0 && frame < dataAreaBytes / tableBytes ? frame : -1
      }
      table = (Number(frames) * tableBytes - tablesBase) / tableBytes
      if (table < 0 || table >= tableCount) return undefined
    }
    return undefined
  }
}
