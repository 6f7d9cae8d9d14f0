/**
 * The body of one WebAssembly function, written statement by statement in structured control flow. Statements take
 * effect in the order they are written; expressions are pure recipes (expression.ts).
 */

import { assert } from '../../base/assert.ts'
import { CodeWriter } from './code-writer.ts'
import { constant, Expression, type Operand, storeOpcodes, type ValueType } from './expression.ts'

/** A function that can be called: its index in the module, and its type. */
export interface FunctionReference {
  readonly index: number
  readonly typeIndex: number
  readonly params: readonly ValueType[]
  readonly results: readonly ValueType[]
}

export interface GlobalReference {
  readonly index: number
  readonly type: ValueType
}

/** A local variable or parameter: an expression that reads it, and can be set. */
export class Local extends Expression {
  readonly index: number

  constructor(type: ValueType, index: number) {
    super(type, (code) => {
      code.byte(0x20)
      code.unsigned(index)
    })
    this.index = index
  }
}

/** A place to branch to: the start of a loop, or the end of a block. */
export interface Label {
  readonly depth: number
}

/** What a conditional branch mostly does: V8 moves the other side out of the way. */
export type BranchHint = 'likely' | 'unlikely'

/** At which byte of the code a branch stands, and what is known of it. */
export interface PlacedHint {
  readonly position: number
  readonly hint: BranchHint
}

export class FunctionBuilder {
  readonly hints: PlacedHint[] = []
  readonly code = new CodeWriter()
  readonly locals: ValueType[] = []
  readonly params: readonly Local[]
  readonly results: readonly ValueType[]
  #depth = 0

  constructor(params: readonly ValueType[], results: readonly ValueType[]) {
    this.params = params.map((type, index) => new Local(type, index))
    this.results = results
  }

  readonly #free: Local[] = []
  #scope: Local[] | undefined

  /** Locals made in `body` are free again behind it. Inside they hold anything until set. */
  reuseLocals(body: () => void): void {
    const outer = this.#scope
    const scope: Local[] = []
    this.#scope = scope
    body()
    this.#scope = outer
    this.#free.push(...scope)
  }

  /** A new local; zero until set (but see `reuseLocals`). */
  local(type: ValueType): Local {
    if (this.#scope) {
      const index = this.#free.findIndex((local) => local.type === type)
      const local = index >= 0 ? this.#free.splice(index, 1)[0]! : this.#newLocal(type)
      this.#scope.push(local)
      return local
    }
    return this.#newLocal(type)
  }

  /** A local that `reuseLocals` does not take back. */
  lastingLocal(type: ValueType): Local {
    return this.#newLocal(type)
  }

