/**
 * The keeper of translated code: takes the places that the core found hot, makes regions of them in batches, names each in
 * its record, and forgets regions when their bytes change or when there are too many.
 *
 * Nothing here can be seen by the guest: a region does what the interpreter does, to the instruction, and when it is made or
 * dropped changes only the time it takes. Regions are made only between runs of the core; they are dropped at any moment, and
 * then the region that is running leaves after its instruction.
 *
 * WebAssembly modules are the unit of memory: V8 keeps a module while one of its functions can be reached, and a process
 * dies near 37,000 live modules (`vm.max_map_count`). So regions share modules, and a full cache is emptied as a whole.
 * A module that nothing reaches any more still is there until V8 collects garbage, and V8 does not see how much hangs on
 * one: left to itself it lets a thousand pile up. So the keeper asks for a collection now and then.
 */

import { assert } from '../../base/assert.ts'
import { MiB, pageBytes } from '../../base/units.ts'
import {
  coverageBytes,
  firstRegion,
  type Layout,
  pageFlag,
  recordBytes,
  recordBytesPerByte,
  recordField,
  regionLimit,
  regionMark,
  slotBytes,
} from '../core/layout.ts'
import { importForRegions, type RegionExports } from '../core/region-imports.ts'
import type { RegionProfile } from '../profile.ts'
import { ModuleBuilder } from '../wasm/module-builder.ts'
import { discover, type RegionPlan } from './discovery.ts'
import { buildRegion } from './region-function.ts'

export interface TranslationOptions {
  /** A place is translated when it was reached this often. */
  readonly threshold: number
  /** A hot place waits until so many can be translated together, in one module; or until it was reached so often once more. */
  readonly batchRegions: number
  /** What the engine may hold of translated modules before it forgets all of them. */
  readonly cacheBytes: number
  /**
   * Makes V8 free what nothing reaches any more, before it returns. Without it, dropped modules take memory until V8 looks by
   * itself.
   */
  readonly collectGarbage?: () => void
}

export const defaultTranslation: TranslationOptions = {
  threshold: 16000,
  batchRegions: 32,
  cacheBytes: 64 * MiB,
}

/** V8's own part of a live module, and what it makes of a byte of one (ENGINE, "Batch"). */
const moduleBytes = 32 * 1024
const bytesPerByte = 4
/**
 * Garbage is collected after modules of this share of the cache: by then, what their making left behind in V8's heap is as much
 * as the modules, and some of them are dropped. It takes about 10 ms, a tenth of what the modules took.
 */
const collectedShare = 0.25

const regionsPerModule = 50
/** A page whose regions were voided this often is translated more slowly. */
const patience = 4

interface Batch {
  readonly costBytes: number
  live: number
}

interface Region {
  /** Of the first entry; the others follow. */
  readonly number: number
  readonly page: number
  /** Where it can be entered. */
  readonly records: readonly number[]
  /** Entries that are not another region's. */
  liveEntries: number
  readonly batch: Batch
  /** One bit per halfword of the page that it was made from. */
  readonly coverage: Uint8Array
}

interface Candidate {
  readonly page: number
  readonly record: number
  readonly offset: number
}

interface Planned {
  readonly candidate: Candidate
  readonly plan: RegionPlan
  readonly records: readonly number[]
}

export interface TranslatorParts {
  readonly layout: Layout
  readonly memory: WebAssembly.Memory
  /** Exports of the core's instance. */
  readonly core: Record<string, unknown>
  readonly exported: RegionExports
  readonly regionTableBase: number
  readonly options: TranslationOptions
  /** A stopwatch: with it, regions count what they run. */
  readonly nowMs: (() => number) | undefined
  /** Makes a region that is running leave after its instruction. */
  readonly leaveRegion: () => void
}

