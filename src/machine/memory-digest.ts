/**
 * The digest of RAM, kept up to date page by page: the XOR of one hash per page, each seeded with its page number. Pages
 * of zeros count as nothing, so an empty RAM has digest 0 and a new page costs only itself.
 */

import { hash64 } from '../base/digest.ts'
import { pageBytes } from '../base/units.ts'

export class MemoryDigest {
  readonly #pages: BigUint64Array
  #combined = 0n

  constructor(ramBytes: number) {
    this.#pages = new BigUint64Array(ramBytes / pageBytes)
  }

  get value(): bigint {
    return this.#combined
  }

  /** RAM is zero again. */
  clear(): void {
    this.#pages.fill(0n)
    this.#combined = 0n
  }

  /** These pages may have changed. */
  update(ram: Uint8Array, pages: Iterable<number>): void {
    for (const page of pages) {
      const content = pageOf(ram, page)
      const hash = isZero(content) ? 0n : hash64(content, BigInt(page))
      this.#combined ^= this.#pages[page]! ^ hash
      this.#pages[page] = hash
    }
  }
}

export function pageOf(ram: Uint8Array, page: number): Uint8Array {
  return ram.subarray(page * pageBytes, (page + 1) * pageBytes)
}

/** `bytes` starts at a multiple of 4 in its buffer, and its length is one. */
export function isZero(bytes: Uint8Array): boolean {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
  for (let index = 0; index < words.length; index++) if (words[index] !== 0) return false
  return true
}
