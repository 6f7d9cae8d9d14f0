/**
 * Fused multiply-add: a · b + c with one rounding at the end.
 *
 * The product is kept whole, in two words, with its leading one at bit 125 of 128; the addend is laid out beside it, also
 * with its leading one at bit 125. Whichever has the smaller exponent is shifted right, sticky, and they are added or
 * subtracted. The sticky bit is safe for the reason given in add.ts: a product fills bits 125 to 20 at most, an addend less,
 * so bits are only lost by shifts of more than 20, and then at most one leading bit cancels.
 *
 * RISC-V: ∞ · 0 is invalid even when the addend is a quiet NaN.
 */

import type { FunctionBuilder, Local } from '../wasm/function-builder.ts'
import { Flag } from './layout.ts'
import type { FormatCode } from './round-pack.ts'
import { isNormal, normalize, unpackNormal } from './unpack.ts'
import {
  addWide,
  multiplyWide,
  negateWide,
  shiftLeftWide,
  shiftRightWideSticky,
  subtractWide,
  type Wide,
} from './wide.ts'

/** An exponent so low that nothing is ever aligned to it: the addend zero's. */
const exponentOfZero = -0x10000

/** a · b + c */
export function emitFusedMultiplyAdd(
  code: FormatCode,
  f: FunctionBuilder,
  a: Local,
  b: Local,
  c: Local,
  rm: Local,
): void {
  const { layout } = code
  const sign = f.let(layout.sign(a.xor(b)))
  const isLike = f.let(layout.sign(c).eq(sign))
  const x = unpackNormal(layout, f, a)
  const y = unpackNormal(layout, f, b)
  const z = unpackNormal(layout, f, c)

  const areNormal = [x, y, z].map(({ exponent }) => isNormal(layout, exponent)).reduce((left, right) => left.and(right))
  f.if(areNormal.eqz(), () => {
    const hasInfiniteFactor = f.let(layout.isInfinite(a).or(layout.isInfinite(b)))
    const hasZeroFactor = f.let(layout.isZero(a).or(layout.isZero(b)))
    f.if(hasInfiniteFactor.and(hasZeroFactor), () => code.raise(f, Flag.invalid))
    code.returnIfNan(f, a, b, c)
    f.if(hasInfiniteFactor, () => {
      f.if(hasZeroFactor.or(layout.isInfinite(c).and(isLike.eqz())), () => code.returnInvalid(f))
      f.return(sign.or(layout.infinity))
    })
    f.if(layout.isInfinite(c), () => f.return(c))
    f.if(hasZeroFactor, () => {
      f.if(layout.isZero(c).and(isLike.eqz()), () => f.return(layout.cancelledZero(rm)))
      f.return(c)
    })
    normalize(layout, f, a, x)
    normalize(layout, f, b, y)
    f.if(
      layout.isZero(c),
      () => {
        f.set(z.significand, 0)
        f.set(z.exponent, exponentOfZero)
      },
      () => normalize(layout, f, c, z),
    )
  })

  // Leading one at bit 62 each: the product's is at bit 124 or, if it is 2 or more, at bit 125.
  const product = multiplyWide(f, x.significand, y.significand)
  const isBelowTwo = f.let(product.high.shrU(61).eqz().toI64U())
  shiftLeftWide(f, product, isBelowTwo)
  const exponent = f.let(
    x.exponent
      .add(y.exponent)
      .sub(layout.bias - 1)
      .sub(isBelowTwo.toI32()),
  )
  const addend: Wide = { high: f.let(z.significand.shrU(1)), low: f.local('i64') }

  const distance = f.let(exponent.sub(z.exponent))
  const shift = f.let(distance.toI64S())
  f.if(
    distance.geS(0),
    () => shiftRightWideSticky(f, addend, shift),
    () => {
      f.set(shift, shift.neg())
      shiftRightWideSticky(f, product, shift)
      f.set(exponent, z.exponent)
    },
  )

  f.if(
    isLike,
    () => addWide(f, product, addend),
    () => {
      subtractWide(f, product, addend)
      f.if(product.high.or(product.low).eqz(), () => f.return(layout.cancelledZero(rm)))
      f.if(product.high.ltS(0), () => {
        negateWide(f, product)
        f.set(sign, sign.xor(layout.signMask))
      })
    },
  )

  // Leading one up to bit 127, then one down again for the carry bit that rounding wants.
  const zeros = f.let(product.high.clz())
  f.if(product.high.eqz(), () => f.set(zeros, product.low.clz().add(64)))
  shiftLeftWide(f, product, zeros)
  f.set(exponent, exponent.add(2).sub(zeros.toI32()))
  const lost = product.high.and(1).or(product.low)
  const significand = f.let(product.high.shrU(1).or(lost.eqz().eqz().toI64U()))
  code.returnRounded(f, sign, exponent, significand, rm)
}
