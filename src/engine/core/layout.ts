/**
 * Where everything is in the engine's one WebAssembly memory. The engine's own area comes first, guest RAM behind it at a
 * constant 64 KiB-aligned offset, so that a guest access is one 32-bit addition away from its host address.
 *
 * ```
 * 0x00000  x registers (33 × 8: slot 32 swallows writes to x0), f registers, cells
 * 0x01000  CSR index: one byte per CSR address, 0 = no such CSR
 * 0x02000  scratch records for instructions that straddle two pages
 * 0x03000  counters of the profile, 8 bytes each: traps by cause, then the named ones
 * 0x04000  data TLB for reads: 4 sets × 1024 entries × 16 bytes {tag i64, addend i32}, then the same for writes
 * 0x24000  fetch TLB: 3 sets × 256 entries × 16 bytes {tag i64, address of the page's records i32}
 * 0x27000  code slots: their RAM page, their counter of stores, and the list of free ones
 * …        counters of hot code; per region: the budget its first block needs; per slot: halfwords that regions cover
 * …        per RAM page: flags (1 byte), code slot + 1 (2 bytes), entry in the two page lists (4 bytes each)
 * …        predecoded code pages
 * ramStart guest RAM
 * ```
 */

import { assert } from '../../base/assert.ts'
import { GiB, pageBytes } from '../../base/units.ts'
import { trapCausesPerKind } from '../profile.ts'
import { Expression, i32, load, type Operand, type ValueType } from '../wasm/expression.ts'
import type { FunctionBuilder } from '../wasm/function-builder.ts'

export const xBase = 0
/** The slot that takes writes to x0, as a register number. */
export const discardedRegister = 32
export const fBase = 0x200
const cellsBase = 0x300
export const csrIndexBase = 0x1000
export const scratchBase = 0x2000
export const trapCountersBase = 0x3000
const countersBase = trapCountersBase + 2 * trapCausesPerKind * 8
export const dataTlbBase = 0x4000

/** One variable of the engine at a fixed address. */
export interface Cell {
  readonly name: string
  readonly type: ValueType
  readonly address: number
}

/** Architectural state: what `saveState` writes, in this order. */
const stateCells = [
  ['pc', 'i64'],
  /** 0 = U, 1 = S, 3 = M. */
  ['privilege', 'i64'],
  /** Attempted instructions; exact whenever no instruction is running. */
  ['count', 'i64'],
  /** Physical address of the reserved 8-byte word; −1: none. */
  ['reservation', 'i64'],
  /** Without SD, which is derived. */
  ['mstatus', 'i64'],
  ['medeleg', 'i64'],
  ['mideleg', 'i64'],
  ['mie', 'i64'],
  /** Bits of mip that software writes. */
  ['mipSoft', 'i64'],
  /** Bits of mip that devices drive. */
  ['mipLines', 'i64'],
  ['mtvec', 'i64'],
  ['mcounteren', 'i64'],
  ['menvcfg', 'i64'],
  ['mseccfg', 'i64'],
  ['mcountinhibit', 'i64'],
  /** mcycle is this plus the count, or this alone while inhibited. */
  ['mcycleBase', 'i64'],
  ['minstretBase', 'i64'],
  ['mscratch', 'i64'],
  ['mepc', 'i64'],
  ['mcause', 'i64'],
  ['mtval', 'i64'],
  ['stvec', 'i64'],
  ['scounteren', 'i64'],
  ['senvcfg', 'i64'],
  ['sscratch', 'i64'],
  ['sepc', 'i64'],
  ['scause', 'i64'],
  ['stval', 'i64'],
  ['satp', 'i64'],
  ['stimecmp', 'i64'],
  /** fflags in bits 4:0, frm in bits 7:5. */
  ['fcsr', 'i64'],
  ['machineTimerCompare', 'i64'],
  /** The clock entry: t(n) = clockT0 + min((n − clockN0) · clockRate / 2^32, clockCap). */
  ['clockN0', 'i64'],
  ['clockT0', 'i64'],
  ['clockRate', 'i64'],
  ['clockCap', 'i64'],
] as const

