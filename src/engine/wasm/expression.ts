/**
 * WebAssembly expressions as TypeScript values: `x.add(y).shrU(i64(3))` is code that leaves one value on the stack.
 *
 * An expression is a recipe, not a result: writing it twice emits its code twice. What must be computed once, or has an
 * effect, goes into a local first (`f.let(...)`). Integer types only: guest floating point is integer code
 * (docs/DETERMINISM.md, NaN bits), so no float instruction is offered here.
 */

import { assert } from '../../base/assert.ts'
import type { CodeWriter } from './code-writer.ts'

export type ValueType = 'i32' | 'i64'

export const valueTypeCode = { i32: 0x7f, i64: 0x7e } as const

/** Opcodes of the integer instructions, [i32, i64]. */
const binaryOpcodes = {
  add: [0x6a, 0x7c],
  sub: [0x6b, 0x7d],
  mul: [0x6c, 0x7e],
  divS: [0x6d, 0x7f],
  divU: [0x6e, 0x80],
  remS: [0x6f, 0x81],
  remU: [0x70, 0x82],
  and: [0x71, 0x83],
  or: [0x72, 0x84],
  xor: [0x73, 0x85],
  shl: [0x74, 0x86],
  shrS: [0x75, 0x87],
  shrU: [0x76, 0x88],
} as const

const compareOpcodes = {
  eq: [0x46, 0x51],
  ne: [0x47, 0x52],
  ltS: [0x48, 0x53],
  ltU: [0x49, 0x54],
  gtS: [0x4a, 0x55],
  gtU: [0x4b, 0x56],
  leS: [0x4c, 0x57],
  leU: [0x4d, 0x58],
  geS: [0x4e, 0x59],
  geU: [0x4f, 0x5a],
} as const

const unaryOpcodes = { clz: [0x67, 0x79], ctz: [0x68, 0x7a] } as const

/** A number stands for a constant of the other operand's type. */
export type Operand = Expression | number | bigint

export class Expression {
  readonly type: ValueType
  readonly emit: (code: CodeWriter) => void

  constructor(type: ValueType, emit: (code: CodeWriter) => void) {
    this.type = type
    this.emit = emit
  }

