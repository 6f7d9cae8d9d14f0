/**
 * The instruction table's language, spoken by the interpreter: operands come from the predecoded record, registers are
 * memory, and what ends an instruction goes on with the next record: back to the start of the loop, or for an
 * instruction that is a function of its own with a tail call into it.
 */

import { type FloatFormat, type FloatOperation, floatOperations } from '../../riscv/float-operations.ts'
import type { Instruction } from '../../riscv/instruction.ts'
import type { InstructionContext, SystemOperation, Value } from '../../riscv/semantics.ts'
import { type Expression, i32, i64, load } from '../wasm/expression.ts'
import type { FunctionBuilder, Label, Local } from '../wasm/function-builder.ts'
import { emitAtomic, emitLoadReserved, emitStoreConditional } from './atomics.ts'
import { emitReached, recordAt } from './code-pages.ts'
import type { Core } from './core.ts'
import { mstatusBit } from './csr-fields.ts'
import type { FloatFunctions } from './float.ts'
import { fBase, get, put, recordBytesPerByte, recordField, xBase } from './layout.ts'
import { type AccessSite, emitLoad, emitLocate, emitStore } from './memory-access.ts'
import { recordPc } from './traps.ts'

/** Which form of an instruction a handler is for. */
export interface HandlerForm {
  readonly instruction: Instruction
  readonly lengthBytes: 2 | 4
  /** The target of a branch or jump is in the same page, and the immediate is the distance to its record. */
  readonly withinPage: boolean
}

export class InterpreterContext implements InstructionContext {
  readonly #f: FunctionBuilder
  readonly #core: Core
  readonly #float: FloatFunctions
  readonly #form: HandlerForm
  readonly #record: Local
  readonly #left: Local
  readonly #site: AccessSite
  readonly #again: Label | undefined
  #ended = false
  #depth = 0