/** The engine's own variables: derived from the state above, or meaningful only while instructions run. */
const engineCells = [
  /** Bits of mip that timers drive now: derived from the clock and the count. */
  ['mipTimers', 'i64'],
  /** Instructions after clockN0 until the cap is reached: derived from the clock. */
  ['clockCapDelta', 'i64'],
  /** While instructions run: attempted so far = endCount − left. */
  ['endCount', 'i64'],
  /** Where this `run` must end. */
  ['budgetEnd', 'i64'],
  /** Virtual address of the page that is executing. */
  ['pagePc', 'i64'],
  ['faultCause', 'i64'],
  ['faultValue', 'i64'],
  /** Records of the page that is executing. */
  ['pageRecords', 'i32'],
  /** The TLB sets of the current mode. */
  ['dataSet', 'i32'],
  ['fetchSet', 'i32'],
  /** Bit 0: look up the next instruction afresh. Bit 1: leave to the host. */
  ['attention', 'i32'],
  /** One of `coreExit`. */
  ['exitReason', 'i32'],
  ['supervisorCallsExit', 'i32'],
  /** Address in memory of the watched 8-byte word; 0: none. */
  ['watchedWord', 'i32'],
  ['watchHit', 'i32'],
  /** Set by the host when nothing answers at a physical address. */
  ['busFault', 'i32'],
  ['writtenPages', 'i32'],
  ['tablePages', 'i32'],
  ['freeSlots', 'i32'],
  /** A pseudo-random sequence: which slot is taken away when all are in use. */
  ['slotChoice', 'i32'],
  /** A counted place is nominated for translation when it was reached this often. */
  ['hotThreshold', 'i32'],
] as const

type StateName = (typeof stateCells)[number][0]
type EngineName = (typeof engineCells)[number][0]
export type CellName = StateName | EngineName

export const cells: Readonly<Record<CellName, Cell>> = Object.fromEntries(
  [...stateCells, ...engineCells].map(([name, type], index) => [name, { name, type, address: cellsBase + index * 8 }]),
) as Record<CellName, Cell>

export const stateCellNames: readonly StateName[] = stateCells.map(([name]) => name)

/** Reads a cell. */
export function get(name: CellName): Expression {
  const cell = cells[name]
  return load(cell.type, 'load', i32(0), cell.address)
}

export function put(f: FunctionBuilder, name: CellName, value: Operand): void {
  const cell = cells[name]
  const expression = value instanceof Expression ? value : new Expression(cell.type, constantEmitter(cell.type, value))
  assert(expression.type === cell.type, `${name} is ${cell.type}`)
  f.store(cell.type === 'i32' ? 4 : 8, i32(0), expression, cell.address)
}

function constantEmitter(type: ValueType, value: number | bigint): Expression['emit'] {
  return (code) => {
    code.byte(type === 'i32' ? 0x41 : 0x42)
    if (type === 'i32') code.signed32(Number(value))
    else code.signed64(BigInt(value))
  }
}

export const attention = { lookUpAfresh: 1, leave: 2 } as const

/** Why the core came back, when not because the count is reached. */
export const coreExit = { none: 0, waitForInterrupt: 1, supervisorCall: 2 } as const

/** TLB sets. Data: the effective privilege, and SUM. Fetch: the privilege. */
export const tlbEntryBytes = 16
export const dataEntries = 1024
export const dataSetBytes = dataEntries * tlbEntryBytes
/** From a read entry to the write entry of the same page. */
export const writeTlbOffset = 4 * dataSetBytes
export const dataSets = { bare: 0, user: 1, supervisor: 2, supervisorSum: 3 } as const
export const fetchEntries = 256
export const fetchSetBytes = fetchEntries * tlbEntryBytes
export const fetchTlbBase = dataTlbBase + 8 * dataSetBytes
const slotsMetaBase = fetchTlbBase + 3 * fetchSetBytes
export const fetchSets = { bare: 0, user: 1, supervisor: 2 } as const

/**
 * A predecoded instruction: 20 bytes.
 *
 * ```
 * 0 handler u16 | 2 region u16 | 4 rd·8 u16 | 6 rs1·8 u16 | 8 rs2·8 u16 | 10 offset in page u16 | 12 immediate i32
 * 16 bits u32
 * ```
 * Register fields are byte offsets into their file; a write to x0 goes to `discardedRegister`. For a branch or jump
 * within the page the immediate is the distance to the target's record in bytes. A handler of 0 decodes the record.
 * The region says what is known about translated code that starts here: one of `regionMark`, or its number.
 */
export const recordBytes = 20
export const recordField = {
  handler: 0,
  region: 2,
  rd: 4,
  rs1: 6,
  rs2: 8,
  pcOffset: 10,
  immediate: 12,
  bits: 16,
} as const
/** Handler and region are read as one word: the region is above these bits. */
export const regionShift = 16

/** Instead of a region's number. */
export const regionMark = {
  none: 0,
  /** Jumps may lead here: count how often. */
  counted: 1,
  /** The same, and control did come here from afar: out of another page, or by a JALR. Or it waits for translation. */
  reached: 2,
  /** Not to be counted: it was found unfit. */
  settled: 0xffff,
} as const
export const firstRegion = 3
export const regionLimit = 0xffff

