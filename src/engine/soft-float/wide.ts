/**
 * Numbers of two 64-bit words, for products. WebAssembly multiplies 64 by 64 bits into 64, so the full product is put
 * together from four products of 32-bit halves, as on paper with two digits:
 *
 *               aH   aL
 *             × bH   bL
 *     ─────────────────
 *               aL·bL
 *          aH·bL           each 64 bits wide, each column 32 bits further left
 *          aL·bH
 *     aH·bH
 */

import { type Expression, i64 } from '../wasm/expression.ts'
import type { FunctionBuilder, Local } from '../wasm/function-builder.ts'

/** high · 2^64 + low, unsigned. */
export interface Wide {
  readonly high: Local
  readonly low: Local
}

const lowHalf = 0xffff_ffffn

/** The full product of two unsigned i64. */
export function multiplyWide(f: FunctionBuilder, a: Expression, b: Expression): Wide {
  const aLow = f.let(a.and(lowHalf))
  const aHigh = f.let(a.shrU(32))
  const bLow = f.let(b.and(lowHalf))
  const bHigh = f.let(b.shrU(32))
  const lowest = f.let(aLow.mul(bLow))
  // (2^32 − 1)^2 + (2^32 − 1) is below 2^64: neither of the two column sums can overflow.
  const firstColumn = f.let(aHigh.mul(bLow).add(lowest.shrU(32)))
  const secondColumn = f.let(aLow.mul(bHigh).add(firstColumn.and(lowHalf)))
  return {
    high: f.let(aHigh.mul(bHigh).add(firstColumn.shrU(32)).add(secondColumn.shrU(32))),
    low: f.let(secondColumn.shl(32).or(lowest.and(lowHalf))),
  }
}

/** Shifts left by 0 ≤ `distance` < 128 (i64). */
export function shiftLeftWide(f: FunctionBuilder, value: Wide, distance: Local): void {
  f.if(distance.geU(64), () => {
    f.set(value.high, value.low)
    f.set(value.low, 0)
  })
  // Shift counts are modulo 64: a shift by 64 − n is written as one by 1 and one by 63 − n, so that n = 0 moves nothing.
  f.set(value.high, value.high.shl(distance).or(value.low.shrU(1).shrU(distance.not())))
  f.set(value.low, value.low.shl(distance))
}

/** Shifts right by `distance` ≥ 0 (i64), sticky: bit 0 says whether anything fell out. */
export function shiftRightWideSticky(f: FunctionBuilder, value: Wide, distance: Local): void {
  f.if(distance.geU(128), () => {
    f.set(value.low, value.high.or(value.low).eqz().eqz().toI64U())
    f.set(value.high, 0)
    f.set(distance, 0)
  })
  f.if(distance.geU(64), () => {
    f.set(value.low, value.high.or(value.low.eqz().eqz().toI64U()))
    f.set(value.high, 0)
    f.set(distance, distance.sub(64))
  })
  const lost = f.let(value.low.and(i64(-1).shl(distance).not()))
  f.set(value.low, value.low.shrU(distance).or(value.high.shl(1).shl(distance.not())).or(lost.eqz().eqz().toI64U()))
  f.set(value.high, value.high.shrU(distance))
}

/** Adds `other` to `value`; the sum must fit. */
export function addWide(f: FunctionBuilder, value: Wide, other: Wide): void {
  f.set(value.low, value.low.add(other.low))
  const carry = value.low.ltU(other.low).toI64U()
  f.set(value.high, value.high.add(other.high).add(carry))
}

/** Subtracts `other` from `value`, modulo 2^128. */
export function subtractWide(f: FunctionBuilder, value: Wide, other: Wide): void {
  const borrow = value.low.ltU(other.low).toI64U()
  f.set(value.high, value.high.sub(other.high).sub(borrow))
  f.set(value.low, value.low.sub(other.low))
}

/** 0 − `value`, modulo 2^128. */
export function negateWide(f: FunctionBuilder, value: Wide): void {
  f.set(value.high, value.high.add(value.low.eqz().eqz().toI64U()).neg())
  f.set(value.low, value.low.neg())
}
