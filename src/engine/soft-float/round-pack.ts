/**
 * From an exact (or sticky, see unpack.ts) result to the bits of the nearest number in the rounding mode's sense, with
 * the flags that IEEE 754-2019, 7.4–7.6, asks for.
 *
 * Rounding is one addition in front of cutting the guard bits off: half a unit for the modes that go to nearest, almost
 * one unit for the one that goes away from zero for this sign, nothing for the ones that go towards it. A tie to even then
 * clears the last bit. A carry out of the significand needs no case of its own: exponent and fraction are neighbours in
 * the word, so it counts the exponent up and leaves a fraction of zero, which is the next power of two.
 *
 * Underflow is tininess and inexactness. RISC-V detects tininess AFTER rounding: a result is tiny when, rounded to full
 * precision as if exponents had no lower end, it is still below the smallest normal number. Only a number right below
 * that border (exponent 0) can be rounded out of tininess.
 */

import { i32, i64 } from '../wasm/expression.ts'
import type { FunctionBuilder, FunctionReference, GlobalReference, Local } from '../wasm/function-builder.ts'
import type { ModuleBuilder } from '../wasm/module-builder.ts'
import { Flag, type FloatLayout, Rounding } from './layout.ts'
import { shiftRightSticky } from './unpack.ts'

/** What every operation of one format is generated with. */
export class FormatCode {
  readonly layout: FloatLayout
  readonly flags: GlobalReference
  readonly #roundPack: FunctionReference

  constructor(module: ModuleBuilder, layout: FloatLayout, flags: GlobalReference) {
    this.layout = layout
    this.flags = flags
    this.#roundPack = module.function(
      `${layout.format}.roundPack`,
      ['i64', 'i32', 'i64', 'i32'],
      ['i64'],
      (f, sign: Local, exponent: Local, significand: Local, rm: Local) =>
        this.#defineRoundPack(f, sign, exponent, significand, rm),
    )
  }

  /** Accrues flags. */
  raise(f: FunctionBuilder, flags: number): void {
    f.setGlobal(this.flags, f.getGlobal(this.flags).or(flags))
  }

  /** Accrues the inexact flag when `lost` (i64) is not zero. */
  raiseInexactIf(f: FunctionBuilder, lost: Local): void {
    f.setGlobal(this.flags, f.getGlobal(this.flags).or(lost.eqz().eqz()))
  }

  returnNan(f: FunctionBuilder): void {
    f.return(i64(this.layout.canonicalNan))
  }

  /** The default result of an invalid operation (IEEE 754-2019, 7.2). */
  returnInvalid(f: FunctionBuilder): void {
    this.raise(f, Flag.invalid)
    this.returnNan(f)
  }

  /** If an operand is a NaN: the canonical NaN, and invalid if one of them is signaling. */
  returnIfNan(f: FunctionBuilder, ...operands: Local[]): void {
    const { layout } = this
    const any = (test: 'isNan' | 'isSignalingNan') =>
      operands.map((operand) => layout[test](operand)).reduce((left, right) => left.or(right))
    f.if(any('isNan'), () => {
      f.if(any('isSignalingNan'), () => this.raise(f, Flag.invalid))
      this.returnNan(f)
    })
  }

  /**
   * Leaves the function with ± significand / 2^62 · 2^(exponent − bias), rounded. The significand has its leading one at
   * bit 62 and may be sticky. One exception: with an exponent of exactly 1 and guard bits of zero it may be smaller, and
   * is then an exact subnormal number or zero.
   *
   * To nearest even, well inside the range: rounded right here. All else is worth a call.
   */
  returnRounded(f: FunctionBuilder, sign: Local, exponent: Local, significand: Local, rm: Local): void {
    const { layout } = this
    const inside = exponent.sub(1).ltU(layout.specialExponent - 2)
    f.if(rm.eqz().and(inside), () => {
      // Half a unit, minus one if the kept part is even: a tie then stays below the carry exactly when it must.
      const lastBit = significand.shrU(layout.guardBits).and(1)
      const rounded = significand.add((1n << BigInt(layout.guardBits - 1)) - 1n).add(lastBit)
      this.raiseInexactIf(f, f.let(significand.and((1n << BigInt(layout.guardBits)) - 1n)))
      f.return(exponent.sub(1).toI64U().shl(layout.fractionBits).add(rounded.shrU(layout.guardBits)).or(sign))
    })
    f.returnCall(this.#roundPack, sign, exponent, significand, rm)
  }

  /** (sign, exponent, significand, rm) → bits: every mode, every range. */
  #defineRoundPack(f: FunctionBuilder, sign: Local, exponent: Local, significand: Local, rm: Local): void {
    const { layout } = this
    const half = 1n << BigInt(layout.guardBits - 1)
    const guardMask = (1n << BigInt(layout.guardBits)) - 1n

    const toNearest = rm.and(3).eqz()
    const awayFromZero = rm.eq(sign.eqz().select(i32(Rounding.up), Rounding.down))
    const increment = f.let(toNearest.select(i64(half), awayFromZero.select(i64(guardMask), 0)))
    const carries = f.let(significand.add(increment).ltS(0))

    f.if(
      exponent.ltS(1),
      () => {
        const isTiny = f.let(exponent.ltS(0).or(carries.eqz()))
        f.set(significand, shiftRightSticky(f, significand, i32(1).sub(exponent)))
        f.set(exponent, 1)
        f.if(isTiny.and(significand.and(guardMask).eqz().eqz()), () => this.raise(f, Flag.underflow))
      },
      () => {
        const largest = layout.specialExponent - 1
        f.if(exponent.gtS(largest).or(exponent.eq(largest).and(carries)), () => {
          this.raise(f, Flag.overflow | Flag.inexact)
          // Modes that round this sign towards zero stop at the largest finite number, right below infinity.
          f.return(i64(layout.infinity).sub(increment.eqz().toI64U()).or(sign))
        })
      },
    )

    const lost = f.let(significand.and(guardMask))
    this.raiseInexactIf(f, lost)
    const kept = f.let(significand.add(increment).shrU(layout.guardBits))
    const isTie = lost.eq(half).and(rm.eq(Rounding.nearestEven))
    f.set(kept, kept.and(isTie.toI64U().not()))
    f.return(exponent.sub(1).toI64U().shl(layout.fractionBits).add(kept).or(sign))
  }
}