export class Translator {
  readonly #parts: TranslatorParts
  readonly #layout: Layout
  readonly #view: DataView
  readonly #bytes: Uint8Array
  readonly #table: WebAssembly.Table
  /** Numbers to use again, by how many follow each other: the first of each run. */
  readonly #freeRuns = new Map<number, number[]>()
  readonly #regions = new Map<number, Region>()
  readonly #byEntry = new Map<number, Region>()
  readonly #byPage = new Map<number, Set<Region>>()
  readonly #voidsOfPage = new Map<number, number>()
  /** By their records. */
  readonly #candidates = new Map<number, Candidate>()
  #isUrgent = false
  /** Regions whose functions may still be running. */
  #dropped: Region[] = []
  #liveBytes = 0
  /** Of all modules since V8 was last asked to collect. */
  #bytesSinceCollection = 0
  #nextNumber = firstRegion
  readonly #counters = { built: 0, modules: 0, translatedInstructions: 0, builtBytes: 0, invalidated: 0, evicted: 0 }
  #translationMs = 0

  constructor(parts: TranslatorParts) {
    this.#parts = parts
    this.#layout = parts.layout
    this.#view = new DataView(parts.memory.buffer)
    this.#bytes = new Uint8Array(parts.memory.buffer)
    this.#table = parts.core.functions as WebAssembly.Table
    this.#setNeed(regionMark.settled, 0x7fff_ffff)
  }

  get counters(): Omit<RegionProfile, 'entries' | 'leaves'> {
    return { ...this.#counters, liveBytes: this.#liveBytes, translationMs: this.#translationMs }
  }

  #setNeed(region: number, instructions: number): void {
    this.#view.setInt32(this.#layout.regionNeedsBase + region * 4, instructions, true)
  }

