/**
 * From one floating-point format to another: take apart in the one, change the bias, round and put together in the other.
 * Narrowing rounds, and may overflow or underflow. Widening is exact, also for subnormal singles, which become normal
 * doubles; it runs the same code.
 */

import type { FunctionBuilder, Local } from '../wasm/function-builder.ts'
import type { FloatLayout } from './layout.ts'
import type { FormatCode } from './round-pack.ts'
import { isNormal, normalize, unpackNormal } from './unpack.ts'

/** The number `a` of format `source`, in the format of `c`. */
export function emitConvert(source: FloatLayout, c: FormatCode, f: FunctionBuilder, a: Local, rm: Local): void {
  const { layout } = c
  const sign = f.let(
    a
      .shrU(source.widthBits - 1)
      .and(1)
      .shl(layout.widthBits - 1),
  )
  const x = unpackNormal(source, f, a)
  f.if(isNormal(source, x.exponent).eqz(), () => {
    f.if(source.isZero(a), () => f.return(sign))
    f.if(source.isInfinite(a), () => f.return(sign.or(layout.infinity)))
    f.if(source.isNan(a), () => {
      f.if(source.isSignalingNan(a), () => c.returnInvalid(f))
      c.returnNan(f)
    })
    normalize(source, f, a, x)
  })
  f.set(x.exponent, x.exponent.add(layout.bias - source.bias))
  c.returnRounded(f, sign, x.exponent, x.significand, rm)
}
