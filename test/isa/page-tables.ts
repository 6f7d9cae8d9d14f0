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

const firstMiddle = rootCount
const firstLeaf = rootCount + middleCount
const middles = Array.from({ length: middleCount }, (_, index) => firstMiddle + index)
const leaves = Array.from({ length: leafCount }, (_, index) => firstLeaf + index)

function slotsOf(table: number): readonly number[] {
  return table < firstMiddle ? rootSlots : table < firstLeaf ? middleSlots : leafSlots
}

const bit = { v: 1n, r: 2n, w: 4n, x: 8n, u: 16n, g: 32n, a: 64n, d: 128n } as const
const flagBits = 10n
/** Neither RAM nor a device, on QEMU's `virt` as on ours. */
export const nowhere = 0x3_0000_0000n

/**
 * Where an address leads, permissions aside: a frame of the data area by number, nothing mapped, an address without
 * memory, or other RAM, which no probe may touch.
 */
export type Destination = number | 'unmapped' | 'nowhere' | 'elsewhere'

export interface ProbeAddress {
  readonly root: number
  readonly address: bigint
}

function destinationAt(physical: number): Destination {
  const offset = physical - dataAreaBase
  if (offset >= 0 && offset < dataAreaBytes) return offset / tableBytes
  return physical === Number(nowhere) ? 'nowhere' : 'elsewhere'
}

export class PageTables {
  readonly #bytes = new Uint8Array(tableCount * tableBytes)
  readonly #view = new DataView(this.#bytes.buffer)
  readonly #prng: Prng
  /** As they are in memory before anything runs. */
  readonly initialBytes: Uint8Array

  constructor(prng: Prng) {
    this.#prng = prng
    const all = bit.v | bit.r | bit.w | bit.x | bit.a | bit.d
    for (let table = 0; table < tableCount; table++) {
      for (const slot of slotsOf(table)) this.#set(table, slot, this.#random(table))
    }
    for (let root = 0; root < rootCount; root++) {
      this.#set(root, 2, this.#entry(0x8000_0000n, all))
      this.#set(root, 3, this.#entry(0x8000_0000n, all | bit.u))
    }
    this.initialBytes = this.#bytes.slice()
  }

  /** Gives one entry another value, mostly one that `place` leads through. Later picks know it. */
  change(place: ProbeAddress): { readonly address: number; readonly entry: bigint } {
    const anyTable = this.#prng.below(tableCount)
    const path = this.#walk(place).path.filter(({ table, slot }) => slotsOf(table).includes(slot))
    const isOnPath = path.length > 0 && this.#prng.chance(0.7)
    const { table, slot } = isOnPath
      ? this.#prng.pick(path)
      : { table: anyTable, slot: this.#prng.pick(slotsOf(anyTable)) }
    const entry = this.#random(table)
    this.#set(table, slot, entry)
    return { address: tablesBase + table * tableBytes + slot * 8, entry }
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

  #random(table: number): bigint {
    const prng = this.#prng
    if (table >= firstLeaf) {
      const frame = BigInt(dataAreaBase + prng.below(dataAreaBytes / tableBytes) * tableBytes)
      return prng.chance(0.05) ? this.#pointer(leaves) : this.#leaf(prng.chance(0.05) ? nowhere : frame)
    }
    const isRoot = table < firstMiddle
    if (prng.chance(0.65)) return this.#pointer(isRoot ? middles : leaves)
    const frames = isRoot ? 1 << 18 : 1 << 9
    const misalignment = prng.chance(0.15) ? BigInt(1 + prng.below(frames - 1)) << 12n : 0n
    return this.#leaf((isRoot ? 0x8000_0000n : BigInt(dataAreaBase)) + misalignment)
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

  destinationOf(place: ProbeAddress): Destination {
    return this.#walk(place).destination
  }

  #walk({ root, address }: ProbeAddress): { path: { table: number; slot: number }[]; destination: Destination } {
    const path: { table: number; slot: number }[] = []
    if (BigInt.asUintN(64, BigInt.asIntN(39, address)) !== address) return { path, destination: 'unmapped' }
    let table = root
    for (let level = 2; level >= 0; level--) {
      const slot = Number((address >> BigInt(12 + 9 * level)) & 511n)
      path.push({ table, slot })
      const entry = this.#view.getBigUint64(table * tableBytes + slot * 8, true)
      if (!(entry & bit.v)) break
      const frames = (entry >> flagBits) & ((1n << 44n) - 1n)
      if (entry & (bit.r | bit.w | bit.x)) {
        const low = (1n << BigInt(9 * level)) - 1n
        const physical = Number((frames & ~low) | ((address >> 12n) & low)) * tableBytes
        return { path, destination: destinationAt(physical) }
      }
      table = (Number(frames) * tableBytes - tablesBase) / tableBytes
      if (table < 0 || table >= tableCount) break
    }
    return { path, destination: 'unmapped' }
  }
}
