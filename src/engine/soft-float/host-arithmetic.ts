/**
 * When the host's floating-point instructions give what soft float would, in value and flags, and how to ask.
 *
 * WebAssembly's operations are IEEE 754's with rounding to nearest even: their results are exact to the bit on every host,
 * but for the bits of a NaN. They say nothing of flags. So:
 *
 * - What rounds is asked for to nearest even, and only while the inexact flag is already set: then raising it again, or not,
 *   is the same. A result that is not zero, subnormal, the smallest normal numbers, infinite or NaN raises no other flag: no
 *   overflow and no division by zero (they give infinities, or numbers at the very end), no invalid operation (it gives
 *   a NaN), no underflow (it is for results that are tiny after rounding, below the smallest normal number; the binade
 *   above is left out because rounding may lift a tiny number to its lower end). The result tells all of this, whatever
 *   the operands are.
 * - Comparisons of numbers raise nothing. Conversions to a wider type are exact.
 * - Conversion to an integer is asked for towards zero, inside the type, and while the inexact flag is set.
 *
 * The largest exponent is left out as well, though only infinity would need it: overflow to the largest finite number
 * is a matter of other rounding modes.
 *
 * A fused multiply-add is WebAssembly's relaxed one where the host has it fused: rounded once, which has one right answer.
 * A host whose relaxed operation rounds twice uses soft float. WebAssembly fixes that choice for the life of a process.
 */

import type { FloatFormat, FloatOperation } from '../../riscv/float-operations.ts'
import { type Expression, i64 } from '../wasm/expression.ts'
import type { FunctionBuilder, Local } from '../wasm/function-builder.ts'
import {
  hostArithmetic,
  hostComparison,
  hostConversion,
  hostFromInteger,
  hostMultiplyAdd,
  hostToInteger,
  type IntegerType,
} from '../wasm/host-float.ts'
import { ModuleBuilder } from '../wasm/module-builder.ts'
import { type FloatLayout, layouts } from './layout.ts'

/** What must hold besides the operands: nothing, or the inexact flag and a rounding mode. */
export type HostMode = 'any' | 'toNearest' | 'towardsZero'

export interface HostOperation {
  readonly mode: HostMode
  /** i32: the operands allow it. */
  readonly before?: Expression
  readonly result: Expression
  /** i32: the result proves it was right. */
  readonly after?: (result: Local) => Expression
}

/** Where results prove themselves: between the lowest binades and the highest one. */
function isInside(layout: FloatLayout, result: Local): Expression {
  return layout
    .exponent(result)
    .sub(2)
    .ltU(layout.specialExponent - 3)
}

function isNotSpecial(layout: FloatLayout, result: Local): Expression {
  return layout.exponent(result).ne(layout.specialExponent)
}

const integers: Readonly<Record<string, IntegerType>> = {
  I32: { widthBits: 32, signed: true },
  U32: { widthBits: 32, signed: false },
  I64: { widthBits: 64, signed: true },
  U64: { widthBits: 64, signed: false },
}

function toInteger(format: FloatFormat, type: IntegerType, operand: Local): HostOperation {
  const layout = layouts[format]
  const bias = BigInt((layout.specialExponent - 1) / 2)
  const power = (exponent: number): bigint => (bias + BigInt(exponent)) << BigInt(layout.fractionBits)
  // Positive floats are ordered like their bits; a NaN is above them all.
  const magnitude = type.signed ? layout.magnitude(operand) : operand
  return {
    mode: 'towardsZero',
    before: magnitude.ltU(i64(power(type.widthBits - (type.signed ? 1 : 0)))),
    result: hostToInteger(format, type, operand),
  }
}

/** How the host does an operation, or undefined where soft float always does it. */
export function hostOperation(
  operation: FloatOperation,
  format: FloatFormat,
  operands: readonly Local[],
): HostOperation | undefined {
  const layout = layouts[format]
  const [a, b, c] = operands as [Local, Local, Local]
  const proven = (result: Expression): HostOperation => ({
    mode: 'toNearest',
    result,
    after: (value) => isInside(layout, value),
  })
  switch (operation) {
    case 'add':
    case 'sub':
    case 'mul':
    case 'div':
    case 'sqrt':
      return proven(hostArithmetic(operation, format, ...operands))
    case 'fma':
      return isMultiplyAddFused() ? proven(hostMultiplyAdd(format, a, b, c)) : undefined
    case 'eq':
    case 'lt':
    case 'le': {
      const areNumbers = hostComparison('eq', format, a, a).and(hostComparison('eq', format, b, b))
      return { mode: 'any', before: areNumbers, result: hostComparison(operation, format, a, b).toI64U() }
    }
    case 'convert':
      if (format === 'single') return proven(hostConversion(format, a))
      return { mode: 'any', result: hostConversion(format, a), after: (value) => isNotSpecial(layout, value) }
    case 'fromI32':
    case 'fromU32':
    case 'fromI64':
    case 'fromU64': {
      const type = integers[operation.slice(4)]!
      const isExact = format === 'double' && type.widthBits === 32
      return { mode: isExact ? 'any' : 'toNearest', result: hostFromInteger(format, type, a) }
    }
    case 'toI32':
    case 'toU32':
    case 'toI64':
    case 'toU64':
      return toInteger(format, integers[operation.slice(2)]!, a)
    default:
      return undefined
  }
}

/**
 * Emits an operation: on the host where that is proven right, else by `soft`.
 *
 * @param modeHolds i32: the inexact flag is set and the rounding mode is the operation's; not asked for mode 'any'
 */
export function emitOnHost(
  f: FunctionBuilder,
  { mode, before, result, after }: HostOperation,
  modeHolds: Expression,
  soft: () => Expression,
): Local {
  const value = f.local('i64')
  f.block((done) => {
    f.block((refused) => {
      if (mode !== 'any') f.brIf(refused, modeHolds.eqz(), 'unlikely')
      if (before) f.brIf(refused, before.eqz(), 'unlikely')
      f.set(value, result)
      if (after) f.brIf(done, after(value), 'likely')
      else f.br(done)
    })
    f.set(value, soft())
  })
  return value
}

let known: boolean | undefined

/** Whether this host rounds a relaxed multiply-add once. */
export function isMultiplyAddFused(): boolean {
  known ??= probeMultiplyAdd()
  return known
}

/** (1 + 2^-n)² − (1 + 2^(1-n)) is 2^-2n if rounded once, and 0 if the square was rounded before. */
function probeMultiplyAdd(): boolean {
  const module = new ModuleBuilder()
  for (const format of ['single', 'double'] as const) {
    const reference = module.function(format, ['i64', 'i64', 'i64'], ['i64'], (f, a, b, c) =>
      f.return(hostMultiplyAdd(format, a!, b!, c!)),
    )
    module.exportFunction(format, reference)
  }
  let probe: Record<string, (a: bigint, b: bigint, c: bigint) => bigint>
  try {
    probe = new WebAssembly.Instance(new WebAssembly.Module(module.finish()), {}).exports as typeof probe
  } catch {
    // A host without relaxed vectors refuses the module.
    return false
  }
  const double = probe.double!(0x3ff0_0000_0400_0000n, 0x3ff0_0000_0400_0000n, -0x400f_ffff_f800_0000n)
  const single = probe.single!(0x3f80_0100n, 0x3f80_0100n, 0xbf80_0200n)
  return double === (1023n - 52n) << 52n && single === (127n - 30n) << 23n
}
