/**
 * A store that really loses what was not flushed: changes stay in memory, a flush hands them to the store below, and a
 * crash lets a random part of the rest through, sector by sector, as the cache of a disk or of a kernel does when the
 * power goes. After that it is of no use any more: open another one over the same store.
 */

import { assert } from '../base/assert.ts'
import type { Prng } from '../base/prng.ts'
import { sectorBytes } from '../base/units.ts'
import type { BlockStore } from './block-store.ts'

interface SectorWrite {
  readonly sector: number
  readonly data: Buffer
}

export class LossyStore implements BlockStore {
  readonly sizeBytes: number
  readonly #below: BlockStore
  /** What a read sees. */
  readonly #contents: Buffer
  /** In order; the flush takes them from the front. */
  #unflushed: SectorWrite[] = []
  #hasCrashed = false

  /** @param contents of `below`, as it is now */
  constructor(below: BlockStore, contents: Buffer) {
    this.sizeBytes = below.sizeBytes
    this.#below = below
    this.#contents = contents
  }

  async read(offset: number, lengthBytes: number): Promise<Buffer> {
    return Buffer.from(this.#contents.subarray(offset, offset + lengthBytes))
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    assert(!this.#hasCrashed, 'a host that crashed writes nothing')
    this.#contents.set(data, offset)
    const first = Math.floor(offset / sectorBytes)
    const end = Math.ceil((offset + data.length) / sectorBytes)
    for (let sector = first; sector < end; sector++) {
      const start = sector * sectorBytes
      this.#unflushed.push({ sector, data: Buffer.from(this.#contents.subarray(start, start + sectorBytes)) })
    }
  }

  async flush(): Promise<void> {
    for (const { sector, data } of this.#unflushed.splice(0)) await this.#below.write(sector * sectorBytes, data)
    await this.#below.flush()
  }

  async trim(offset: number, lengthBytes: number): Promise<void> {
    await this.write(offset, Buffer.alloc(lengthBytes))
  }

  async writeZeroes(offset: number, lengthBytes: number): Promise<void> {
    await this.write(offset, Buffer.alloc(lengthBytes))
  }

  /** The power goes. What the flush was not asked for survives or not, as the seed will have it. */
  async crash(prng: Prng): Promise<void> {
    this.#hasCrashed = true
    for (const { sector, data } of this.#unflushed.splice(0)) {
      if (prng.chance(0.5)) await this.#below.write(sector * sectorBytes, data)
    }
  }

  async close(): Promise<void> {
    await this.#below.close()
  }
}