  #setMark(record: number, mark: number): void {
    this.#view.setUint16(record + recordField.region, mark, true)
  }

  // What the core asks for

  /**
   * The core counted this record to the threshold. A module costs as much as some ten thousand interpreted instructions, whatever
   * is in it: so the first place waits for others, until it was counted to the threshold again.
   */
  nominate(record: number): void {
    const { slotsBase, slotPageBase } = this.#layout
    const slot = Math.floor((record - slotsBase) / slotBytes)
    const page = this.#view.getInt32(slotPageBase + slot * 4, true)
    const voids = this.#voidsOfPage.get(page) ?? 0
    if (voids > patience) {
      this.#voidsOfPage.set(page, voids - 0.5)
      return
    }
    if (this.#candidates.get(record)?.page === page) this.#isUrgent = true
    const offset = ((record - slotsBase - slot * slotBytes) / recordBytes) * 2
    this.#candidates.set(record, { page, record, offset })
    this.#setMark(record, regionMark.reached)
  }

  /** Bytes of a page change: halfwords `first` to `last`. */
  dropRegions(page: number, first: number, last: number): void {
    const regions = this.#byPage.get(page)
    if (!regions) return
    let isAny = false
    for (const region of regions) {
      if (!covers(region.coverage, first, last)) continue
      isAny = true
      this.#counters.invalidated++
      this.#drop(region)
    }
    if (!isAny) return
    this.#voidsOfPage.set(page, (this.#voidsOfPage.get(page) ?? 0) + 1)
    this.#parts.leaveRegion()
    this.#writeCoverage(page)
  }

  #drop(region: Region): void {
    this.#regions.delete(region.number)
    this.#byPage.get(region.page)!.delete(region)
    region.records.forEach((record, index) => {
      const number = region.number + index
      if (this.#byEntry.delete(number)) this.#setMark(record, regionMark.reached)
    })
    this.#dropped.push(region)
    if (--region.batch.live === 0) this.#liveBytes -= region.batch.costBytes
  }

  /** A region can be entered at this record. One that has all of an older one's code takes its entries over. */
  #addEntry(record: number, number: number, region: Region): void {
    const mark = this.#markOf(record)
    const older = this.#byEntry.get(mark)
    if (older) {
      if (!includes(region.coverage, older.coverage)) return
      this.#byEntry.delete(mark)
      older.liveEntries--
      if (older.liveEntries === 0) this.#drop(older)
    }
    this.#byEntry.set(number, region)
    this.#setMark(record, number)
    region.liveEntries++
  }

  /** Where the core keeps which halfwords of a page are covered. */
  #coverageAt(page: number): Uint8Array {
    const { pageSlotBase, coverageBase } = this.#layout
    const slot = this.#view.getUint16(pageSlotBase + page * 2, true) - 1
    assert(slot >= 0, 'a page with regions has a slot')
    const first = coverageBase + slot * coverageBytes
    return this.#bytes.subarray(first, first + coverageBytes)
  }

  #addCoverage({ page, coverage }: Region): void {
    const all = this.#coverageAt(page)
    for (let index = 0; index < coverageBytes; index++) all[index]! |= coverage[index]!
    this.#bytes[this.#layout.pageFlagsBase + page]! |= pageFlag.regions
  }

  /** After regions of a page were dropped. */
  #writeCoverage(page: number): void {
    const regions = this.#byPage.get(page)!
    this.#coverageAt(page).fill(0)
    this.#bytes[this.#layout.pageFlagsBase + page]! &= ~pageFlag.regions
    for (const region of regions) this.#addCoverage(region)
    if (regions.size === 0) this.#byPage.delete(page)
  }

  // Between runs of the core

  /** Translates what was nominated, if it is time. No region may be running. */
  beforeRun(): void {
    if (this.#isUrgent || this.#candidates.size >= this.#parts.options.batchRegions) this.#translateCandidates()
  }

  #translateCandidates(): void {
    const startedMs = this.#parts.nowMs?.() ?? 0
    this.#release()
    const candidates = [...this.#candidates.values()]
    this.#candidates.clear()
    this.#isUrgent = false
    for (let first = 0; first < candidates.length; first += regionsPerModule) {
      this.#translateBatch(candidates.slice(first, first + regionsPerModule))
    }
    this.#translationMs += (this.#parts.nowMs?.() ?? 0) - startedMs
  }

  /** Forgets every region. No region may be running. */
  flush(): void {
    this.#counters.evicted += this.#regions.size
    const pages = [...this.#byPage.keys()]
    for (const region of [...this.#regions.values()]) this.#drop(region)
    for (const page of pages) this.#writeCoverage(page)
    this.#voidsOfPage.clear()
    this.#release()
  }

  /** So that one more module fits. */
  #makeRoom(moreBytes: number): void {
    const { cacheBytes, collectGarbage } = this.#parts.options
    const isFull = this.#liveBytes + moreBytes > cacheBytes
    if (isFull) this.flush()
    if (!isFull && this.#bytesSinceCollection + moreBytes <= cacheBytes * collectedShare) return
    collectGarbage?.()
    this.#bytesSinceCollection = 0
  }

  #release(): void {
    for (const { number, records } of this.#dropped) {
      records.forEach((_, entry) => {
        this.#table.set(this.#parts.regionTableBase + number + entry, null)
      })
      const runs = this.#freeRuns.get(records.length) ?? []
      runs.push(number)
      this.#freeRuns.set(records.length, runs)
    }
    this.#dropped = []
  }

  /** The first of `count` numbers that follow each other. */
  #takeNumbers(count: number): number {
    const free = this.#freeRuns.get(count)?.pop()
    if (free !== undefined) return free
    this.#nextNumber += count
    return this.#nextNumber - count
  }

  /** True if the record still is what was nominated: its slot not given away, its bytes not stored to, and no region's by now. */
  #isStanding({ page, record }: Candidate): boolean {
    const { slotsBase, slotPageBase, pageSlotBase } = this.#layout
    const slot = Math.floor((record - slotsBase) / slotBytes)
    return (
      this.#view.getInt32(slotPageBase + slot * 4, true) === page &&
      this.#view.getUint16(pageSlotBase + page * 2, true) === slot + 1 &&
      this.#markOf(record) === regionMark.reached
    )
  }

  #markOf(record: number): number {
    return this.#view.getUint16(record + recordField.region, true)
  }

  #planOf({ page, record, offset }: Candidate): RegionPlan | undefined {
    const bytes = new DataView(this.#bytes.buffer, this.#layout.ramStart + page * pageBytes, pageBytes)
    const records = record - offset * recordBytesPerByte
    const plan = discover(bytes, offset, {
      hasRun: (at) => this.#view.getUint16(records + at * recordBytesPerByte + recordField.handler, true) !== 0,
      isReached: (at) => {
        const mark = this.#markOf(records + at * recordBytesPerByte)
        return mark >= regionMark.reached && mark !== regionMark.settled
      },
    })
    const first = plan?.blocks[0]
    const isWorthIt = first && (first.instructions.length > 1 || first.terminator.kind !== 'system')
    if (isWorthIt) return plan
    this.#setMark(record, regionMark.settled)
    return undefined
  }

  #translateBatch(candidates: readonly Candidate[]): void {
    const planned = this.#plan(candidates)
    if (planned.length === 0) return
    const numbers = planned.reduce((sum, { records }) => sum + records.length, 0)
    if (this.#nextNumber + numbers > regionLimit) {
      this.flush()
      this.#freeRuns.clear()
      this.#nextNumber = firstRegion
    }
    const module = new ModuleBuilder()
    const { layout } = this.#parts
    module.importMemory(layout.memoryPages)
    module.importTable('core', 'functions', this.#table.length)
    const core = importForRegions(module, this.#parts.exported)
    const regionNumbers = planned.map(({ records }) => this.#takeNumbers(records.length))
    const regions = planned.map(({ plan }, index) =>
      buildRegion(core, plan, {
        ramStart: layout.ramStart,
        isProfiled: this.#parts.nowMs !== undefined,
        firstNumber: regionNumbers[index]!,
      }),
    )
    regions.forEach((region, index) => {
      module.exportFunction(`r${index}`, module.add(`r${index}`, region))
    })
    const bytes = module.finish()
    const costBytes = moduleBytes + bytes.length * bytesPerByte
    this.#makeRoom(costBytes)
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), {
      core: this.#parts.core,
      env: { memory: this.#parts.memory },
    })
    const batch: Batch = { costBytes, live: planned.length }
    this.#liveBytes += costBytes
    this.#bytesSinceCollection += costBytes
    this.#counters.modules++
    this.#counters.builtBytes += bytes.length
    planned.forEach((made, index) => {
      this.#install(made, regionNumbers[index]!, batch, exports[`r${index}`])
    })
  }

  /** A candidate that an earlier one's region can be entered at needs none of its own. */
  #plan(candidates: readonly Candidate[]): Planned[] {
    const claimed = new Set<number>()
    return candidates.flatMap((candidate) => {
      const plan = this.#isStanding(candidate) && !claimed.has(candidate.record) ? this.#planOf(candidate) : undefined
      if (!plan) return []
      const page = candidate.record - candidate.offset * recordBytesPerByte
      const records = plan.entries.map((block) => page + plan.blocks[block]!.offset * recordBytesPerByte)
      for (const record of records) claimed.add(record)
      return [{ candidate, plan, records }]
    })
  }

  #install({ candidate, plan, records }: Planned, number: number, batch: Batch, entry: unknown): void {
    const { page } = candidate
    const region: Region = {
      number,
      page,
      records,
      liveEntries: 0,
      batch,
      coverage: coverageOf(plan),
    }
    this.#regions.set(number, region)
    const ofPage = this.#byPage.get(page) ?? new Set()
    this.#byPage.set(page, ofPage.add(region))
    this.#addCoverage(region)
    const need = Math.max(...plan.entries.map((block) => plan.blocks[block]!.instructions.length))
    records.forEach((record, index) => {
      this.#table.set(this.#parts.regionTableBase + number + index, entry)
      this.#setNeed(number + index, need)
      this.#addEntry(record, number + index, region)
    })
    this.#counters.built++
    this.#counters.translatedInstructions += plan.blocks.reduce((sum, { instructions }) => sum + instructions.length, 0)
  }
}

function coverageOf({ blocks }: RegionPlan): Uint8Array {
  const coverage = new Uint8Array(coverageBytes)
  for (const { instructions } of blocks) {
    for (const { offset, decoded } of instructions) {
      for (let byte = offset; byte < offset + decoded.lengthBytes; byte += 2) {
        coverage[byte >> 4]! |= 1 << ((byte >> 1) & 7)
      }
    }
  }
  return coverage
}

function includes(larger: Uint8Array, smaller: Uint8Array): boolean {
  return smaller.every((byte, index) => (byte & ~larger[index]!) === 0)
}

function covers(coverage: Uint8Array, first: number, last: number): boolean {
  for (let halfword = first; halfword <= last; halfword++) {
    if ((coverage[halfword >> 3]! >> (halfword & 7)) & 1) return true
  }
  return false
}