  #operand(other: Operand): Expression {
    const expression = other instanceof Expression ? other : constant(this.type, other)
    assert(expression.type === this.type, `operand is ${expression.type}, not ${this.type}`)
    return expression
  }

  #binary(name: keyof typeof binaryOpcodes, other: Operand): Expression {
    const right = this.#operand(other)
    const opcode = binaryOpcodes[name][this.type === 'i32' ? 0 : 1]
    return new Expression(this.type, (code) => {
      this.emit(code)
      right.emit(code)
      code.byte(opcode)
    })
  }

  #compare(name: keyof typeof compareOpcodes, other: Operand): Expression {
    const right = this.#operand(other)
    const opcode = compareOpcodes[name][this.type === 'i32' ? 0 : 1]
    return new Expression('i32', (code) => {
      this.emit(code)
      right.emit(code)
      code.byte(opcode)
    })
  }

  #unary(type: ValueType, opcode: number): Expression {
    return new Expression(type, (code) => {
      this.emit(code)
      code.byte(opcode)
    })
  }

  add(other: Operand): Expression {
    return this.#binary('add', other)
  }
  sub(other: Operand): Expression {
    return this.#binary('sub', other)
  }
  mul(other: Operand): Expression {
    return this.#binary('mul', other)
  }
  /** Traps on zero and on overflow, unlike RISC-V's DIV: guard it. */
  divS(other: Operand): Expression {
    return this.#binary('divS', other)
  }
  /** Traps on zero, unlike RISC-V's DIVU: guard it. */
  divU(other: Operand): Expression {
    return this.#binary('divU', other)
  }
  /** Traps on zero, unlike RISC-V's REM: guard it. */
  remS(other: Operand): Expression {
    return this.#binary('remS', other)
  }
  /** Traps on zero, unlike RISC-V's REMU: guard it. */
  remU(other: Operand): Expression {
    return this.#binary('remU', other)
  }
  and(other: Operand): Expression {
    return this.#binary('and', other)
  }
  or(other: Operand): Expression {
    return this.#binary('or', other)
  }
  xor(other: Operand): Expression {
    return this.#binary('xor', other)
  }
  /** Shift counts are taken modulo the width, as in RISC-V. */
  shl(other: Operand): Expression {
    return this.#binary('shl', other)
  }
  shrS(other: Operand): Expression {
    return this.#binary('shrS', other)
  }
  shrU(other: Operand): Expression {
    return this.#binary('shrU', other)
  }

  eq(other: Operand): Expression {
    return this.#compare('eq', other)
  }
  ne(other: Operand): Expression {
    return this.#compare('ne', other)
  }
  ltS(other: Operand): Expression {
    return this.#compare('ltS', other)
  }
  ltU(other: Operand): Expression {
    return this.#compare('ltU', other)
  }
  gtS(other: Operand): Expression {
    return this.#compare('gtS', other)
  }
  gtU(other: Operand): Expression {
    return this.#compare('gtU', other)
  }
  leS(other: Operand): Expression {
    return this.#compare('leS', other)
  }
  leU(other: Operand): Expression {
    return this.#compare('leU', other)
  }
  geS(other: Operand): Expression {
    return this.#compare('geS', other)
  }
  geU(other: Operand): Expression {
    return this.#compare('geU', other)
  }

  /** 1 if zero, else 0; always i32. */
  eqz(): Expression {
    return this.#unary('i32', this.type === 'i32' ? 0x45 : 0x50)
  }
  not(): Expression {
    return this.xor(-1)
  }
  neg(): Expression {
    return constant(this.type, 0).sub(this)
  }
  clz(): Expression {
    return this.#unary(this.type, unaryOpcodes.clz[this.type === 'i32' ? 0 : 1])
  }
  ctz(): Expression {
    return this.#unary(this.type, unaryOpcodes.ctz[this.type === 'i32' ? 0 : 1])
  }

  /** Low 32 bits. */
  toI32(): Expression {
    if (this.type === 'i32') return this
    return this.#unary('i32', 0xa7)
  }
  /** Zero-extended. */
  toI64U(): Expression {
    if (this.type === 'i64') return this
    return this.#unary('i64', 0xad)
  }
  /** Sign-extended. */
  toI64S(): Expression {
    if (this.type === 'i64') return this
    return this.#unary('i64', 0xac)
  }
  /** The low 8, 16 or 32 bits, sign-extended to the full width. */
  signExtend(fromBits: 8 | 16 | 32): Expression {
    if (this.type === 'i32') {
      assert(fromBits !== 32, 'an i32 already has 32 bits')
      return this.#unary('i32', fromBits === 8 ? 0xc0 : 0xc1)
    }
    return this.#unary('i64', fromBits === 8 ? 0xc2 : fromBits === 16 ? 0xc3 : 0xc4)
  }

  /** `this` (i32) ≠ 0 ? whenTrue : whenFalse. Both are evaluated. */
  select(whenTrue: Expression, whenFalse: Operand): Expression {
    assert(this.type === 'i32', 'a condition is an i32')
    const other = whenFalse instanceof Expression ? whenFalse : constant(whenTrue.type, whenFalse)
    assert(other.type === whenTrue.type, 'select: types differ')
    return new Expression(whenTrue.type, (code) => {
      whenTrue.emit(code)
      other.emit(code)
      this.emit(code)
      code.byte(0x1b)
    })
  }
}

export function constant(type: ValueType, value: number | bigint): Expression {
  if (typeof value === 'number' && value === (value | 0)) {
    return new Expression(type, (code) => {
      code.byte(type === 'i32' ? 0x41 : 0x42)
      code.signed32(value)
    })
  }
  return new Expression(type, (code) => {
    if (type === 'i32') {
      code.byte(0x41)
      code.signed32(Number(BigInt.asIntN(32, BigInt(value))))
    } else {
      code.byte(0x42)
      code.signed64(BigInt(value))
    }
  })
}

export function i32(value: number): Expression {
  return constant('i32', value)
}

export function i64(value: number | bigint): Expression {
  return constant('i64', value)
}

const loadOpcodes = {
  i32: { load: 0x28, load8s: 0x2c, load8u: 0x2d, load16s: 0x2e, load16u: 0x2f, load32s: 0x28, load32u: 0x28 },
  i64: { load: 0x29, load8s: 0x30, load8u: 0x31, load16s: 0x32, load16u: 0x33, load32s: 0x34, load32u: 0x35 },
} as const

export type LoadName = keyof (typeof loadOpcodes)['i64']

/** Reads memory at `address` (i32) + `offset`. Alignment is never promised to the engine underneath. */
export function load(type: ValueType, name: LoadName, address: Expression, offset = 0): Expression {
  assert(address.type === 'i32', 'an address is an i32')
  const opcode = loadOpcodes[type][name]
  return new Expression(type, (code) => {
    address.emit(code)
    code.byte(opcode)
    code.unsigned(0)
    code.unsigned(offset)
  })
}

export const storeOpcodes = {
  i32: { 1: 0x3a, 2: 0x3b, 4: 0x36, 8: 0 },
  i64: { 1: 0x3c, 2: 0x3d, 4: 0x3e, 8: 0x37 },
} as const
