/**
 * What the disk must hold, by the log alone: a change begins at its marker and ends at its completion; in between, and after
 * an I/O error, a sector may hold the old or the new. A read's data in the log must be one of what it may be.
 *
 * Sectors are known by their stamps (tiny-machine.ts), so a mixture of two writes in one sector would show too.
 */

import { sectorBytes } from '../base/units.ts'
import type { DiskStatus } from '../machine/types.ts'
import { type DiskRequest, diskSectors } from './tiny-machine.ts'

export class DiskModel {
  /** What each sector may hold, as stamps. Undefined: nobody knows (an older run of the machine wrote it). */
  readonly #may: (Set<string> | undefined)[]
  readonly #inFlight = new Map<bigint, DiskRequest>()

  constructor(isFresh: boolean) {
    this.#may = Array.from({ length: diskSectors }, () => (isFresh ? new Set([stampOf(undefined, 0)]) : undefined))
  }

  onRequest(request: DiskRequest): void {
    this.#inFlight.set(request.sequence, request)
    for (const [sector, stamp] of changesOf(request)) this.#may[sector]?.add(stamp)
  }

  /** @returns what is wrong, or undefined */
  onAnswer(sequence: bigint, status: DiskStatus, data: Uint8Array | undefined): string | undefined {
    const request = this.#inFlight.get(sequence)
    if (!request) return `disk request ${sequence} was answered and never made`
    this.#inFlight.delete(sequence)
    // A flush that failed ends all promises, as an error of fsync does: the guest has been told.
    // (An uncertain one says nothing: the driver flushes again.)
    if (status !== 'ok' && status !== 'uncertain' && request.operation === 'flush') this.#may.fill(undefined)
    if (status !== 'ok') return undefined
    for (const [sector, stamp] of changesOf(request)) this.#may[sector] = new Set([stamp])
    if (request.operation !== 'read') return undefined
    for (let position = 0; position < request.lengthBytes / sectorBytes; position++) {
      const wrong = this.#hold(Number(request.sector) + position, stampOf(data, position))
      if (wrong) return `read ${sequence}: ${wrong}`
    }
    return undefined
  }

  /** What is wrong with the image as it is now, or undefined. */
  compare(image: Uint8Array): string | undefined {
    for (let sector = 0; sector < diskSectors; sector++) {
      const wrong = this.#hold(sector, stampOf(image, sector))
      if (wrong) return wrong
    }
    return undefined
  }

  /** What is wrong with a sector that was seen to hold this. */
  #hold(sector: number, stamp: string): string | undefined {
    const may = this.#may[sector]
    if (may?.has(stamp) === false) {
      return `sector ${sector} holds ${stamp} and may hold ${[...may].join(' or ')}: a write was lost, or came late`
    }
    return undefined
  }
}

/** The sectors a request changes, and what they hold afterwards. A discard leaves all as it is, here. */
function changesOf({ operation, sector, lengthBytes, data }: DiskRequest): [number, string][] {
  if (operation !== 'write' && operation !== 'writeZeroes') return []
  const changes: [number, string][] = []
  for (let position = 0; position < lengthBytes / sectorBytes; position++) {
    changes.push([Number(sector) + position, stampOf(data, position)])
  }
  return changes
}

const blank = '0:0'

function stampOf(bytes: Uint8Array | undefined, position: number): string {
  if (!bytes) return blank
  const view = new DataView(bytes.buffer, bytes.byteOffset + position * sectorBytes, sectorBytes)
  return `${view.getUint32(0)}:${view.getUint32(4)}`
}
