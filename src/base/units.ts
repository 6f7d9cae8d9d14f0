/** Sizes and times, with their units in their names. */

import { ExitCode, WorldError } from './assert.ts'

export const KiB = 1024
export const MiB = 1024 * KiB
export const GiB = 1024 * MiB

/** Size of a page of guest memory, the grain of dirty tracking and digests. */
export const pageBytes = 4096

/** The disk's unit of addressing (virtio 1.2, 5.2.4). */
export const sectorBytes = 512

const sizeUnits: Readonly<Record<string, number>> = { '': 1, K: KiB, M: MiB, G: GiB }

/** Parses `256M`, `1G`, `4096`. */
export function parseSize(text: string): number {
  const match = /^(\d+)([KMG]?)i?B?$/i.exec(text.trim())
  const unit = match ? sizeUnits[match[2]!.toUpperCase()] : undefined
  if (!match || unit === undefined) {
    throw new WorldError('bad-size', `"${text}" is not a size: write for example 256M or 1G`, ExitCode.badConfiguration)
  }
  return Number(match[1]) * unit
}

const durationUnits: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }

/** Parses `500ms`, `2s`, `10m`; the result is in milliseconds. */
export function parseDuration(text: string): number {
  const match = /^(\d+)(ms|s|m|h)$/.exec(text.trim())
  if (!match) {
    throw new WorldError('bad-duration', `"${text}" is not a duration: write for example 500ms or 2s`, ExitCode.usage)
  }
  return Number(match[1]) * durationUnits[match[2]!]!
}

/** For people: `1.5 MB`. */
export function formatBytes(bytes: number): string {
  if (bytes >= 1024 * 1024) return `${(bytes / 1024 / 1024).toFixed(1)} MB`
  if (bytes >= 1024) return `${(bytes / 1024).toFixed(1)} kB`
  return `${bytes} B`
}
