/**
 * A disk for tests in one process: an image that is never written to, and what the guest wrote kept beside it in memory.
 *
 * It answers a request at once and in full; when the answer becomes a log entry is the caller's business. Discarded
 * sectors keep their content, as a disk may (virtio 1.2, 5.2.6.2).
 */

import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { sectorBytes } from '../../src/base/units.ts'
import type { Input, Output } from '../../src/machine/types.ts'

export type DiskRequest = Extract<Output, { kind: 'disk' }>
export type DiskCompletion = Extract<Input, { kind: 'diskCompletion' }>

export class MemoryDisk {
  readonly sectors: bigint
  readonly #file: number | undefined
  readonly #written = new Map<bigint, Uint8Array>()

  /** @param image path of the image below, or the number of sectors of an empty disk */
  constructor(image: string | bigint) {
    this.#file = typeof image === 'string' ? openSync(image, 'r') : undefined
    this.sectors =
      typeof image === 'bigint' ? image : BigInt(Math.floor(fstatSync(this.#file as number).size / sectorBytes))
  }

  answer(request: DiskRequest): DiskCompletion {
    const { sequence, operation, sector, lengthBytes, data } = request
    const done = { kind: 'diskCompletion', sequence, status: 'ok' } as const
    if (operation === 'read') return { ...done, data: this.#read(sector, lengthBytes) }
    if (operation === 'write') this.#write(sector, data!)
    if (operation === 'writeZeroes') this.#write(sector, new Uint8Array(lengthBytes))
    return done
  }

  #read(sector: bigint, lengthBytes: number): Uint8Array {
    const bytes = new Uint8Array(lengthBytes)
    if (this.#file !== undefined) readSync(this.#file, bytes, 0, lengthBytes, Number(sector) * sectorBytes)
    for (let offset = 0; offset < lengthBytes; offset += sectorBytes) {
      const written = this.#written.get(sector + BigInt(offset / sectorBytes))
      if (written) bytes.set(written, offset)
    }
    return bytes
  }

  #write(sector: bigint, data: Uint8Array): void {
    for (let offset = 0; offset < data.length; offset += sectorBytes) {
      this.#written.set(sector + BigInt(offset / sectorBytes), data.slice(offset, offset + sectorBytes))
    }
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file)
  }
}
