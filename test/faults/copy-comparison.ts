/**
 * Whether the two copies of a disk that is not shared are equal, found out while the guest writes to it. Two files that are
 * written to are never read at one moment, so it takes two looks:
 *
 *   1. everything, while the machine runs: what differs is stale, or was just being written
 *   2. what differed, while the primary stands still: nothing new is written, the backup replays what it has received, and
 *      then equal is what the design calls equal: the same disk at the same place of the log
 *
 * A primary may be stopped in the moment between a write to its disk and the sending of its log entry. So what differs still is
 * looked at again: a stale piece stays stale, the other one does not.
 */

import { type FileHandle, open } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'

export const comparedPieceBytes = 64 * 1024
/** At a time: the reader shares its thread with a load. */
const readBytes = 1024 * 1024
const looks = 4

export interface LookTimes {
  /** Longest. Well below what makes a backup suspect its primary. */
  readonly standsForMs: number
  readonly betweenLooksMs: number
}

const defaultTimes: LookTimes = { standsForMs: 800, betweenLooksMs: 300 }

export interface Brake {
  /** The primary writes nothing from here on. */
  stop(): void
  goOn(): void
}

/** @returns the numbers of the pieces in which the files differ, with the primary stopped */
export async function differingPieces(
  paths: readonly [string, string],
  brake: Brake,
  { standsForMs, betweenLooksMs } = defaultTimes,
): Promise<number[]> {
  const [one, other] = [await open(paths[0]), await open(paths[1])]
  try {
    const { size } = await one.stat()
    let different = await differing(one, other, size)
    for (let look = 0; look < looks && different.length > 0; look++) {
      if (look > 0) await sleep(betweenLooksMs)
      brake.stop()
      try {
        for (const until = performance.now() + standsForMs; different.length > 0; await sleep(10)) {
          different = await stillDiffering(one, other, different)
          if (performance.now() > until) break
        }
      } finally {
        brake.goOn()
      }
    }
    return different
  } finally {
    await Promise.all([one.close(), other.close()])
  }
}

async function differing(one: FileHandle, other: FileHandle, sizeBytes: number): Promise<number[]> {
  const pieces: number[] = []
  for (let offset = 0; offset < sizeBytes; offset += readBytes) {
    const [a, b] = await readBoth(one, other, offset, readBytes)
    if (a.equals(b)) continue
    for (let at = 0; at < a.length; at += comparedPieceBytes) {
      const isEqual = a.subarray(at, at + comparedPieceBytes).equals(b.subarray(at, at + comparedPieceBytes))
      if (!isEqual) pieces.push((offset + at) / comparedPieceBytes)
    }
  }
  return pieces
}

async function stillDiffering(one: FileHandle, other: FileHandle, pieces: readonly number[]): Promise<number[]> {
  const left: number[] = []
  for (const piece of pieces) {
    const [a, b] = await readBoth(one, other, piece * comparedPieceBytes, comparedPieceBytes)
    if (!a.equals(b)) left.push(piece)
  }
  return left
}

/** What is past the end of one of them differs from what the other has there. */
async function readBoth(one: FileHandle, other: FileHandle, offset: number, lengthBytes: number) {
  const read = async (file: FileHandle): Promise<Buffer> => {
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(lengthBytes), 0, lengthBytes, offset)
    return buffer.subarray(0, bytesRead)
  }
  return await Promise.all([read(one), read(other)])
}
