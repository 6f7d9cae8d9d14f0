/**
 * Guest time as integer arithmetic on the instruction count (ARCHITECTURE, invariant 10), and its exact inverse. The
 * core's `ticksAt` is the same function in WebAssembly; a test holds the two together.
 */

import type { GuestClock } from './types.ts'

const fraction = 32n
/** A deadline that never comes: what an unarmed timer holds. */
export const neverTicks = (1n << 64n) - 1n

function least(a: bigint, b: bigint): bigint {
  return a < b ? a : b
}

/** t(count) = t0 + min((count − n0) · rate / 2^32, cap), modulo 2^64. */
export function ticksAt(clock: GuestClock, count: bigint): bigint {
  const passed = ((count - clock.n0) * clock.ratePer2p32) >> fraction
  return BigInt.asUintN(64, clock.t0 + least(passed, clock.cap))
}

/**
 * The first count ≥ n0 with t(count) ≥ ticks, comparing unsigned; undefined when this clock never gets there (the cap,
 * a rate of 0, or 2^64 − 1, which never fires).
 */
export function firstCountAt(clock: GuestClock, ticks: bigint): bigint | undefined {
  if (ticks === neverTicks) return undefined
  const needed = ticks - clock.t0
  if (needed <= 0n) return clock.n0
  if (needed > clock.cap || clock.ratePer2p32 === 0n) return undefined
  const delta = ((needed << fraction) + clock.ratePer2p32 - 1n) / clock.ratePer2p32
  return clock.n0 + delta
}

/** Instructions after n0 until the cap is reached; 2^64 − 1 when it never is. */
export function capDelta(clock: GuestClock): bigint {
  const reached = firstCountAt(clock, clock.t0 + clock.cap)
  return reached === undefined ? neverTicks : least(reached - clock.n0, neverTicks)
}
