/**
 * The host's floating-point instructions, as functions from integer bits to integer bits: the only place where a float
 * exists, and it exists on WebAssembly's stack alone, never in a variable. Who uses these has to prove that bits and flags
 * are what the guest must see (soft-float/host-arithmetic.ts); the bits of a NaN are not.
 */

import type { CodeWriter } from './code-writer.ts'
import { Expression } from './expression.ts'

export type HostFormat = 'single' | 'double'

type Emitter = (code: CodeWriter) => void

/** i64 bits → float on the stack. */
function pushFloat(format: HostFormat, bits: Expression): Emitter {
  return (code) => {
    bits.emit(code)
    if (format === 'single') code.byte(0xa7)
    code.byte(format === 'single' ? 0xbe : 0xbf)
  }
}

/** Float on the stack → i64 bits, singles in the low half. */
function popFloat(format: HostFormat, code: CodeWriter): void {
  code.byte(format === 'single' ? 0xbc : 0xbd)
  if (format === 'single') code.byte(0xad)
}

const arithmetic = {
  sqrt: [0x91, 0x9f],
  add: [0x92, 0xa0],
  sub: [0x93, 0xa1],
  mul: [0x94, 0xa2],
  div: [0x95, 0xa3],
} as const
const comparisons = { eq: [0x5b, 0x61], lt: [0x5d, 0x63], le: [0x5f, 0x65] } as const

const column = (format: HostFormat): 0 | 1 => (format === 'single' ? 0 : 1)

/** The correctly rounded result, to nearest even. */
export function hostArithmetic(
  name: keyof typeof arithmetic,
  format: HostFormat,
  ...operands: Expression[]
): Expression {
  return new Expression('i64', (code) => {
    for (const operand of operands) pushFloat(format, operand)(code)
    code.byte(arithmetic[name][column(format)])
    popFloat(format, code)
  })
}

/** 0 or 1 as i32; 0 when a NaN is compared. */
export function hostComparison(
  name: keyof typeof comparisons,
  format: HostFormat,
  a: Expression,
  b: Expression,
): Expression {
  return new Expression('i32', (code) => {
    pushFloat(format, a)(code)
    pushFloat(format, b)(code)
    code.byte(comparisons[name][column(format)])
  })
}

/** a · b + c. Rounded once where `isMultiplyAddFused`, else twice. */
export function hostMultiplyAdd(format: HostFormat, a: Expression, b: Expression, c: Expression): Expression {
  const splat = format === 'single' ? 0x13 : 0x14
  const multiplyAdd = format === 'single' ? 0x105 : 0x107
  const extractLane = format === 'single' ? 0x1f : 0x21
  return new Expression('i64', (code) => {
    const vector = (opcode: number): void => {
      code.byte(0xfd)
      code.unsigned(opcode)
    }
    for (const operand of [a, b, c]) {
      pushFloat(format, operand)(code)
      vector(splat)
    }
    vector(multiplyAdd)
    vector(extractLane)
    code.byte(0)
    popFloat(format, code)
  })
}

/** From the other format: rounded to nearest even, or exact. */
export function hostConversion(to: HostFormat, operand: Expression): Expression {
  return new Expression('i64', (code) => {
    pushFloat(to === 'single' ? 'double' : 'single', operand)(code)
    code.byte(to === 'single' ? 0xb6 : 0xbb)
    popFloat(to, code)
  })
}

export interface IntegerType {
  readonly widthBits: 32 | 64
  readonly signed: boolean
}

/** From an integer in the low bits of an i64, rounded to nearest even. */
export function hostFromInteger(
  format: HostFormat,
  { widthBits, signed }: IntegerType,
  operand: Expression,
): Expression {
  const first = format === 'single' ? 0xb2 : 0xb7
  const opcode = first + (widthBits === 64 ? 2 : 0) + (signed ? 0 : 1)
  return new Expression('i64', (code) => {
    ;(widthBits === 32 ? operand.toI32() : operand).emit(code)
    code.byte(opcode)
    popFloat(format, code)
  })
}

/** Towards zero; saturates outside the type. 32-bit results are sign-extended to i64. */
export function hostToInteger(format: HostFormat, { widthBits, signed }: IntegerType, operand: Expression): Expression {
  const opcode = (widthBits === 64 ? 4 : 0) + (format === 'double' ? 2 : 0) + (signed ? 0 : 1)
  return new Expression('i64', (code) => {
    pushFloat(format, operand)(code)
    code.byte(0xfc)
    code.unsigned(opcode)
    if (widthBits === 32) code.byte(0xac)
  })
}
