/**
 * The language in which the instruction table says what an instruction does.
 *
 * A semantics is a function over an `InstructionContext`. It is not run when the guest runs: it is run once by whoever
 * generates code, and what it asks of its context becomes that code. The interpreter's context reads operands from a
 * predecoded record, a region translator's context reads them from constants and locals. So the meaning of an
 * instruction stands once, and no engine can differ from another.
 *
 * Order matters: statements (`setRd`, `load`, `store`, `if`, …) take effect as they are written. A `Value` is a recipe
 * and is evaluated where a statement uses it; `let` fixes it now.
 */

import type { FloatFormat, FloatOperation } from './float-operations.ts'

export type ValueType = 'i32' | 'i64'

type Other = Value | number | bigint

/** A 32- or 64-bit integer that the generated code will compute. Comparisons give an i32 of 0 or 1. */
export interface Value {
  readonly type: ValueType
  add(other: Other): Value
  sub(other: Other): Value
  mul(other: Other): Value
  divS(other: Other): Value
  divU(other: Other): Value
  remS(other: Other): Value
  remU(other: Other): Value
  and(other: Other): Value
  or(other: Other): Value
  xor(other: Other): Value
  shl(other: Other): Value
  shrS(other: Other): Value
  shrU(other: Other): Value
  eq(other: Other): Value
  ne(other: Other): Value
  ltS(other: Other): Value
  ltU(other: Other): Value
  gtS(other: Other): Value
  gtU(other: Other): Value
  leS(other: Other): Value
  leU(other: Other): Value
  geS(other: Other): Value
  geU(other: Other): Value
  eqz(): Value
  not(): Value
  neg(): Value
  toI32(): Value
  toI64U(): Value
  toI64S(): Value
  signExtend(fromBits: 8 | 16 | 32): Value
  select(whenTrue: Value, whenFalse: Other): Value
}

/** What leaves the straight path of ordinary instructions; each is one function of the engine's core. */
export type SystemOperation = 'ecall' | 'ebreak' | 'mret' | 'sret' | 'wfi' | 'fenceI' | 'sfenceVma'

export interface InstructionContext {
  /** Integer source registers, i64. */
  readonly rs1: Value
  readonly rs2: Value
  /** The instruction's immediate, sign-extended to i64 (for shifts: the amount; for CSR immediates: the 5-bit zimm). */
  readonly immediate: Value
  /** Address of this instruction, i64. */
  readonly pc: Value
  /** Address of the one behind it: pc + 2 or + 4. */
  readonly nextPc: Value

  i32(value: number): Value
  i64(value: number | bigint): Value
  /** Evaluates `value` here, once. */
  let(value: Value): Value
  if(condition: Value, whenTrue: () => void, whenFalse?: () => void): void

  /** Writes rd (i64); x0 stays zero. */
  setRd(value: Value): void

  /** Reads memory here; zero-extended to i64. A fault leaves the instruction with nothing changed. */
  load(address: Value, sizeBytes: 1 | 2 | 4 | 8): Value
  /** Writes the low bytes of `value` (i64). A fault leaves the instruction before any byte is written. */
  store(address: Value, sizeBytes: 1 | 2 | 4 | 8, value: Value): void
  /** Atomic read-modify-write; returns the old value, sign-extended. Misaligned: cause 6. Faults are store faults. */
  atomic(address: Value, sizeBytes: 4 | 8, update: (old: Value) => Value): Value
  /** LR: reads, sign-extended, and sets the reservation. */
  loadReserved(address: Value, sizeBytes: 4 | 8): Value
  /** SC: 0 when stored, 1 when the reservation was lost, as i64. Clears the reservation either way. */
  storeConditional(address: Value, sizeBytes: 4 | 8, value: Value): Value

  /** The next instruction is at `target` (bit 0 already clear). Last statement of its path. */
  jump(target: Value): void
  /** If `condition` (i32), the next instruction is at pc + immediate, else at nextPc. Last statement. */
  branch(condition: Value): void
  /** Raises an illegal-instruction exception. Last statement of its path. */
  illegal(): void
  /** ECALL, xRET, WFI, fences. Last statement. */
  system(operation: SystemOperation): void

  /** The CSR named in the instruction: checks access (for `write`, that it is writable), then reads it. i64. */
  readCsr(access: 'read' | 'readWrite'): Value
  /** Writes the CSR named in the instruction after the checks. Takes effect before the next instruction. Last statement. */
  writeCsr(value: Value): void

  /** First statement of every F and D instruction: illegal when mstatus.FS is Off. */
  requireFloat(): void
  /** Raw 64-bit contents of the f registers. */
  readonly fs1: Value
  readonly fs2: Value
  readonly fs3: Value
  /** Writes fd (raw 64 bits) and makes mstatus.FS Dirty. */
  setFd(value: Value): void
  /**
   * An operation of the soft-float library; accrues fflags (making FS Dirty when flags change). Operations that round
   * use the instruction's rm field, or frm when it says dynamic; an invalid mode is an illegal instruction, checked
   * before anything else happens. Singles are passed and returned in the low 32 bits, upper bits zero.
   */
  float(operation: FloatOperation, format: FloatFormat, ...operands: Value[]): Value
}

/** What an instruction does. */
export type Semantics = (c: InstructionContext) => void
