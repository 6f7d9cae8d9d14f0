/**
 * From bits to numbers one can calculate with.
 *
 * A finite number that is not zero becomes an exponent and a significand with its leading one at bit 62:
 *
 *     value = ± significand / 2^62 · 2^(exponent − bias)
 *
 *     bit 63    62        61 …                        guardBits   guardBits − 1 … 0
 *         carry  leading 1  fraction, fractionBits wide              guard bits
 *
 * The guard bits (10 for doubles, 39 for singles) hold what a result has to be rounded by. Bit 0 is sticky: it is 1 when
 * anything non-zero was shifted out below it, which is all that rounding needs to know about the rest.
 *
 * Subnormal numbers have no leading one; `normalize` gives them one, with an exponent of zero or less.
 */

import { type Expression, i64 } from '../wasm/expression.ts'
import type { FunctionBuilder, Local } from '../wasm/function-builder.ts'
import { type FloatLayout, leadingBit } from './layout.ts'

export interface Unpacked {
  /** i32, biased. */
  readonly exponent: Local
  /** i64, leading one at bit 62. */
  readonly significand: Local
}

/** Takes `bits` apart as if it were a normal number. */
export function unpackNormal(layout: FloatLayout, f: FunctionBuilder, bits: Expression): Unpacked {
  return {
    exponent: f.let(layout.exponent(bits)),
    significand: f.let(
      layout
        .fraction(bits)
        .shl(layout.guardBits)
        .or(1n << BigInt(leadingBit)),
    ),
  }
}

/** 1 when `unpackNormal` was right about this exponent; one comparison, since 0 − 1 wraps to the top. */
export function isNormal(layout: FloatLayout, exponent: Expression): Expression {
  return exponent.sub(1).ltU(layout.specialExponent - 1)
}

/** Repairs what `unpackNormal` made of a subnormal number; leaves normal ones alone. Zero is the caller's business. */
export function normalize(layout: FloatLayout, f: FunctionBuilder, bits: Expression, number: Unpacked): void {
  f.if(number.exponent.eqz(), () => {
    const shift = f.let(layout.fraction(bits).clz().sub(1))
    f.set(number.significand, layout.fraction(bits).shl(shift))
    f.set(
      number.exponent,
      shift
        .toI32()
        .neg()
        .add(1 + layout.guardBits),
    )
  })
}

/**
 * `value` shifted right by `distance` (i32, unsigned), with everything that falls out kept in the sticky bit. `value`
 * must be below 2^63, so that a shift by 63 stands for all longer ones.
 */
export function shiftRightSticky(f: FunctionBuilder, value: Local, distance: Expression): Expression {
  const wanted = f.let(distance)
  const shift = f.let(wanted.ltU(63).select(wanted, 63).toI64U())
  const lost = value.and(i64(-1).shl(shift).not())
  return value.shrU(shift).or(lost.eqz().eqz().toI64U())
}
