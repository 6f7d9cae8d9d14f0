/**
 * Which pieces of an own copy have changed, so that another replica can copy it while it is written to: a counter per piece,
 * raised when a change of it has ended. Everybody may read the counters, as an export beside the disk's:
 *
 *   disk0-a           the copy
 *   disk0-a.changes   its counters: 32 bits each, little-endian, one per 256 KiB, then zeroes up to a whole sector
 *
 * Who copies reads the counters, then the pieces whose counters differ from those of its round before; again and again, until
 * little differs. Counters begin anew with the server, so what was known of them ends with the connection.
 */

import { sectorBytes } from '../base/units.ts'
import type { BlockStore } from './block-store.ts'
import { NbdError } from './nbd-error.ts'
import { NbdErrno } from './nbd-wire.ts'

export const changePieceBytes = 256 * 1024
export const changesSuffix = '.changes'
const counterBytes = 4

function changeMapBytes(diskBytes: number): number {
  return Math.ceil((Math.ceil(diskBytes / changePieceBytes) * counterBytes) / sectorBytes) * sectorBytes
}

/** The counters of a map, as numbers. */
export function changeCounters(map: Buffer, diskBytes: number): number[] {
  return Array.from({ length: Math.ceil(diskBytes / changePieceBytes) }, (_, piece) =>
    map.readUInt32LE(piece * counterBytes),
  )
}

/** How often each piece has changed; wraps around at 2^32. */
export class ChangeCounters {
  readonly #counters: Uint32Array
  readonly #pieceBytes: number

  constructor(diskBytes: number, pieceBytes = changePieceBytes) {
    this.#counters = new Uint32Array(Math.ceil(diskBytes / pieceBytes))
    this.#pieceBytes = pieceBytes
  }

  get all(): Readonly<Uint32Array> {
    return this.#counters
  }

  of(piece: number): number {
    return this.#counters[piece]!
  }

  /** A change of this range has ended, or failed: whoever reads its pieces later sees it. */
  onChanged(offset: number, lengthBytes: number): void {
    const end = Math.ceil((offset + lengthBytes) / this.#pieceBytes)
    for (let piece = Math.floor(offset / this.#pieceBytes); piece < end; piece++) this.#counters[piece]!++
  }
}

/** A store whose changes are counted. */
export class ChangeCountingStore implements BlockStore {
  readonly sizeBytes: number
  readonly #store: BlockStore
  readonly #counters: ChangeCounters

  constructor(store: BlockStore) {
    this.sizeBytes = store.sizeBytes
    this.#store = store
    this.#counters = new ChangeCounters(store.sizeBytes)
  }

  /** What is exported beside the disk. */
  get map(): BlockStore {
    return new ChangeMapStore(this.#counters, changeMapBytes(this.sizeBytes))
  }

  /** How often this piece has changed; wraps around at 2^32. */
  changesOf(piece: number): number {
    return this.#counters.of(piece)
  }

  async read(offset: number, lengthBytes: number): Promise<Buffer> {
    return await this.#store.read(offset, lengthBytes)
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    await this.#counted(offset, data.length, () => this.#store.write(offset, data))
  }

  async flush(): Promise<void> {
    await this.#store.flush()
  }

  async trim(offset: number, lengthBytes: number): Promise<void> {
    await this.#counted(offset, lengthBytes, () => this.#store.trim(offset, lengthBytes))
  }

  async writeZeroes(offset: number, lengthBytes: number, mayStayHole: boolean): Promise<void> {
    await this.#counted(offset, lengthBytes, () => this.#store.writeZeroes(offset, lengthBytes, mayStayHole))
  }

  giveUp(): void {
    this.#store.giveUp?.()
  }

  async close(): Promise<void> {
    await this.#store.close()
  }

  /** Counted after it, failed or not. */
  async #counted(offset: number, lengthBytes: number, change: () => Promise<void>): Promise<void> {
    try {
      await change()
    } finally {
      this.#counters.onChanged(offset, lengthBytes)
    }
  }
}

/** What is told of a disk, as a disk of its own. */
export abstract class ReadOnlyStore implements BlockStore {
  abstract readonly sizeBytes: number
  abstract read(offset: number, lengthBytes: number): Promise<Buffer>

  write(): Promise<void> {
    return refused()
  }

  async flush(): Promise<void> {}

  trim(): Promise<void> {
    return refused()
  }

  writeZeroes(): Promise<void> {
    return refused()
  }

  async close(): Promise<void> {}
}

class ChangeMapStore extends ReadOnlyStore {
  readonly sizeBytes: number
  readonly #counters: ChangeCounters

  constructor(counters: ChangeCounters, sizeBytes: number) {
    super()
    this.#counters = counters
    this.sizeBytes = sizeBytes
  }

  async read(offset: number, lengthBytes: number): Promise<Buffer> {
    const map = Buffer.alloc(this.sizeBytes)
    for (const [piece, count] of this.#counters.all.entries()) map.writeUInt32LE(count, piece * counterBytes)
    return map.subarray(offset, offset + lengthBytes)
  }
}

async function refused(): Promise<never> {
  throw new NbdError('io', 'what is told of a disk is read-only', NbdErrno.permission)
}