  #newLocal(type: ValueType): Local {
    this.locals.push(type)
    return new Local(type, this.params.length + this.locals.length - 1)
  }

  /** A new local holding the value of `expression` now. */
  let(expression: Expression): Local {
    const local = this.local(expression.type)
    this.set(local, expression)
    return local
  }

  set(local: Local, value: Operand): void {
    const expression = value instanceof Expression ? value : constant(local.type, value)
    assert(expression.type === local.type, `set: ${expression.type} into ${local.type}`)
    expression.emit(this.code)
    this.code.byte(0x21)
    this.code.unsigned(local.index)
  }

  getGlobal(global: GlobalReference): Expression {
    return new Expression(global.type, (code) => {
      code.byte(0x23)
      code.unsigned(global.index)
    })
  }

  setGlobal(global: GlobalReference, value: Operand): void {
    const expression = value instanceof Expression ? value : constant(global.type, value)
    assert(expression.type === global.type, `set: ${expression.type} into a global of ${global.type}`)
    expression.emit(this.code)
    this.code.byte(0x24)
    this.code.unsigned(global.index)
  }

  /** Writes the low `size` bytes of `value` at `address` (i32) + `offset`. */
  store(size: 1 | 2 | 4 | 8, address: Expression, value: Expression, offset = 0): void {
    const opcode = storeOpcodes[value.type][size]
    assert(opcode !== 0 && address.type === 'i32', 'store: no such instruction')
    address.emit(this.code)
    value.emit(this.code)
    this.code.byte(opcode)
    this.code.unsigned(0)
    this.code.unsigned(offset)
  }

  /** memory.fill. */
  fill(address: Expression, value: Expression, lengthBytes: Expression): void {
    address.emit(this.code)
    value.emit(this.code)
    lengthBytes.emit(this.code)
    this.code.raw(Uint8Array.of(0xfc, 0x0b, 0))
  }

  if(condition: Expression, whenTrue: () => void, whenFalse?: () => void, hint?: BranchHint): void {
    assert(condition.type === 'i32', 'a condition is an i32')
    condition.emit(this.code)
    this.#hint(hint)
    this.code.byte(0x04)
    this.code.byte(0x40)
    this.#depth++
    whenTrue()
    if (whenFalse) {
      this.code.byte(0x05)
      whenFalse()
    }
    this.#depth--
    this.code.byte(0x0b)
  }

  /** Runs `body`; a branch to its label goes behind it. */
  block(body: (end: Label) => void): void {
    this.#structured(0x02, body)
  }

  /** Runs `body`; a branch to its label starts it again. Falling out of its end leaves the loop. */
  loop(body: (start: Label) => void): void {
    this.#structured(0x03, body)
  }

  #structured(opcode: number, body: (label: Label) => void): void {
    this.code.byte(opcode)
    this.code.byte(0x40)
    const label = { depth: ++this.#depth }
    body(label)
    this.#depth--
    this.code.byte(0x0b)
  }

  br(label: Label): void {
    this.code.byte(0x0c)
    this.code.unsigned(this.#depth - label.depth)
  }

  brIf(label: Label, condition: Expression, hint?: BranchHint): void {
    condition.emit(this.code)
    this.#hint(hint)
    this.code.byte(0x0d)
    this.code.unsigned(this.#depth - label.depth)
  }

  #hint(hint: BranchHint | undefined): void {
    if (hint) this.hints.push({ position: this.code.length, hint })
  }

  /** Branches to `targets[index]`, or to `otherwise` when the index is beyond them. */
  brTable(index: Expression, targets: readonly Label[], otherwise: Label): void {
    index.emit(this.code)
    this.code.byte(0x0e)
    this.code.unsigned(targets.length)
    for (const target of [...targets, otherwise]) this.code.unsigned(this.#depth - target.depth)
  }

  return(...values: Expression[]): void {
    assert(values.length === this.results.length, 'return: wrong number of values')
    for (const value of values) value.emit(this.code)
    this.code.byte(0x0f)
  }

  #arguments(target: { readonly params: readonly ValueType[] }, values: readonly Operand[]): Expression[] {
    assert(values.length === target.params.length, 'call: wrong number of arguments')
    return values.map((value, index) => {
      const type = target.params[index]!
      const expression = value instanceof Expression ? value : constant(type, value)
      assert(expression.type === type, `call: argument ${index} is ${expression.type}, not ${type}`)
      return expression
    })
  }

  /** A call as an expression; the function must have one result. */
  call(target: FunctionReference, ...values: Operand[]): Expression {
    const prepared = this.#arguments(target, values)
    const type = target.results[0]
    assert(target.results.length === 1 && type, 'call: the function has not one result; use do()')
    return new Expression(type, (code) => {
      for (const value of prepared) value.emit(code)
      code.byte(0x10)
      code.unsigned(target.index)
    })
  }

  /** A call as a statement; results are dropped. */
  do(target: FunctionReference, ...values: Operand[]): void {
    for (const value of this.#arguments(target, values)) value.emit(this.code)
    this.code.byte(0x10)
    this.code.unsigned(target.index)
    for (const _ of target.results) this.code.byte(0x1a)
  }

  /** A call with several results, put into `into` in order. */
  callInto(into: readonly Local[], target: FunctionReference, ...values: Operand[]): void {
    assert(into.length === target.results.length, 'call: wrong number of results')
    for (const value of this.#arguments(target, values)) value.emit(this.code)
    this.code.byte(0x10)
    this.code.unsigned(target.index)
    for (const local of [...into].reverse()) {
      this.code.byte(0x21)
      this.code.unsigned(local.index)
    }
  }

  /** Tail call: leaves this frame. */
  returnCall(target: FunctionReference, ...values: Operand[]): void {
    for (const value of this.#arguments(target, values)) value.emit(this.code)
    this.code.byte(0x12)
    this.code.unsigned(target.index)
  }

  /** Tail call through table 0; `like` gives the type. */
  returnCallIndirect(like: FunctionReference, tableIndex: Expression, ...values: Operand[]): void {
    for (const value of this.#arguments(like, values)) value.emit(this.code)
    tableIndex.emit(this.code)
    this.code.byte(0x13)
    this.code.unsigned(like.typeIndex)
    this.code.unsigned(0)
  }

  unreachable(): void {
    this.code.byte(0x00)
  }
}
