/**
 * Multiplication: exponents add, significands multiply, the product is rounded.
 *
 * The product of two significands in [1, 2) lies in [1, 4): one bit decides where its leading one is. The upper 64 of its
 * bits are more than any format keeps; the rest goes into the sticky bit.
 */

import type { FunctionBuilder, Local } from '../wasm/function-builder.ts'
import type { FormatCode } from './round-pack.ts'
import { isNormal, normalize, type Unpacked, unpackNormal } from './unpack.ts'
import { multiplyWide } from './wide.ts'

/** a · b */
export function emitMultiply(c: FormatCode, f: FunctionBuilder, a: Local, b: Local, rm: Local): void {
  const { layout } = c
  const sign = f.let(layout.sign(a.xor(b)))
  const x = unpackNormal(layout, f, a)
  const y = unpackNormal(layout, f, b)

  f.if(isNormal(layout, x.exponent).and(isNormal(layout, y.exponent)).eqz(), () => {
    const isSpecial = x.exponent.eq(layout.specialExponent).or(y.exponent.eq(layout.specialExponent))
    const hasZero = f.let(layout.isZero(a).or(layout.isZero(b)))
    f.if(isSpecial, () => {
      c.returnIfNan(f, a, b)
      f.if(hasZero, () => c.returnInvalid(f))
      f.return(sign.or(layout.infinity))
    })
    f.if(hasZero, () => f.return(sign))
    normalize(layout, f, a, x)
    normalize(layout, f, b, y)
  })

  const exponent = f.let(x.exponent.add(y.exponent).sub(layout.bias))
  const significand = emitProduct(c, f, x, y)
  // Leading one at bit 61 or 62; the latter is a product of 2 or more.
  const isBelowTwo = f.let(significand.shrU(62).eqz())
  f.set(significand, significand.shl(isBelowTwo.toI64U()))
  f.set(exponent, exponent.add(1).sub(isBelowTwo))
  c.returnRounded(f, sign, exponent, significand, rm)
}

/** The product of the significands, sticky, as 61 bits behind the point. */
function emitProduct(c: FormatCode, f: FunctionBuilder, x: Unpacked, y: Unpacked): Local {
  const { fractionBits, guardBits } = c.layout
  const exactBits = 2 * (fractionBits + 1)
  if (exactBits <= 63) {
    // Short significands: without their guard bits the product fits into one word.
    const product = x.significand.shrU(guardBits).mul(y.significand.shrU(guardBits))
    return f.let(product.shl(61 - 2 * fractionBits))
  }
  const { high, low } = multiplyWide(f, x.significand, y.significand.shl(1))
  return f.let(high.or(low.eqz().eqz().toI64U()))
}
