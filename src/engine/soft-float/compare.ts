/**
 * Comparisons, minimum and maximum, classification: no rounding, hardly any arithmetic.
 *
 * Floating-point numbers are sign and magnitude. Inverting the magnitude of the negative ones makes two's complement
 * integers that order like the numbers, with −0 right below +0: exactly what minimum and maximum want (IEEE 754-2019, 9.6,
 * minimumNumber), while comparisons treat the two zeros as equal.
 */

import { type Expression, i64 } from '../wasm/expression.ts'
import type { FunctionBuilder, Local } from '../wasm/function-builder.ts'
import { Flag } from './layout.ts'
import type { FormatCode } from './round-pack.ts'

/** An integer that orders like the number `bits`; NaNs aside. */
function orderKey(c: FormatCode, f: FunctionBuilder, bits: Local): Local {
  const atTop = f.let(bits.shl(64 - c.layout.widthBits))
  return f.let(atTop.xor(atTop.shrS(63).shrU(1)))
}

function areBothZero(c: FormatCode, a: Local, b: Local): Expression {
  return c.layout.isZero(a.or(b))
}

/** Quiet: only signaling NaNs are invalid. */
export function emitEqual(c: FormatCode, f: FunctionBuilder, a: Local, b: Local): void {
  const { layout } = c
  f.if(layout.isNan(a).or(layout.isNan(b)), () => {
    f.if(layout.isSignalingNan(a).or(layout.isSignalingNan(b)), () => c.raise(f, Flag.invalid))
    f.return(i64(0))
  })
  f.return(
    a
      .eq(b)
      .or(areBothZero(c, a, b))
      .toI64U(),
  )
}

/** Signaling: every NaN is invalid, and unordered. */
function returnIfUnordered(c: FormatCode, f: FunctionBuilder, a: Local, b: Local): void {
  f.if(c.layout.isNan(a).or(c.layout.isNan(b)), () => {
    c.raise(f, Flag.invalid)
    f.return(i64(0))
  })
}

export function emitLess(c: FormatCode, f: FunctionBuilder, a: Local, b: Local): void {
  returnIfUnordered(c, f, a, b)
  const isBelow = orderKey(c, f, a).ltS(orderKey(c, f, b))
  f.return(isBelow.and(areBothZero(c, a, b).eqz()).toI64U())
}

export function emitLessOrEqual(c: FormatCode, f: FunctionBuilder, a: Local, b: Local): void {
  returnIfUnordered(c, f, a, b)
  const isNotAbove = orderKey(c, f, a).leS(orderKey(c, f, b))
  f.return(isNotAbove.or(areBothZero(c, a, b)).toI64U())
}

function emitExtreme(
  pick: (a: Local, b: Local) => Expression,
  c: FormatCode,
  f: FunctionBuilder,
  a: Local,
  b: Local,
): void {
  const { layout } = c
  f.if(layout.isNan(a).or(layout.isNan(b)), () => {
    f.if(layout.isSignalingNan(a).or(layout.isSignalingNan(b)), () => c.raise(f, Flag.invalid))
    f.if(layout.isNan(a).eqz(), () => f.return(a))
    f.if(layout.isNan(b).eqz(), () => f.return(b))
    c.returnNan(f)
  })
  f.return(pick(orderKey(c, f, a), orderKey(c, f, b)).select(a, b))
}

/** One NaN loses against a number; two make the canonical one. */
export function emitMinimum(c: FormatCode, f: FunctionBuilder, a: Local, b: Local): void {
  emitExtreme((left, right) => left.ltS(right), c, f, a, b)
}

export function emitMaximum(c: FormatCode, f: FunctionBuilder, a: Local, b: Local): void {
  emitExtreme((left, right) => left.gtS(right), c, f, a, b)
}

/**
 * FCLASS: one bit of ten.
 *
 *     0 −∞   1 −normal   2 −subnormal   3 −0   4 +0   5 +subnormal   6 +normal   7 +∞   8 signaling NaN   9 quiet NaN
 */
export function emitClass(c: FormatCode, f: FunctionBuilder, a: Local): void {
  const { layout } = c
  f.if(layout.isNan(a), () => f.return(layout.isSignalingNan(a).select(i64(1 << 8), 1 << 9)))
  // Four kinds by magnitude, counted from zero up; the positive ones run up from bit 4, the negative ones down from bit 3.
  const isNotZero = layout.isZero(a).eqz()
  const isNotSubnormal = layout.exponent(a).eqz().eqz()
  const kind = f.let(isNotZero.add(isNotSubnormal).add(layout.isInfinite(a)).toI64U())
  f.return(
    layout
      .sign(a)
      .eqz()
      .select(i64(1 << 4).shl(kind), i64(1 << 3).shrU(kind)),
  )
}
