/**
 * Square root: each step doubles the number of known digits (P. Zimmermann, "Karatsuba Square Root", INRIA RR-3805).
 *
 * Given the root s and remainder r of the radicand's upper part (upper = s² + r, 0 ≤ r ≤ 2s), and its next 2k bits, split
 * into h and l of k bits each, the next root is s · 2^k + q for some q, and
 *
 *     (s · 2^k + q)² = s² · 2^2k + 2 · s · q · 2^k + q²
 *
 * so q is about (r · 2^k + h) / 2s. With u as the remainder of that division, what is left is u · 2^k + l − q². If that is
 * negative, q was one too large; never more, as long as s ≥ 2^(k − 1).
 *
 * It starts with one digit: the root of 1, 2 or 3 is 1. Five steps make 32 digits, enough for a single (24 and a rounding
 * bit). A sixth, over zeros below the radicand, makes 62, enough for a double. The last remainder is the sticky bit.
 */

import { i64 } from '../wasm/expression.ts'
import type { FunctionBuilder, Local } from '../wasm/function-builder.ts'
import { leadingBit } from './layout.ts'
import type { FormatCode } from './round-pack.ts'
import { isNormal, normalize, unpackNormal } from './unpack.ts'

/** √a */
export function emitSquareRoot(c: FormatCode, f: FunctionBuilder, a: Local, rm: Local): void {
  const { layout } = c
  const x = unpackNormal(layout, f, a)
  f.if(isNormal(layout, x.exponent).eqz().or(layout.sign(a).eqz().eqz()), () => {
    c.returnIfNan(f, a)
    f.if(layout.isZero(a), () => f.return(a))
    f.if(layout.sign(a).eqz().eqz(), () => c.returnInvalid(f))
    f.if(layout.isInfinite(a), () => f.return(a))
    normalize(layout, f, a, x)
  })

  // √(m · 2^e) = √m · 2^(e / 2); an odd exponent lends its one to m, which then lies in [2, 4).
  const exponent = f.let(x.exponent.sub(layout.bias))
  const radicand = f.let(x.significand.shl(exponent.and(1).toI64U()))
  f.set(exponent, exponent.shrS(1).add(layout.bias))

  const root = f.let(i64(1))
  const remainder = f.let(radicand.shrU(62).sub(1))
  const step = (k: number, high: Local | undefined, low: Local | undefined): void => {
    const dividend = f.let(high ? remainder.shl(k).or(high) : remainder.shl(k))
    const doubled = f.let(root.shl(1))
    const q = f.let(dividend.divU(doubled))
    const left = f.let(dividend.sub(q.mul(doubled)).shl(k))
    f.set(remainder, (low ? left.or(low) : left).sub(q.mul(q)))
    f.set(root, root.shl(k).add(q))
    f.if(remainder.ltS(0), () => {
      f.set(remainder, remainder.add(root.shl(1)).sub(1))
      f.set(root, root.sub(1))
    })
  }
  for (const k of [1, 2, 4, 8, 16]) {
    const mask = (1n << BigInt(k)) - 1n
    step(k, f.let(radicand.shrU(64 - 3 * k).and(mask)), f.let(radicand.shrU(64 - 4 * k).and(mask)))
  }
  let rootBits = 32
  if (rootBits < layout.fractionBits + 2) {
    const k = 30
    step(k, undefined, undefined)
    rootBits += k
  }

  const significand = f.let(root.shl(leadingBit + 1 - rootBits).or(remainder.eqz().eqz().toI64U()))
  c.returnRounded(f, f.let(i64(0)), exponent, significand, rm)
}
