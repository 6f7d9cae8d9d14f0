/**
 * The instruction table's language, spoken by a region: fields are constants, registers are locals, and what ends an
 * instruction is left to the block around it (region-function.ts).
 *
 * `left` has been lowered by the whole block when its first instruction begins, so an instruction adds back what stands
 * behind it: the core always sees the exact count. An access that leaves after its instruction (see `heed`) completes the
 * instruction in the slow path: its semantics is written a second time there, with the access already done.
 */

import type { Decoded } from '../../riscv/decoder.ts'
import { type FloatFormat, type FloatOperation, floatOperations } from '../../riscv/float-operations.ts'
import type { InstructionContext, SystemOperation, Value } from '../../riscv/semantics.ts'
import { emitAtomic, emitLoadReserved, emitStoreConditional } from '../core/atomics.ts'
import { mstatusBit } from '../core/csr-fields.ts'
import { emitFloat, floatState, frmShift } from '../core/float.ts'
import { get, put } from '../core/layout.ts'
import { type AccessSite, emitLoad, emitLocate, emitStore } from '../core/memory-access.ts'
import { type Expression, i32, i64 } from '../wasm/expression.ts'
import type { Local } from '../wasm/function-builder.ts'
import type { RegionFunction } from './region-function.ts'

/** Things that hold for the rest of a block once an instruction has seen to them. */
export interface BlockFacts {
  floatIsOn: boolean
  floatIsDirty: boolean
  /** The region's copy of the float state is younger than the last write to a CSR. */
  floatStateIsKnown: boolean
  frmIsValid: boolean
}

export class RegionContext implements InstructionContext {
  readonly #region: RegionFunction
  readonly #offset: number
  readonly #decoded: Decoded
  /** Instructions from this one to the end of its block. */
  readonly #remaining: number
  readonly #facts: BlockFacts
  readonly #done: { readonly result: Local | undefined } | undefined
  /** What a branch asked, where a JALR goes. */
  condition: Expression | undefined
  target: Expression | undefined

  constructor(
    region: RegionFunction,
    place: { offset: number; decoded: Decoded; remaining: number; facts: BlockFacts },
    /** The memory access of this instruction is done, and gave this. */
    done?: { readonly result: Local | undefined },
  ) {
    this.#region = region
    this.#offset = place.offset
    this.#decoded = place.decoded
    this.#remaining = place.remaining
    this.#facts = place.facts
    this.#done = done
  }

