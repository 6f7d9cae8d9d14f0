/**
 * What the pieces of an own copy are, in short, so that who compares two copies needs to read only where they differ. An
 * export beside the disk, as its counters of changes are:
 *
 *   disk0-a           the copy
 *   disk0-a.digests   SHA-256 of each piece of 256 KiB, 32 bytes each, then zeroes up to a whole sector
 *
 * A digest is made when it is asked for, and kept until its piece changes. One that was made while its piece was being
 * written is of neither state; the counter of that piece rises when the write has ended, so whoever goes by the counters
 * asks again.
 */

import { hash } from 'node:crypto'
import { sectorBytes } from '../base/units.ts'
import { type ChangeCountingStore, changePieceBytes, ReadOnlyStore } from './change-map.ts'

export const digestsSuffix = '.digests'
export const digestBytes = 32
/** Of so many pieces the digests fill a sector, so they are read together. */
export const piecesPerSector = sectorBytes / digestBytes

export class PieceDigestStore extends ReadOnlyStore {
  readonly sizeBytes: number
  readonly #disk: ChangeCountingStore
  readonly #pieces: number
  readonly #digests: Buffer
  /** What the piece's counter was when its digest was made; undefined: it was not yet. */
  readonly #madeAt: (number | undefined)[] = []
  #last: Promise<void> = Promise.resolve()

  constructor(disk: ChangeCountingStore) {
    super()
    this.#disk = disk
    this.#pieces = Math.ceil(disk.sizeBytes / changePieceBytes)
    this.sizeBytes = Math.ceil(this.#pieces / piecesPerSector) * sectorBytes
    this.#digests = Buffer.alloc(this.sizeBytes)
  }

  /** One after the other: of two that make the same digest, the one that read earlier must not have the last word. */
  read(offset: number, lengthBytes: number): Promise<Buffer> {
    const answer = this.#last.then(() => this.#read(offset, lengthBytes))
    this.#last = answer.then(
      () => {},
      () => {},
    )
    return answer
  }

  async #read(offset: number, lengthBytes: number): Promise<Buffer> {
    const end = Math.min(this.#pieces, Math.ceil((offset + lengthBytes) / digestBytes))
    for (let piece = Math.floor(offset / digestBytes); piece < end; piece++) await this.#make(piece)
    return Buffer.from(this.#digests.subarray(offset, offset + lengthBytes))
  }

  async #make(piece: number): Promise<void> {
    const count = this.#disk.changesOf(piece)
    if (this.#madeAt[piece] === count) return
    const from = piece * changePieceBytes
    const data = await this.#disk.read(from, Math.min(changePieceBytes, this.#disk.sizeBytes - from))
    hash('sha256', data, 'buffer').copy(this.#digests, piece * digestBytes)
    this.#madeAt[piece] = count
  }
}
