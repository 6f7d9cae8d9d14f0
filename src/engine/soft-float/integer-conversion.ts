/**
 * Between floating point and integers (RISC-V unprivileged specification, "F", FCVT).
 *
 * To an integer: the significand is cut into an integer part and 64 bits behind the point, and rounded by those. Where the
 * result is out of range, the nearest integer in range is delivered and invalid is raised, alone: no inexact beside
 * it. The range is tested after rounding, so −0.75 to unsigned is 0 and inexact when rounded towards zero, but invalid when
 * rounded to nearest. A NaN counts as above the range.
 *
 * From an integer: normalize and round; integers no longer than the significand need no rounding.
 */

import { type Expression, i32, i64 } from '../wasm/expression.ts'
import type { FunctionBuilder, Local } from '../wasm/function-builder.ts'
import { Flag, Rounding } from './layout.ts'
import type { FormatCode } from './round-pack.ts'

export interface IntegerType {
  readonly widthBits: 32 | 64
  readonly signed: boolean
}

const half = 1n << 63n

/** Rounds to an integer of the type; 32-bit results are sign-extended, whatever their type. */
export function emitToInteger(type: IntegerType, c: FormatCode, f: FunctionBuilder, a: Local, rm: Local): void {
  const { layout } = c
  const isNegative = f.let(layout.sign(a).eqz().eqz())
  const biased = f.let(layout.exponent(a))
  // 64 bits, leading one on top; none for a subnormal number, of which only matters that it is not zero.
  const leading = biased.eqz().eqz().toI64U().shl(63)
  const significand = f.let(
    layout
      .fraction(a)
      .shl(layout.guardBits + 1)
      .or(leading),
  )
  const exponent = f.let(biased.sub(layout.bias))

  const magnitude = f.local('i64')
  const rest = f.local('i64')
  const fits = f.local('i32')
  f.if(exponent.ltS(64), () => {
    f.if(
      exponent.geS(0),
      () => {
        f.set(magnitude, significand.shrU(i32(63).sub(exponent).toI64U()))
        f.set(rest, significand.shl(1).shl(exponent.toI64U()))
      },
      // Below one half any sticky bit will do.
      () => f.set(rest, exponent.eq(-1).select(significand, significand.eqz().eqz().toI64U())),
    )
    // The lowest bits of `rest` are zero or a lone sticky bit: adding 1 cannot overflow.
    const isOverTie = rest.add(magnitude.and(1)).gtU(half)
    const toNearest = rm.eqz().select(isOverTie, rest.geU(half))
    const awayFromZero = rm.eq(isNegative.select(i32(Rounding.down), Rounding.up)).and(rest.eqz().eqz())
    f.set(magnitude, magnitude.add(rm.and(3).eqz().select(toNearest, awayFromZero).toI64U()))
    f.set(fits, magnitude.leU(isNegative.select(i64(lowestMagnitude(type)), i64(highest(type)))))
  })

  f.if(fits, () => {
    c.raiseInexactIf(f, rest)
    f.return(extended(type, f.let(isNegative.select(magnitude.neg(), magnitude))))
  })
  c.raise(f, Flag.invalid)
  const isBelow = isNegative.and(layout.isNan(a).eqz())
  f.return(extended(type, f.let(isBelow.select(i64(-lowestMagnitude(type)), i64(highest(type))))))
}

function highest({ widthBits, signed }: IntegerType): bigint {
  return (1n << BigInt(signed ? widthBits - 1 : widthBits)) - 1n
}

function lowestMagnitude({ widthBits, signed }: IntegerType): bigint {
  return signed ? 1n << BigInt(widthBits - 1) : 0n
}

function extended(type: IntegerType, value: Local): Expression {
  return type.widthBits === 32 ? value.signExtend(32) : value
}

/** Rounds an integer of the type; a 32-bit one is taken from the low half of `a`. */
export function emitFromInteger(type: IntegerType, c: FormatCode, f: FunctionBuilder, a: Local, rm: Local): void {
  const { layout } = c
  if (type.widthBits === 32) f.set(a, type.signed ? a.signExtend(32) : a.and(0xffff_ffffn))
  const sign = f.local('i64')
  if (type.signed) {
    f.if(a.ltS(0), () => {
      f.set(sign, layout.signMask)
      f.set(a, a.neg())
    })
  }
  f.if(a.eqz(), () => f.return(i64(0)))

  const zeros = f.let(a.clz())
  const exponent = f.let(i32(layout.bias + 63).sub(zeros.toI32()))
  f.set(a, a.shl(zeros))
  if (type.widthBits <= layout.fractionBits + 1) {
    // Adding the significand with its leading one counts the exponent up by one.
    const exact = a.shrU(63 - layout.fractionBits)
    f.return(exponent.sub(1).toI64U().shl(layout.fractionBits).add(exact).or(sign))
  } else {
    const significand = f.let(a.shrU(1).or(a.and(1)))
    c.returnRounded(f, sign, exponent, significand, rm)
  }
}