/** Counters of how often counted places were reached, shared by places with the same hash. */
export const hotCounters = 1 << 16
/** One bit per halfword of a page. */
export const coverageBytes = 256
/** One record per halfword, and one behind the end that goes on to the next page. */
export const halfwordsPerPage = pageBytes / 2
export const slotBytes = (halfwordsPerPage + 2) * recordBytes + 24
export const recordBytesPerByte = recordBytes / 2

/** Straddling instructions: a record, and behind it (at +40) the record that goes on in the second page. */
export const scratchEntries = 64
export const scratchEntryBytes = 64

/** The core's counters for the profile; the first three in the order of core.ts's `access`. */
const coreCounters = ['readMisses', 'writeMisses', 'fetchMisses', 'translationFlushes', 'storesIntoCode'] as const

/** Why a region was left, as profiles say it; counted only in regions made for a profile. */
export const regionLeaves = [
  /** The budget does not suffice for the next block. */
  'budget',
  /** Code of the same page that is not in the region. */
  'outside',
  'otherPage',
  /** A JALR to where the region did not expect. */
  'indirectJump',
  'fault',
  'illegal',
  /** Something needs a look after this instruction: a device, a flush, a store into code. */
  'attention',
  'csrWrite',
  'system',
] as const
export type RegionLeave = (typeof regionLeaves)[number]

const counters = [...coreCounters, 'regionInstructions', ...regionLeaves] as const
export type CounterName = (typeof counters)[number]

export function counterAddress(name: CounterName): number {
  return countersBase + counters.indexOf(name) * 8
}

/** Counts one more, or several, at this address in the engine's memory. */
export function emitCount(f: FunctionBuilder, at: Operand, more: Operand = 1): void {
  const counter = at instanceof Expression ? at : i32(Number(at))
  f.store(8, counter, load('i64', 'load', counter).add(more))
}

/** Flags of a RAM page. */
export const pageFlag = {
  /** In the list of pages written since they were last taken. */
  written: 1,
  /** Translations in the TLB were derived from it. */
  table: 2,
  /** It has predecoded records. */
  code: 4,
  /** It holds the watched word. */
  watched: 8,
  /** The data TLB may have a write entry for it. */
  writeCached: 16,
  /** Translated code was made from it. */
  regions: 32,
} as const

/** Pages that stores may reach only through the slow path. */
export const trackedFlags = pageFlag.table | pageFlag.code | pageFlag.watched

/**
 * Enough for the code of a kernel and its services (Debian's boot alone runs 1,500 pages); 42 KB each, once used: the
 * largest part of what an engine takes beside guest RAM, which is bounded (docs/BENCHMARKS.md, "Memory").
 */
const mostSlots = 2048

export interface Layout {
  readonly ramBytes: number
  readonly ramPages: number
  readonly slotCount: number
  readonly slotPageBase: number
  readonly slotStoresBase: number
  readonly freeListBase: number
  readonly hotCountersBase: number
  readonly regionNeedsBase: number
  readonly coverageBase: number
  readonly pageFlagsBase: number
  readonly pageSlotBase: number
  readonly writtenListBase: number
  readonly tableListBase: number
  readonly slotsBase: number
  readonly ramStart: number
  /** Size of the memory in 64 KiB pages. */
  readonly memoryPages: number
}

function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment
}

export function planLayout(ramBytes: number): Layout {
  assert(ramBytes > 0 && ramBytes % pageBytes === 0 && ramBytes <= 3 * GiB, `RAM of ${ramBytes} bytes`)
  const ramPages = ramBytes / pageBytes
  const slotCount = Math.min(mostSlots, ramPages)
  const slotPageBase = slotsMetaBase
  const slotStoresBase = slotPageBase + slotCount * 4
  const freeListBase = slotStoresBase + slotCount * 4
  const hotCountersBase = alignUp(freeListBase + slotCount * 4, 64)
  const regionNeedsBase = hotCountersBase + hotCounters * 2
  const coverageBase = regionNeedsBase + (regionLimit + 1) * 4
  const pageFlagsBase = coverageBase + slotCount * coverageBytes
  const pageSlotBase = alignUp(pageFlagsBase + ramPages, 64)
  const writtenListBase = alignUp(pageSlotBase + ramPages * 2, 64)
  const tableListBase = writtenListBase + ramPages * 4
  const slotsBase = alignUp(tableListBase + ramPages * 4, 64)
  const ramStart = alignUp(slotsBase + slotCount * slotBytes, 0x1_0000)
  return {
    ramBytes,
    ramPages,
    slotCount,
    slotPageBase,
    slotStoresBase,
    freeListBase,
    hotCountersBase,
    regionNeedsBase,
    coverageBase,
    pageFlagsBase,
    pageSlotBase,
    writtenListBase,
    tableListBase,
    slotsBase,
    ramStart,
    memoryPages: alignUp(ramStart + ramBytes, 0x1_0000) / 0x1_0000,
  }
}
