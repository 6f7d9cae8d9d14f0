/**
 * The soft-float library: every operation of riscv/float-operations.ts as a WebAssembly function made of integer
 * instructions only.
 *
 * Why not the host's floating point: WebAssembly leaves the bits of a NaN open, rounds to nearest only, and has neither
 * exception flags nor a fused multiply-add. Two replicas must agree on every bit, so nothing here is left open: the same
 * operands, rounding mode and flags give the same result and flags on every machine and in every compiler tier.
 *
 * What it does not do: NaN boxing, checking rm, reading frm. That is the instruction table's business.
 *
 * Where to look: layout.ts (the bits) → unpack.ts (into a significand) → add, multiply, divide, square-root,
 * fused-multiply-add, integer-conversion, format-conversion → round-pack.ts (back into bits, with flags); compare.ts needs
 * neither.
 *
 * Sources: IEEE 754-2019; RISC-V unprivileged specification, "F" and "D".
 */

import { type FloatFormat, type FloatOperation, floatOperations } from '../../riscv/float-operations.ts'
import type { ValueType } from '../wasm/expression.ts'
import type { FunctionBuilder, FunctionReference, GlobalReference, Local } from '../wasm/function-builder.ts'
import type { ModuleBuilder } from '../wasm/module-builder.ts'
import { emitAdd, emitSubtract } from './add.ts'
import { emitClass, emitEqual, emitLess, emitLessOrEqual, emitMaximum, emitMinimum } from './compare.ts'
import { emitDivide } from './divide.ts'
import { emitConvert } from './format-conversion.ts'
import { emitFusedMultiplyAdd } from './fused-multiply-add.ts'
import { emitFromInteger, emitToInteger } from './integer-conversion.ts'
import { layouts } from './layout.ts'
import { emitMultiply } from './multiply.ts'
import { FormatCode } from './round-pack.ts'
import { emitSquareRoot } from './square-root.ts'

export interface SoftFloatLibrary {
  /** (operands: i64…, rm: i32 if the operation rounds) → i64. */
  readonly functions: Readonly<Record<FloatFormat, Readonly<Record<FloatOperation, FunctionReference>>>>
  /** Mutable i32: the accrued fflags. The functions or into it and never clear it. */
  readonly flags: GlobalReference
}

/** Writes one operation's body; the locals are its operands and, if it rounds, rm. */
type Emitter = (c: FormatCode, f: FunctionBuilder, ...params: Local[]) => void

const int32 = { widthBits: 32, signed: true } as const
const uint32 = { widthBits: 32, signed: false } as const
const int64 = { widthBits: 64, signed: true } as const
const uint64 = { widthBits: 64, signed: false } as const

const emitters: Readonly<Record<FloatOperation, Emitter>> = {
  add: emitAdd,
  sub: emitSubtract,
  mul: emitMultiply,
  div: emitDivide,
  sqrt: emitSquareRoot,
  fma: emitFusedMultiplyAdd,
  min: emitMinimum,
  max: emitMaximum,
  eq: emitEqual,
  lt: emitLess,
  le: emitLessOrEqual,
  class: emitClass,
  toI32: (c, f, a: Local, rm: Local) => emitToInteger(int32, c, f, a, rm),
  toU32: (c, f, a: Local, rm: Local) => emitToInteger(uint32, c, f, a, rm),
  toI64: (c, f, a: Local, rm: Local) => emitToInteger(int64, c, f, a, rm),
  toU64: (c, f, a: Local, rm: Local) => emitToInteger(uint64, c, f, a, rm),
  fromI32: (c, f, a: Local, rm: Local) => emitFromInteger(int32, c, f, a, rm),
  fromU32: (c, f, a: Local, rm: Local) => emitFromInteger(uint32, c, f, a, rm),
  fromI64: (c, f, a: Local, rm: Local) => emitFromInteger(int64, c, f, a, rm),
  fromU64: (c, f, a: Local, rm: Local) => emitFromInteger(uint64, c, f, a, rm),
  convert: (c, f, a: Local, rm: Local) =>
    emitConvert(c.layout.format === 'single' ? layouts.double : layouts.single, c, f, a, rm),
}

function defineFormat(
  module: ModuleBuilder,
  format: FloatFormat,
  flags: GlobalReference,
): Record<FloatOperation, FunctionReference> {
  const code = new FormatCode(module, layouts[format], flags)
  const define = ([operation, emit]: [string, Emitter]): [string, FunctionReference] => {
    const { operands, rounds } = floatOperations[operation as FloatOperation]
    const params: ValueType[] = [...Array<ValueType>(operands).fill('i64'), ...(rounds ? (['i32'] as const) : [])]
    const body = (f: FunctionBuilder, ...locals: Local[]): void => emit(code, f, ...locals)
    return [operation, module.function(`${format}.${operation}`, params, ['i64'], body)]
  }
  return Object.fromEntries(Object.entries(emitters).map(define)) as Record<FloatOperation, FunctionReference>
}

/** Adds the library to a module: its functions (none of them exported) and its flags. */
export function defineSoftFloat(module: ModuleBuilder): SoftFloatLibrary {
  const flags = module.global('i32')
  return {
    functions: { single: defineFormat(module, 'single', flags), double: defineFormat(module, 'double', flags) },
    flags,
  }
}
