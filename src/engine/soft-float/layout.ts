/**
 * How the bits of a floating-point number are laid out (IEEE 754-2019, 3.4), and the expressions that take them apart.
 *
 *     sign │ exponent e, biased │ fraction f          single: 1 │ 8 │ 23      double: 1 │ 11 │ 52
 *
 *     e = 0            f = 0: zero; else subnormal: ±0.f · 2^(1 − bias)
 *     0 < e < all ones       normal: ±1.f · 2^(e − bias)
 *     e = all ones     f = 0: infinity; else NaN, quiet when the top bit of f is set
 *
 * Everything in this folder is written once, over a `FloatLayout`; the two formats differ in these numbers only. A value
 * travels as an i64 with its bits at the bottom; the sign stays where it is in the word, ready to be or-ed into a result.
 */

import { canonicalNan, type FloatFormat } from '../../riscv/float-operations.ts'
import { type Expression, i64 } from '../wasm/expression.ts'

/** Where the leading bit of a normalized significand stands (see unpack.ts): bit 63 stays free for a carry. */
export const leadingBit = 62

/** Accrued exception flags, as fflags has them. */
export const Flag = { inexact: 1, underflow: 2, overflow: 4, divideByZero: 8, invalid: 16 } as const

/** Rounding modes, as rm has them. */
export const Rounding = {
  nearestEven: 0,
  towardsZero: 1,
  down: 2,
  up: 3,
  nearestMaxMagnitude: 4,
} as const

export class FloatLayout {
  readonly format: FloatFormat
  readonly exponentBits: number
  readonly fractionBits: number
  readonly widthBits: number
  readonly bias: number
  /** The exponent field of infinities and NaNs: all ones. */
  readonly specialExponent: number
  /** Bits of a normalized significand below the last one that a result keeps. */
  readonly guardBits: number
  readonly signMask: bigint
  readonly fractionMask: bigint
  readonly infinity: bigint
  readonly quietBit: bigint
  readonly canonicalNan: bigint

  constructor(format: FloatFormat, exponentBits: number, fractionBits: number) {
    this.format = format
    this.exponentBits = exponentBits
    this.fractionBits = fractionBits
    this.widthBits = 1 + exponentBits + fractionBits
    this.bias = 2 ** (exponentBits - 1) - 1
    this.specialExponent = 2 ** exponentBits - 1
    this.guardBits = leadingBit - fractionBits
    this.signMask = 1n << BigInt(exponentBits + fractionBits)
    this.fractionMask = (1n << BigInt(fractionBits)) - 1n
    this.infinity = BigInt(this.specialExponent) << BigInt(fractionBits)
    this.quietBit = 1n << BigInt(fractionBits - 1)
    this.canonicalNan = canonicalNan[format]
  }

  /** The sign bit in place: 0 or `signMask`. */
  sign(bits: Expression): Expression {
    return bits.and(this.signMask)
  }

  /** All but the sign. As integers, magnitudes of numbers order like their values; NaNs come above infinity. */
  magnitude(bits: Expression): Expression {
    return bits.and(this.signMask - 1n)
  }

  /** The biased exponent field, as an i32. */
  exponent(bits: Expression): Expression {
    return bits.shrU(this.fractionBits).toI32().and(this.specialExponent)
  }

  fraction(bits: Expression): Expression {
    return bits.and(this.fractionMask)
  }

  isZero(bits: Expression): Expression {
    return this.magnitude(bits).eqz()
  }

  isInfinite(bits: Expression): Expression {
    return this.magnitude(bits).eq(this.infinity)
  }

  isNan(bits: Expression): Expression {
    return this.magnitude(bits).gtU(this.infinity)
  }

  isSignalingNan(bits: Expression): Expression {
    return this.isNan(bits).and(bits.and(this.quietBit).eqz())
  }

  /** What an exactly cancelling sum of unlike signs gives: +0, but −0 when rounding down (IEEE 754-2019, 6.3). */
  cancelledZero(rm: Expression): Expression {
    return rm.eq(Rounding.down).select(i64(this.signMask), 0)
  }
}

export const layouts: Readonly<Record<FloatFormat, FloatLayout>> = {
  single: new FloatLayout('single', 8, 23),
  double: new FloatLayout('double', 11, 52),
}