  constructor(f: FunctionBuilder, core: Core, float: FloatFunctions, form: HandlerForm, again?: Label) {
    this.#again = again
    this.#f = f
    this.#core = core
    this.#float = float
    this.#form = form
    this.#record = f.params[0]!
    this.#left = f.params[1]!
    this.#site = {
      f,
      core,
      dataSet: get('dataSet'),
      left: this.#left,
      afterSlow: (after) => {
        f.if(after.eqz(), () => f.returnCall(core.raise, this.#record, this.#left))
        f.set(this.#left, after)
      },
    }
  }

  #register(base: number, offset: number): Expression {
    return load('i64', 'load', load('i32', 'load16u', this.#record, offset), base)
  }

  get rs1(): Expression {
    return this.#register(xBase, recordField.rs1)
  }
  get rs2(): Expression {
    return this.#register(xBase, recordField.rs2)
  }
  get fs1(): Expression {
    return this.#register(fBase, recordField.rs1)
  }
  get fs2(): Expression {
    return this.#register(fBase, recordField.rs2)
  }
  get fs3(): Expression {
    // rs3 is bits 31:27; times 8 is where it stands in its byte.
    return load('i64', 'load', load('i32', 'load8u', this.#record, recordField.bits + 3).and(0xf8), fBase)
  }
  get immediate(): Expression {
    return load('i64', 'load32s', this.#record, recordField.immediate)
  }
  get pc(): Expression {
    return recordPc(this.#record)
  }
  get nextPc(): Expression {
    return this.pc.add(this.#form.lengthBytes)
  }

  i32(value: number): Expression {
    return i32(value)
  }
  i64(value: number | bigint): Expression {
    return i64(value)
  }
  let(value: Value): Expression {
    return this.#f.let(value as Expression)
  }
  if(condition: Value, whenTrue: () => void, whenFalse?: () => void): void {
    this.#depth++
    this.#f.if(condition as Expression, whenTrue, whenFalse)
    this.#depth--
  }

  setRd(value: Value): void {
    this.#f.store(8, load('i32', 'load16u', this.#record, recordField.rd), value as Expression, xBase)
  }

  setFd(value: Value): void {
    this.#f.store(8, load('i32', 'load16u', this.#record, recordField.rd), value as Expression, fBase)
    put(this.#f, 'mstatus', get('mstatus').or(mstatusBit.fs))
  }

  load(address: Value, sizeBytes: 1 | 2 | 4 | 8): Expression {
    return emitLoad(this.#site, address as Expression, sizeBytes)
  }

  store(address: Value, sizeBytes: 1 | 2 | 4 | 8, value: Value): void {
    emitStore(this.#site, address as Expression, sizeBytes, value as Expression)
  }

  atomic(address: Value, sizeBytes: 4 | 8, update: (old: Value) => Value): Expression {
    const host = emitLocate(this.#site, address as Expression, sizeBytes, 'write')
    return emitAtomic(this.#f, host, sizeBytes, (old) => update(old) as Expression)
  }

  loadReserved(address: Value, sizeBytes: 4 | 8): Expression {
    return emitLoadReserved(
      this.#f,
      emitLocate(this.#site, address as Expression, sizeBytes, 'read'),
      sizeBytes,
      this.#core.layout.ramStart,
    )
  }

  storeConditional(address: Value, sizeBytes: 4 | 8, value: Value): Expression {
    const host = emitLocate(this.#site, address as Expression, sizeBytes, 'write')
    return emitStoreConditional(this.#f, host, sizeBytes, this.#core.layout.ramStart, value as Expression)
  }

  jump(target: Value): void {
    this.#end()
    if (this.#form.withinPage) {
      this.#goOn(this.#target())
      return
    }
    const f = this.#f
    const pc = f.let(target as Expression)
    f.if(pc.and(-4096).ne(get('pagePc')), () => {
      // The other page must not be looked up if the run ends here: the walk sets A bits.
      const jumpOut = (): void => f.returnCall(this.#core.jumpOut, pc, this.#left.sub(1))
      f.if(this.#left.eq(1), jumpOut)
      f.if(f.call(this.#core.enterPage, pc).eqz(), jumpOut)
    })
    const record = f.let(recordAt(pc))
    emitReached(f, record)
    this.#goOn(record)
  }

  #target(): Expression {
    return this.#record.add(load('i32', 'load', this.#record, recordField.immediate))
  }

  branch(condition: Value): void {
    if (!this.#form.withinPage) {
      this.if(condition, () => this.jump(this.pc.add(this.immediate)))
      return
    }
    this.#end()
    this.#goOn((condition as Expression).select(this.#target(), this.#following()))
  }

  /** The record behind this one. */
  #following(): Expression {
    return this.#record.add(this.#form.lengthBytes * recordBytesPerByte)
  }

  /** Ends this instruction; the next one is at `record`. */
  #goOn(record: Expression): void {
    const f = this.#f
    const left = this.#left.sub(1)
    if (this.#again) {
      f.set(this.#record, record)
      f.set(this.#left, left)
      f.br(this.#again)
    } else {
      f.returnCall(this.#core.interpret, record, left)
    }
  }

  illegal(): void {
    this.#end()
    this.#f.returnCall(this.#core.raiseIllegal, this.#record, this.#left)
  }

  system(operation: SystemOperation): void {
    this.#end()
    this.#f.returnCall(this.#core.systemOperations[operation], this.#record, this.#left)
  }

  #csr(): Expression {
    return load('i32', 'load16u', this.#record, recordField.bits + 2).shrU(4)
  }
  /** Attempted before this instruction. */
  #count(): Expression {
    return get('endCount').sub(this.#left.toI64U())
  }

  readCsr(kind: 'read' | 'readWrite'): Expression {
    const f = this.#f
    f.if(f.call(this.#core.mayAccessCsr, this.#csr(), i32(kind === 'read' ? 0 : 1)).eqz(), () =>
      f.returnCall(this.#core.raiseIllegal, this.#record, this.#left),
    )
    return f.let(f.call(this.#core.readCsr, this.#csr(), this.#count()))
  }

  writeCsr(value: Value): void {
    const f = this.#f
    const effect = f.call(this.#core.writeCsr, this.#csr(), value as Expression, this.#count().add(1))
    f.if(effect, () => f.returnCall(this.#core.finish, this.nextPc, this.#left))
  }

  requireFloat(): void {
    this.#f.if(get('mstatus').and(mstatusBit.fs).eqz(), () =>
      this.#f.returnCall(this.#core.raiseIllegal, this.#record, this.#left),
    )
  }

  float(operation: FloatOperation, format: FloatFormat, ...operands: Value[]): Expression {
    const f = this.#f
    const values = operands as Expression[]
    if (floatOperations[operation].rounds) values.push(this.#roundingMode())
    return f.let(f.call(this.#float[format][operation], ...values))
  }

  /** The rm field, or frm where it says dynamic; an invalid one makes the instruction illegal. */
  #roundingMode(): Expression {
    const f = this.#f
    const dynamic = 7
    const mode = f.let(
      load('i32', 'load8u', this.#record, recordField.bits + 1)
        .shrU(4)
        .and(7),
    )
    f.if(mode.eq(dynamic), () => f.set(mode, get('fcsr').shrU(5).toI32()))
    f.if(mode.gtU(4), () => f.returnCall(this.#core.raiseIllegal, this.#record, this.#left))
    return mode
  }

  #end(): void {
    if (this.#depth === 0) this.#ended = true
  }

  /** What follows the semantics: the next record. */
  finish(): void {
    if (!this.#ended) this.#goOn(this.#following())
  }
}
