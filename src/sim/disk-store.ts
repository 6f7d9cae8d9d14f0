/**
 * The image behind a fake disk server: what its kernel has (the cache) and what is on stable storage. A write takes time, and
 * more than one is in execution. If the host's power goes, each unflushed sector is there or not, as chance wills, and a
 * write in execution may be torn: some of its sectors written, some not. What a failed flush could not write stays in the
 * cache, and no later flush tries it again: Linux reports a failed write-back once.
 */

import { sectorBytes } from '../base/units.ts'
import type { DiskWork } from '../disk/steady-requests.ts'
import type { Death } from './actor.ts'
import type { Chance } from './chance.ts'

export interface DiskWeather {
  /** Of a request to be refused with an I/O error. */
  errorChance: number
  /** The same, of flushes only. */
  flushErrorChance: number
  /** How much longer than usual everything takes. */
  slowness: number
}

/** What becomes of a request that the store was asked to carry out. */
export interface Execution {
  readonly durationUs: number
  /** At the end of that time: the data of a read, or that the disk refuses. */
  finish(): Uint8Array | 'ioError' | undefined
}

export class DiskStore {
  readonly cache: Uint8Array
  readonly #stable: Uint8Array
  /** Sectors whose cached content is not known to be stable. */
  readonly #dirty = new Set<number>()
  /** Those that a flush has failed on. */
  readonly #abandoned = new Set<number>()
  readonly #executing = new Set<{ readonly work: DiskWork }>()
  readonly weather: DiskWeather = { errorChance: 0, flushErrorChance: 0, slowness: 1 }
  readonly #chance: Chance
  /** Writes that a crash cut in two. */
  tornWrites = 0
  errors = 0

  constructor(sectors: number, chance: Chance) {
    this.cache = new Uint8Array(sectors * sectorBytes)
    this.#stable = new Uint8Array(sectors * sectorBytes)
    this.#chance = chance
  }

  execute(work: DiskWork): Execution {
    const { slowness } = this.weather
    const usualUs = work.operation === 'flush' ? 800 : 150
    const durationUs = Math.round((usualUs + this.#chance.below(usualUs)) * slowness)
    const isRefused = this.#isRefused(work)
    const flushed = work.operation === 'flush' ? [...this.#dirty] : []
    // One that was sent again is carried out twice, each time by itself.
    const execution = { work }
    this.#executing.add(execution)
    return {
      durationUs,
      finish: () => {
        if (!this.#executing.delete(execution)) return undefined
        if (isRefused) {
          this.errors++
          for (const sector of flushed) this.#abandon(sector)
          return 'ioError'
        }
        if (work.operation === 'read') return this.cache.slice(work.offset, work.offset + work.lengthBytes)
        if (work.operation === 'flush') for (const sector of flushed) this.#settle(sector)
        else this.#change(work)
        return undefined
      },
    }
  }

  /** The disk server ended. */
  onDeath(how: Death): void {
    for (const { work } of this.#executing) this.#tear(work)
    this.#executing.clear()
    if (how === 'process') return
    for (const sector of this.#dirty) {
      if (this.#chance.chance(0.5)) this.#settle(sector)
      else this.#copy(this.#stable, this.cache, sector)
    }
    for (const sector of this.#abandoned) this.#copy(this.#stable, this.cache, sector)
    this.#dirty.clear()
    this.#abandoned.clear()
  }

  #isRefused({ operation }: DiskWork): boolean {
    const { errorChance, flushErrorChance } = this.weather
    const chance = operation === 'flush' ? Math.max(errorChance, flushErrorChance) : errorChance
    return chance > 0 && this.#chance.chance(chance)
  }

  #abandon(sector: number): void {
    if (this.#dirty.delete(sector)) this.#abandoned.add(sector)
  }

  #change(work: Exclude<DiskWork, { operation: 'read' | 'flush' }>): void {
    const lengthBytes = work.operation === 'write' ? work.data.length : work.lengthBytes
    const first = work.offset / sectorBytes
    for (let sector = 0; sector < lengthBytes / sectorBytes; sector++) this.#changeSector(work, first + sector, sector)
  }

  #changeSector(work: Exclude<DiskWork, { operation: 'read' | 'flush' }>, sector: number, position: number): void {
    const at = sector * sectorBytes
    if (work.operation === 'write') {
      this.cache.set(work.data.subarray(position * sectorBytes, (position + 1) * sectorBytes), at)
    } else if (work.operation === 'writeZeroes') this.cache.fill(0, at, at + sectorBytes)
    this.#dirty.add(sector)
    this.#abandoned.delete(sector)
  }

  #tear(work: DiskWork): void {
    if (work.operation !== 'write' && work.operation !== 'writeZeroes') return
    const lengthBytes = work.operation === 'write' ? work.data.length : work.lengthBytes
    const sectors = lengthBytes / sectorBytes
    const first = work.offset / sectorBytes
    let written = 0
    for (let sector = 0; sector < sectors; sector++) {
      if (!this.#chance.chance(0.5)) continue
      this.#changeSector(work, first + sector, sector)
      written++
    }
    if (written > 0 && written < sectors) this.tornWrites++
  }

  #settle(sector: number): void {
    this.#copy(this.cache, this.#stable, sector)
    this.#dirty.delete(sector)
  }

  #copy(from: Uint8Array, to: Uint8Array, sector: number): void {
    to.set(from.subarray(sector * sectorBytes, (sector + 1) * sectorBytes), sector * sectorBytes)
  }
}