  get #left(): Expression {
    return this.#region.left.add(this.#remaining)
  }

  get rs1(): Expression {
    return this.#region.readX(this.#decoded.rs1)
  }
  get rs2(): Expression {
    return this.#region.readX(this.#decoded.rs2)
  }
  get fs1(): Expression {
    return this.#region.readF(this.#decoded.rs1)
  }
  get fs2(): Expression {
    return this.#region.readF(this.#decoded.rs2)
  }
  get fs3(): Expression {
    return this.#region.readF(this.#decoded.rs3)
  }
  get immediate(): Expression {
    return i64(this.#decoded.immediate)
  }
  get pc(): Expression {
    return this.#region.pcAt(this.#offset)
  }
  get nextPc(): Expression {
    return this.#region.pcAt(this.#following)
  }
  get #following(): number {
    return this.#offset + this.#decoded.lengthBytes
  }

  i32(value: number): Expression {
    return i32(value)
  }
  i64(value: number | bigint): Expression {
    return i64(value)
  }
  let(value: Value): Expression {
    return this.#region.f.let(value as Expression)
  }
  if(condition: Value, whenTrue: () => void, whenFalse?: () => void): void {
    this.#region.f.if(condition as Expression, whenTrue, whenFalse)
  }

  setRd(value: Value): void {
    this.#region.writeX(this.#decoded.rd, value as Expression)
  }

  setFd(value: Value): void {
    this.#region.writeF(this.#decoded.rd, value as Expression)
    if (this.#facts.floatIsDirty) return
    put(this.#region.f, 'mstatus', get('mstatus').or(mstatusBit.fs))
    if (!this.#done) this.#facts.floatIsDirty = true
  }

  get #site(): AccessSite {
    const { f, core, dataSet } = this.#region
    return {
      f,
      core,
      dataSet,
      left: this.#left,
      afterSlow: (after, result) => {
        f.if(after.ne(this.#left), () => {
          this.#region.faultIf(after.eqz(), this.#offset, this.#remaining)
          const { instruction } = this.#decoded
          const place = { offset: this.#offset, decoded: this.#decoded, remaining: this.#remaining, facts: this.#facts }
          instruction.semantics(new RegionContext(this.#region, place, { result }))
          this.#region.stop(this.#following, this.#remaining - 1)
        })
      },
    }
  }

  load(address: Value, sizeBytes: 1 | 2 | 4 | 8): Expression {
    return this.#done?.result ?? emitLoad(this.#site, address as Expression, sizeBytes)
  }

  store(address: Value, sizeBytes: 1 | 2 | 4 | 8, value: Value): void {
    if (!this.#done) emitStore(this.#site, address as Expression, sizeBytes, value as Expression)
  }

  #locate(address: Value, sizeBytes: 4 | 8, kind: 'read' | 'write'): Expression {
    return this.#done?.result ?? emitLocate(this.#site, address as Expression, sizeBytes, kind)
  }

  atomic(address: Value, sizeBytes: 4 | 8, update: (old: Value) => Value): Expression {
    const host = this.#locate(address, sizeBytes, 'write')
    return emitAtomic(this.#region.f, host, sizeBytes, (old) => update(old) as Expression)
  }

  loadReserved(address: Value, sizeBytes: 4 | 8): Expression {
    return emitLoadReserved(this.#region.f, this.#locate(address, sizeBytes, 'read'), sizeBytes, this.#region.ramStart)
  }

  storeConditional(address: Value, sizeBytes: 4 | 8, value: Value): Expression {
    const host = this.#locate(address, sizeBytes, 'write')
    return emitStoreConditional(this.#region.f, host, sizeBytes, this.#region.ramStart, value as Expression)
  }

  jump(target: Value): void {
    this.target = target as Expression
  }
  branch(condition: Value): void {
    this.condition = condition as Expression
  }

  illegal(): void {
    this.#region.illegal(this.#offset, this.#remaining)
  }
  system(operation: SystemOperation): void {
    this.#region.system(operation, this.#offset)
  }

  /** Attempted before this instruction. */
  get #count(): Expression {
    return get('endCount').sub(this.#left.toI64U())
  }

  readCsr(kind: 'read' | 'readWrite'): Expression {
    const { f, core } = this.#region
    const { csr } = this.#decoded
    f.if(f.call(core.mayAccessCsr, i32(csr), i32(kind === 'read' ? 0 : 1)).eqz(), () => this.illegal())
    return f.let(f.call(core.readCsr, i32(csr), this.#count))
  }

  writeCsr(value: Value): void {
    const { f, core } = this.#region
    const effect = f.call(core.writeCsr, i32(this.#decoded.csr), value as Expression, this.#count.add(1))
    f.if(effect, () => this.#region.finish(this.#following, this.#remaining))
    this.#facts.floatStateIsKnown = false
    this.#facts.frmIsValid = false
  }

  requireFloat(): void {
    if (this.#facts.floatIsOn) return
    this.#region.f.if(get('mstatus').and(mstatusBit.fs).eqz(), () => this.illegal(), undefined, 'unlikely')
    this.#facts.floatIsOn = true
  }

  float(operation: FloatOperation, format: FloatFormat, ...operands: Value[]): Expression {
    const { f, core } = this.#region
    const values = operands.map((operand) => f.let(operand as Expression))
    const call = (...rm: Expression[]): Expression => f.call(core.float[format][operation], ...values, ...rm)
    if (!floatOperations[operation].rounds) return emitFloat(f, operation, format, values, 0, () => call())
    const { rm } = this.#decoded
    const dynamic = 7
    if (rm <= 4) return emitFloat(f, operation, format, values, rm, () => call(i32(rm)), this.#floatState)
    if (rm !== dynamic) this.illegal()
    const state = this.#floatState
    if (!this.#facts.frmIsValid) f.if(state.shrU(frmShift).gtU(4), () => this.illegal(), undefined, 'unlikely')
    this.#facts.frmIsValid = true
    return emitFloat(f, operation, format, values, 'dynamic', () => call(state.shrU(frmShift)), state)
  }

  /**
   * Read once a block: until a CSR is written frm stays, and the inexact flag can only be set; taking it for clear costs
   * time alone.
   */
  get #floatState(): Local {
    const { floatState: state, f } = this.#region
    if (!this.#facts.floatStateIsKnown) f.set(state, floatState())
    this.#facts.floatStateIsKnown = true
    return state
  }
}
