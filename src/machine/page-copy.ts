/**
 * Copying RAM while the guest goes on writing into it, as FT VMotion does (VMware FT, "Starting and restarting FT VMs"):
 * in rounds, each of which copies the pages that were written since the one before it began, until few are left.
 *
 *   round 1     every page that is not zero
 *   round n     what was written during round n − 1     ──► fewer and fewer, unless the guest writes faster than we copy
 *   the end     the machine stands still: the rest
 *
 * Who writes is noticed by the dirty tracking that digests need anyway, so a machine that is not copied pays nothing, and
 * the guest can see nothing. Pages of zeros cost four bytes, and none if the other side has not had another content.
 *
 *   pages: {page u32 │ content 4096}, or {page u32 with the highest bit set} for zeros
 */

import { WorldError } from '../base/assert.ts'
import { ByteReader } from '../base/bytes.ts'
import { pageBytes } from '../base/units.ts'
import { isZero, pageOf } from './memory-digest.ts'

const isZeros = 2 ** 31

export class PageCopy {
  readonly #ram: Uint8Array
  /** Pages the other side lacks, as far as this round knows. */
  readonly #isDue: Uint8Array
  /** Pages the other side has had, so that zeros in them must be said. */
  readonly #wasSent: Uint8Array
  #dueCount = 0
  /** The first page that may be due. */
  #next = 0
  #round = 1

  constructor(ram: Uint8Array) {
    this.#ram = ram
    this.#isDue = new Uint8Array(ram.length / pageBytes)
    this.#wasSent = new Uint8Array(ram.length / pageBytes)
    this.markAll()
  }

  /** From 1. */
  get round(): number {
    return this.#round
  }

  /** How many pages the other side lacks, those left out that were written since this round began. */
  get duePages(): number {
    return this.#dueCount
  }

  /** Memory was cleared as a whole. */
  markAll(): void {
    this.#isDue.fill(1)
    this.#dueCount = this.#isDue.length
    this.#next = 0
  }

  /** The guest wrote these. */
  markWritten(pages: readonly number[]): void {
    for (const page of pages) {
      if (this.#isDue[page] === 0) this.#dueCount++
      this.#isDue[page] = 1
      if (page < this.#next) this.#next = page
    }
  }

  /** Everything of this round was taken: what is marked from now on is the next one. */
  beginRound(): void {
    this.#round++
  }

  /**
   * Takes up to `maxPages` pages with a content, as they are now. What it takes may be empty: zeros that the other side has.
   * To look at a page of zeros costs as much as an eighth of another: a guest that runs in between waits no longer for it.
   */
  take(maxPages: number): Uint8Array {
    const pages: number[] = []
    let contents = 0
    for (let seen = 0; this.#dueCount > 0 && contents < maxPages && seen < maxPages * 8; seen++) {
      while (this.#isDue[this.#next] === 0) this.#next++
      const page = this.#next++
      this.#isDue[page] = 0
      this.#dueCount--
      if (!isZero(pageOf(this.#ram, page))) {
        this.#wasSent[page] = 1
        pages.push(page)
        contents++
      } else if (this.#wasSent[page] === 1) {
        this.#wasSent[page] = 0
        pages.push(page + isZeros)
      }
    }
    return this.#encode(pages, contents)
  }

  #encode(pages: readonly number[], contents: number): Uint8Array {
    const bytes = new Uint8Array(pages.length * 4 + contents * pageBytes)
    const view = new DataView(bytes.buffer)
    let offset = 0
    for (const page of pages) {
      view.setUint32(offset, page, true)
      offset += 4
      if (page >= isZeros) continue
      bytes.set(pageOf(this.#ram, page), offset)
      offset += pageBytes
    }
    return bytes
  }
}

const zeros = new Uint8Array(pageBytes)

/**
 * The other side.
 * @throws WorldError `bad-pages`, `truncated`
 */
export function decodePages(bytes: Uint8Array, ramPages: number): { page: number; content: Uint8Array }[] {
  const reader = new ByteReader(bytes)
  const pages: { page: number; content: Uint8Array }[] = []
  while (reader.remaining > 0) {
    const word = reader.u32()
    const page = word >= isZeros ? word - isZeros : word
    if (page >= ramPages) throw new WorldError('bad-pages', `page ${page} of a machine with ${ramPages}`)
    pages.push({ page, content: word >= isZeros ? zeros : reader.raw(pageBytes) })
  }
  return pages
}
