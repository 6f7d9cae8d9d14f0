/**
 * Addition and subtraction: align, add, round.
 *
 * The operand with the larger magnitude leads. The other's significand is shifted right by the difference of the
 * exponents, sticky. With like signs the sum may carry once. With unlike signs leading bits may cancel; two cases keep
 * the sticky bit honest: exponents that differ by at most one lose nothing in the shift, and exponents that differ by more
 * cancel at most one bit, so the sticky bit stays among the guard bits.
 *
 * Subnormal operands need no normalization: they have exponent 1 and no leading one, and a sum that ends below the normal
 * numbers is always exact, because every operand is a multiple of the smallest subnormal number.
 */

import { i64 } from '../wasm/expression.ts'
import type { FunctionBuilder, Local } from '../wasm/function-builder.ts'
import { leadingBit } from './layout.ts'
import type { FormatCode } from './round-pack.ts'
import { shiftRightSticky } from './unpack.ts'

/** a + b */
export function emitAdd(c: FormatCode, f: FunctionBuilder, a: Local, b: Local, rm: Local): void {
  const { layout } = c
  const isSwapped = f.let(layout.magnitude(a).ltU(layout.magnitude(b)))
  const large = f.let(isSwapped.select(b, a))
  const small = f.let(isSwapped.select(a, b))
  const sign = f.let(layout.sign(large))
  const isLike = f.let(layout.sign(small).eq(sign))

  const exponent = f.let(layout.exponent(large))
  f.if(exponent.eq(layout.specialExponent), () => {
    c.returnIfNan(f, large, small)
    f.if(layout.isInfinite(small).and(isLike.eqz()), () => c.returnInvalid(f))
    f.return(large)
  })

  const smallExponent = f.let(layout.exponent(small))
  const significandOf = (bits: Local, itsExponent: Local): Local => {
    const leading = itsExponent.eqz().eqz().toI64U().shl(leadingBit)
    return f.let(layout.fraction(bits).shl(layout.guardBits).or(leading))
  }
  const significand = significandOf(large, exponent)
  const addend = significandOf(small, smallExponent)
  f.set(exponent, exponent.add(exponent.eqz()))
  f.set(smallExponent, smallExponent.add(smallExponent.eqz()))
  f.set(addend, shiftRightSticky(f, addend, exponent.sub(smallExponent)))

  f.if(
    isLike,
    () => {
      f.set(significand, significand.add(addend))
      const carry = f.let(significand.shrU(63))
      f.set(significand, significand.shrU(carry).or(significand.and(carry)))
      f.set(exponent, exponent.add(carry.toI32()))
    },
    () => {
      f.set(significand, significand.sub(addend))
      f.if(significand.eqz(), () => f.return(layout.cancelledZero(rm)))
      const wanted = f.let(significand.clz().toI32().sub(1))
      const room = f.let(exponent.sub(1))
      const shift = f.let(wanted.ltU(room).select(wanted, room))
      f.set(significand, significand.shl(shift.toI64U()))
      f.set(exponent, exponent.sub(shift))
    },
  )
  c.returnRounded(f, sign, exponent, significand, rm)
}

/** a − b = a + (−b). A NaN with a flipped sign is still that NaN. */
export function emitSubtract(c: FormatCode, f: FunctionBuilder, a: Local, b: Local, rm: Local): void {
  f.set(b, b.xor(i64(c.layout.signMask)))
  emitAdd(c, f, a, b, rm)
}
