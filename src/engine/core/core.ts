/**
 * The functions of the core module, declared once so that every part can call every other. The parts define them; the
 * interpreter's handlers, and later translated regions, use them. So there is one page walk, one CSR file and one way to
 * trap, whoever runs the instructions.
 *
 * `left` counts the instructions still allowed, the current one included: attempted so far = endCount − left. A function
 * that may end the straight path gives `left` back, lowered to 1 when something needs a look after the current
 * instruction (and `endCount` lowered with it), and 0 when the instruction faulted: cause and value are in their cells.
 */

import { type Expression, i32, load } from '../wasm/expression.ts'
import type { FunctionReference } from '../wasm/function-builder.ts'
import type { ModuleBuilder } from '../wasm/module-builder.ts'
import type { Layout } from './layout.ts'

export interface CoreImports {
  /** (physical address, size) → value; sets busFault when nothing is there. */
  readonly busLoad: FunctionReference
  /** (physical address, size, value); sets busFault when nothing is there. */
  readonly busStore: FunctionReference
  /** (record): fills a predecoded record from RAM. */
  readonly decodeRecord: FunctionReference
  /** (scratch record, bits): fills it with a straddling instruction. */
  readonly decodeStraddling: FunctionReference
  /** (record): this counted place is hot. */
  readonly nominate: FunctionReference
  /** (page, first halfword, last halfword): these bytes change; translated code made from them is void. */
  readonly dropRegions: FunctionReference
  /** The seed CSR's next value. */
  readonly readSeed: FunctionReference
}

export interface Core {
  readonly module: ModuleBuilder
  readonly layout: Layout
  readonly imports: CoreImports

  /** (page): remember that translations derive from this page; stores to it go through the slow path from now on. */
  readonly trackTable: FunctionReference
  /** (page): no write entry of the TLB points to this page any more. */
  readonly purgeWriteEntries: FunctionReference
  /** Drops every translation and the list of pages they derive from. */
  readonly flushTranslations: FunctionReference
  /** (offset in RAM, size), within one page: everything that must happen before these bytes change. */
  readonly prepareWrite: FunctionReference
  /** (virtual address, access) → physical address, or −1 with the fault in its cells. */
  readonly translate: FunctionReference
  /** (virtual address, size, left) → (value, left). */
  readonly loadSlow: FunctionReference
  /** (virtual address, size, value, left) → left. */
  readonly storeSlow: FunctionReference
  /** (virtual address, size, access, left) → (address in memory, left): aligned, in RAM, ready for a read or a write. */
  readonly locateSlow: FunctionReference

  /** (left) → left: 1 when something needs a look after this instruction. */
  readonly heed: FunctionReference
  /** Chooses the TLB sets for privilege, mstatus and satp. */
  readonly updateMode: FunctionReference
  /** (cause, value, pc): enters the trap handler: changes privilege, pc and CSRs. */
  readonly deliver: FunctionReference
  /** → cause of the interrupt to take now, with bit 63, or 0. */
  readonly pendingInterrupt: FunctionReference
  /** (pc of the next instruction, left): ends an instruction that may have changed mode, mappings or interrupts. */
  readonly finish: FunctionReference
  /** (pc, left): runs the instruction at pc, wherever it is; something led there, so it may become hot. */
  readonly runFrom: FunctionReference
  /** (pc, left): the same where only the end of a budget led there. */
  readonly resume: FunctionReference
  /** (record, left): what a jump to this record does: translated code if there is some, else the interpreter. */
  readonly enterRecord: FunctionReference
  /** (pc, left): leaves with nothing left at pc, or resumes there. */
  readonly resumeOut: FunctionReference
  /** (pc): the current instruction is complete and something needs a look: back to the run loop. */
  readonly stopAt: FunctionReference
  /** (pc, left): takes the exception in faultCause and faultValue for the instruction at pc. */
  readonly raiseAt: FunctionReference
  /** (record, left): the same for the record's instruction. */
  readonly raise: FunctionReference
  /** (record, left): illegal instruction. */
  readonly raiseIllegal: FunctionReference
  /** (record, left): runs from this record on, until something leaves. */
  readonly interpret: FunctionReference
  /** (pc, left): goes on in another page. */
  readonly jumpOut: FunctionReference
  /** (record): `left` has reached 0: back to the run loop. */
  readonly leave: FunctionReference
  /** (pc) → 1: pagePc and pageRecords are set for this pc; 0: fault. */
  readonly enterPage: FunctionReference
  /** (page): forgets its predecoded records. */
  readonly dropCode: FunctionReference
  /** (offset in RAM, size): the records of these bytes must be decoded again. */
  readonly invalidateCode: FunctionReference

