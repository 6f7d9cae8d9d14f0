/**
 * Division: long division in digits of 28 bits.
 *
 * Dividend and divisor are scaled so that the quotient lies in [1, 2). Its integer part is 1; what is left, r < d, gives
 * digit after digit q = ⌊r · 2^28 / d⌋. A digit is guessed with one machine division, from the divisor's upper bits alone:
 *
 *     guess = ⌊r / ⌊d / 2^28⌋⌋
 *
 * With 2^60 ≤ d < 2^61 the dropped bits make r / ⌊d / 2^28⌋ too large by less than (r / d) · 2^28 / 2^32 < 1/16, so the
 * guess is the digit or one more, and the remainder's sign tells which. Everything stays below 2^61 in magnitude, except
 * for r · 2^28, of which only the difference to guess · d matters: modulo 2^64 is enough.
 *
 * Two digits make a double (52 fraction bits and a rounding bit), one makes a single. The last remainder is the sticky bit.
 */

import { i64 } from '../wasm/expression.ts'
import type { FunctionBuilder, Local } from '../wasm/function-builder.ts'
import { Flag, leadingBit } from './layout.ts'
import type { FormatCode } from './round-pack.ts'
import { isNormal, normalize, unpackNormal } from './unpack.ts'

const digitBits = 28

/** a / b */
export function emitDivide(c: FormatCode, f: FunctionBuilder, a: Local, b: Local, rm: Local): void {
  const { layout } = c
  const sign = f.let(layout.sign(a.xor(b)))
  const x = unpackNormal(layout, f, a)
  const y = unpackNormal(layout, f, b)

  f.if(isNormal(layout, x.exponent).and(isNormal(layout, y.exponent)).eqz(), () => {
    c.returnIfNan(f, a, b)
    f.if(layout.isInfinite(a), () => {
      f.if(layout.isInfinite(b), () => c.returnInvalid(f))
      f.return(sign.or(layout.infinity))
    })
    f.if(layout.isInfinite(b), () => f.return(sign))
    f.if(layout.isZero(b), () => {
      f.if(layout.isZero(a), () => c.returnInvalid(f))
      c.raise(f, Flag.divideByZero)
      f.return(sign.or(layout.infinity))
    })
    f.if(layout.isZero(a), () => f.return(sign))
    normalize(layout, f, a, x)
    normalize(layout, f, b, y)
  })

  const isBelowOne = f.let(x.significand.ltU(y.significand))
  const exponent = f.let(x.exponent.sub(y.exponent).add(layout.bias).sub(isBelowOne))
  // Guard bits are zero, so moving the leading one from bit 62 down to bit 60 loses nothing.
  const divisor = f.let(y.significand.shrU(2))
  const remainder = f.let(x.significand.shl(isBelowOne.toI64U()).shrU(2).sub(divisor))
  const divisorTop = f.let(divisor.shrU(digitBits))
  const quotient = f.let(i64(1))

  const digits = Math.ceil((layout.fractionBits + 1) / digitBits)
  for (let digit = 0; digit < digits; digit++) {
    const guess = f.let(remainder.divU(divisorTop))
    f.set(remainder, remainder.shl(digitBits).sub(guess.mul(divisor)))
    f.if(remainder.ltS(0), () => {
      f.set(guess, guess.sub(1))
      f.set(remainder, remainder.add(divisor))
    })
    f.set(quotient, quotient.shl(digitBits).add(guess))
  }

  const significand = f.let(quotient.shl(leadingBit - digits * digitBits).or(remainder.eqz().eqz().toI64U()))
  c.returnRounded(f, sign, exponent, significand, rm)
}