  /** (CSR, attempted before this instruction) → value, without any check. */
  readonly readCsr: FunctionReference
  /** (CSR, value, attempted after this instruction) → 1 if the next instruction must be looked up afresh. */
  readonly writeCsr: FunctionReference
  /** (CSR, 1 for a write) → 1 if the current privilege may. */
  readonly mayAccessCsr: FunctionReference
  /** (flags): accrues floating-point exception flags. */
  readonly accrueFlags: FunctionReference
  /** (count) → t(count). */
  readonly ticksAt: FunctionReference

  readonly systemOperations: Readonly<
    Record<'ecall' | 'ebreak' | 'mret' | 'sret' | 'wfi' | 'fenceI' | 'sfenceVma', FunctionReference>
  >
}

export const access = { read: 0, write: 1, fetch: 2 } as const

export function declareCore(module: ModuleBuilder, layout: Layout): Core {
  const imports: CoreImports = {
    busLoad: module.importFunction('host', 'busLoad', ['i64', 'i32'], ['i64']),
    busStore: module.importFunction('host', 'busStore', ['i64', 'i32', 'i64'], []),
    decodeRecord: module.importFunction('host', 'decodeRecord', ['i32'], []),
    decodeStraddling: module.importFunction('host', 'decodeStraddling', ['i32', 'i32'], []),
    nominate: module.importFunction('host', 'nominate', ['i32'], []),
    dropRegions: module.importFunction('host', 'dropRegions', ['i32', 'i32', 'i32'], []),
    readSeed: module.importFunction('host', 'readSeed', [], ['i64']),
  }
  const handler = (name: string): FunctionReference => module.declare(name, ['i32', 'i32'], [])
  return {
    module,
    layout,
    imports,
    trackTable: module.declare('trackTable', ['i32'], []),
    purgeWriteEntries: module.declare('purgeWriteEntries', ['i32'], []),
    flushTranslations: module.declare('flushTranslations', [], []),
    prepareWrite: module.declare('prepareWrite', ['i32', 'i32'], []),
    translate: module.declare('translate', ['i64', 'i32'], ['i64']),
    loadSlow: module.declare('loadSlow', ['i64', 'i32', 'i32'], ['i64', 'i32']),
    storeSlow: module.declare('storeSlow', ['i64', 'i32', 'i64', 'i32'], ['i32']),
    locateSlow: module.declare('locateSlow', ['i64', 'i32', 'i32', 'i32'], ['i32', 'i32']),
    heed: module.declare('heed', ['i32'], ['i32']),
    updateMode: module.declare('updateMode', [], []),
    deliver: module.declare('deliver', ['i64', 'i64', 'i64'], []),
    pendingInterrupt: module.declare('pendingInterrupt', [], ['i64']),
    finish: module.declare('finish', ['i64', 'i32'], []),
    runFrom: module.declare('runFrom', ['i64', 'i32'], []),
    resume: module.declare('resume', ['i64', 'i32'], []),
    enterRecord: handler('enterRecord'),
    resumeOut: module.declare('resumeOut', ['i64', 'i32'], []),
    stopAt: module.declare('stopAt', ['i64'], []),
    raiseAt: module.declare('raiseAt', ['i64', 'i32'], []),
    raise: handler('raise'),
    raiseIllegal: handler('raiseIllegal'),
    interpret: handler('interpret'),
    jumpOut: module.declare('jumpOut', ['i64', 'i32'], []),
    leave: module.declare('leave', ['i32'], []),
    enterPage: module.declare('enterPage', ['i64'], ['i32']),
    dropCode: module.declare('dropCode', ['i32'], []),
    invalidateCode: module.declare('invalidateCode', ['i32', 'i32'], []),
    readCsr: module.declare('readCsr', ['i32', 'i64'], ['i64']),
    writeCsr: module.declare('writeCsr', ['i32', 'i64', 'i64'], ['i32']),
    mayAccessCsr: module.declare('mayAccessCsr', ['i32', 'i32'], ['i32']),
    accrueFlags: module.declare('accrueFlags', ['i32'], []),
    ticksAt: module.declare('ticksAt', ['i64'], ['i64']),
    systemOperations: {
      ecall: handler('ecall'),
      ebreak: handler('ebreak'),
      mret: handler('mret'),
      sret: handler('sret'),
      wfi: handler('wfi'),
      fenceI: handler('fenceI'),
      sfenceVma: handler('sfenceVma'),
    },
  }
}

/** Address of a table entry: base + index · size. */
export function entryAt(base: number, index: Expression, size: number): Expression {
  return index.mul(size).add(base)
}

export function byteAt(base: number, index: Expression): Expression {
  return load('i32', 'load8u', index.add(base))
}

/** A constant host address as an i32. */
export function address(value: number): Expression {
  return i32(value)
}
