/**
 * Predecoded code: a slot of records per physical page (layout.ts). Slots belong to RAM pages, not to addresses, so that
 * neither exec nor address-space changes decode again; the fetch TLB says which slot a virtual page runs from.
 *
 * Fetch is coherent: a store to a page with records zeroes the handler of each record it touches (prepareWrite), and
 * the next execution decodes it again. Only the handler field is zeroed, so the instruction that is storing can still
 * read its own record. A page that is written much more than it is decoded loses its slot.
 *
 * Translated code hangs on the records: the record where a region starts names it, so that a look-up of records is a
 * look-up of regions, and the same stores void both. Bytes that regions were made from are marked in the slot's coverage.
 */

import { exceptionCause } from '../../riscv/causes.ts'
import { type Expression, i32, i64, load } from '../wasm/expression.ts'
import type { FunctionBuilder, FunctionReference, Local } from '../wasm/function-builder.ts'
import { access, byteAt, type Core, entryAt } from './core.ts'
import { handlerIndex, regionTableBase } from './handler-numbers.ts'
import {
  counterAddress,
  coverageBytes,
  emitCount,
  fetchEntries,
  fetchSetBytes,
  fetchTlbBase,
  firstRegion,
  get,
  halfwordsPerPage,
  pageFlag,
  put,
  recordBytes,
  recordBytesPerByte,
  recordField,
  regionMark,
  scratchBase,
  scratchEntries,
  scratchEntryBytes,
  slotBytes,
  tlbEntryBytes,
} from './layout.ts'
import { emitFault, isRam, ramOffset } from './memory-access.ts'

/** A page gives its slot back after this many stores without a decode in between. */
const storesUntilDropped = 64

/** The record of an address in the page that is executing. */
export function recordAt(pc: Expression): Expression {
  return get('pageRecords').add(pc.toI32().and(0xffe).mul(recordBytesPerByte))
}

/** i32: what is left suffices for the first block of a region. */
export function fitsRegion({ layout }: Core, region: Expression, left: Expression): Expression {
  return load('i32', 'load', entryAt(layout.regionNeedsBase, region, 4)).leU(left)
}

/** The fetch TLB's entry that an address may be in. */
function fetchEntry(pc: Expression): Expression {
  return pc
    .shrU(8)
    .toI32()
    .and((fetchEntries - 1) * tlbEntryBytes)
    .add(get('fetchSet'))
}

/** What the way to a region needs; the core has it, and every module of regions. */
type RegionWay = Pick<Core, 'enterRecord' | 'jumpOut'>

/** Enters the region at a record if there is one; returns its mark if not. */
function emitEnterRegion(f: FunctionBuilder, like: FunctionReference, record: Expression, left: Expression): Local {
  const mark = f.let(load('i32', 'load16u', record, recordField.region))
  // Where the budget does not suffice, the region itself leaves at once, for the interpreter.
  f.if(
    mark.sub(firstRegion).ltU(regionMark.settled - firstRegion),
    () => f.returnCallIndirect(like, mark.add(regionTableBase), record, left),
    undefined,
    'likely',
  )
  return mark
}

/** Goes on at a record of this page: in its region, or however the core does. */
export function emitGoNear(f: FunctionBuilder, core: RegionWay, record: Expression, left: Expression): void {
  emitEnterRegion(f, core.enterRecord, record, left)
  f.returnCall(core.enterRecord, record, left)
}

/** Goes on at an address: in its region if the TLB knows the page, or however the core does. */
export function emitGoFar(f: FunctionBuilder, core: RegionWay, pc: Expression, left: Expression): void {
  const tag = f.let(pc.and(-4096))
  const entry = f.let(fetchEntry(pc))
  f.if(load('i64', 'load', entry).ne(tag), () => f.returnCall(core.jumpOut, pc, left), undefined, 'unlikely')
  const records = f.let(load('i32', 'load', entry, 8))
  put(f, 'pagePc', tag)
  put(f, 'pageRecords', records)
  emitGoNear(f, core, f.let(records.add(pc.toI32().and(0xffe).mul(recordBytesPerByte))), left)
}

/** Goes on at a record that a jump leads to. */
function emitEnterRecord(f: FunctionBuilder, core: Core, record: Expression, left: Expression): void {
  const region = emitEnterRegion(f, core.raise, record, left)
  // Where only the end of a budget leads is no place that is hot.
  f.if(region.ltU(regionMark.reached).and(left.ne(0)), () =>
    f.store(2, record, i32(regionMark.reached), recordField.region),
  )
  f.returnCall(core.interpret, record, left)
}

/** A jump leads to this record: from now on it is counted how often, until it is translated. */
export function emitReached(f: FunctionBuilder, record: Expression): void {
  f.if(load('i32', 'load16u', record, recordField.region).ltU(regionMark.reached), () =>
    f.store(2, record, i32(regionMark.reached), recordField.region),
  )
}

/** Handlers that are no instruction: the first ones of the table. */
export interface CodeHandlers {
  /** Decodes the record, then runs it. What a zeroed record means. */
  readonly decodeHere: FunctionReference
  /** Behind the last record of a page. */
  readonly nextPage: FunctionReference
  /** Behind a straddling instruction: two bytes into the next page. */
  readonly nextPageBehindStraddling: FunctionReference
  /** First half of an instruction whose second half is in the next page. */
  readonly straddling: FunctionReference
}

export function defineCodePages(core: Core): CodeHandlers {
  const { module, layout } = core
  const { ramStart, pageFlagsBase, pageSlotBase, slotPageBase, slotStoresBase, freeListBase, slotsBase, coverageBase } =
    layout

  /** Slot + 1 of a page, 0: none. */
  const slotOfPage = (page: Expression): Expression => load('i32', 'load16u', entryAt(pageSlotBase, page, 2))
  const recordsOfSlot = (slot: Expression): Expression => entryAt(slotsBase, slot, slotBytes)

  module.define(core.dropCode, (f, page) => {
    const slot = f.let(slotOfPage(page!))
    f.if(slot.eqz(), () => f.return())
    f.set(slot, slot.sub(1))
    f.if(byteAt(pageFlagsBase, page!).and(pageFlag.regions), () =>
      f.do(core.imports.dropRegions, page!, i32(0), i32(halfwordsPerPage - 1)),
    )
    const records = f.let(recordsOfSlot(slot))
    const entry = f.let(i32(fetchTlbBase))
    f.loop((again) => {
      f.if(load('i32', 'load', entry, 8).eq(records), () => f.store(8, entry, i64(-1)))
      f.set(entry, entry.add(tlbEntryBytes))
      f.brIf(again, entry.ltU(fetchTlbBase + 3 * fetchSetBytes))
    })
    f.store(2, entryAt(pageSlotBase, page!, 2), i32(0))
    f.store(1, page!.add(pageFlagsBase), byteAt(pageFlagsBase, page!).and(~pageFlag.code))
    f.store(4, entryAt(freeListBase, get('freeSlots'), 4), slot)
    put(f, 'freeSlots', get('freeSlots').add(1))
  })

  module.define(core.invalidateCode, (f, offset, size) => {
    emitCount(f, counterAddress('storesIntoCode'))
    const page = f.let(offset!.shrU(12))
    const slot = f.let(slotOfPage(page).sub(1))
    const records = f.let(recordsOfSlot(slot))
    const stores = entryAt(slotStoresBase, slot, 4)
    f.store(4, stores, load('i32', 'load', stores).add(1))
    // The page that is executing keeps its slot: its records are in use.
    f.if(
      load('i32', 'load', stores)
        .gtU(storesUntilDropped)
        .and(records.ne(get('pageRecords'))),
      () => {
        f.do(core.dropCode, page)
        f.return()
      },
    )
    // A 32-bit instruction may start one halfword before the first byte.
    const first = f.let(offset!.and(0xfff).shrU(1))
    f.set(first, first.sub(first.ne(0)))
    const last = f.let(offset!.and(0xfff).add(size!).sub(1).shrU(1))
    f.if(byteAt(pageFlagsBase, page).and(pageFlag.regions), () => {
      const halfword = f.let(first)
      f.block((done) => {
        f.loop((again) => {
          const covered = byteAt(coverageBase, slot.mul(coverageBytes).add(halfword.shrU(3)))
          f.if(covered.shrU(halfword.and(7)).and(1), () => {
            f.do(core.imports.dropRegions, page, first, last)
            f.br(done)
          })
          f.set(halfword, halfword.add(1))
          f.brIf(again, halfword.leU(last))
        })
      })
    })
    const record = f.let(records.add(first.mul(recordBytes)))
    const end = f.let(records.add(last.mul(recordBytes)))
    f.loop((again) => {
      f.store(4, record, i32(0), recordField.handler)
      f.set(record, record.add(recordBytes))
      f.brIf(again, record.leU(end))
    })
  })

  /** (page) → its records, from a free slot if it has none. */
  const claimSlot = module.function('claimSlot', ['i32'], ['i32'], (f, page) => {
    const slot = f.let(slotOfPage(page!))
    f.if(slot, () => f.return(recordsOfSlot(slot.sub(1))))
    f.if(get('freeSlots').eqz(), () => {
      // All in use: one goes, any one (a program a little larger than the slots would defeat every order), but rather
      // the next one without translated code.
      put(f, 'slotChoice', get('slotChoice').mul(1_664_525).add(1_013_904_223))
      const index = f.let(get('slotChoice').shrU(8).remU(layout.slotCount))
      const tries = f.let(i32(layout.slotCount))
      const victim = f.local('i32')
      f.loop((again) => {
        f.set(victim, load('i32', 'load', entryAt(slotPageBase, index, 4)))
        f.set(index, index.add(1).remU(layout.slotCount))
        f.set(tries, tries.sub(1))
        f.brIf(again, byteAt(pageFlagsBase, victim).and(pageFlag.regions).and(tries.ne(0).neg()))
      })
      f.do(core.dropCode, victim)
    })
    put(f, 'freeSlots', get('freeSlots').sub(1))
    f.set(slot, load('i32', 'load', entryAt(freeListBase, get('freeSlots'), 4)))
    f.store(4, entryAt(slotPageBase, slot, 4), page!)
    f.store(4, entryAt(slotStoresBase, slot, 4), i32(0))
    f.store(2, entryAt(pageSlotBase, page!, 2), slot.add(1))
    const records = f.let(recordsOfSlot(slot))
    f.fill(records, i32(0), i32(slotBytes))
    f.store(4, records, i32(handlerIndex.nextPage), halfwordsPerPage * recordBytes)
    const flags = f.let(byteAt(pageFlagsBase, page!))
    f.store(1, page!.add(pageFlagsBase), flags.or(pageFlag.code))
    f.if(flags.and(pageFlag.writeCached), () => f.do(core.purgeWriteEntries, page!))
    f.return(records)
  })

  module.define(core.enterPage, (f, pc) => {
    const tag = f.let(pc!.and(-4096))
    const entry = f.let(fetchEntry(pc!))
    f.if(load('i64', 'load', entry).ne(tag), () => {
      const physical = f.let(f.call(core.translate, pc!, i32(access.fetch)))
      f.if(physical.eq(-1), () => f.return(i32(0)))
      f.if(isRam(core, physical).eqz(), () => {
        emitFault(f, exceptionCause.instructionAccessFault, pc!)
        f.return(i32(0))
      })
      const records = f.let(f.call(claimSlot, ramOffset(physical).toI32().shrU(12)))
      f.store(8, entry, tag)
      f.store(4, entry, records, 8)
    })
    put(f, 'pagePc', tag)
    put(f, 'pageRecords', load('i32', 'load', entry, 8))
    f.return(i32(1))
  })

  module.define(core.jumpOut, (f, pc, left) => {
    // No look-up where the run ends: the walk sets A bits.
    f.if(left!.eqz(), () => f.returnCall(core.stopAt, pc!))
    f.returnCall(core.runFrom, pc!, left!)
  })

  module.define(core.enterRecord, (f, record, left) => emitEnterRecord(f, core, record!, left!))

  const decodeHere = module.function('decodeHere', ['i32', 'i32'], [], (f, record, left) => {
    const slot = record!.sub(slotsBase).divU(slotBytes)
    f.store(4, entryAt(slotStoresBase, slot, 4), i32(0))
    f.do(core.imports.decodeRecord, record!)
    f.returnCall(core.interpret, record!, left!)
  })

  module.define(core.runFrom, (f, pc, left) => {
    f.if(f.call(core.enterPage, pc!).eqz(), () => f.returnCall(core.raiseAt, pc!, left!))
    f.returnCall(core.enterRecord, recordAt(pc!), left!)
  })

  module.define(core.resume, (f, pc, left) => {
    f.if(f.call(core.enterPage, pc!).eqz(), () => f.returnCall(core.raiseAt, pc!, left!))
    f.returnCall(core.interpret, recordAt(pc!), left!)
  })

  const nextPage = module.function('nextPage', ['i32', 'i32'], [], (f, _, left) => {
    f.returnCall(core.runFrom, get('pagePc').add(4096), left!)
  })
  const nextPageBehindStraddling = module.function('nextPageBehindStraddling', ['i32', 'i32'], [], (f, _, left) => {
    f.returnCall(core.runFrom, get('pagePc').add(4098), left!)
  })

  // The second half is fetched anew each time, as its page may be another one under another mapping. Only the meaning of
  // the 32 bits is kept.
  const straddling = module.function('straddling', ['i32', 'i32'], [], (f, record, left) => {
    const secondVirtual = f.let(get('pagePc').add(4096))
    const second = f.let(f.call(core.translate, secondVirtual, i32(access.fetch)))
    f.if(second.eq(-1), () => f.returnCall(core.raise, record!, left!))
    f.if(isRam(core, second).eqz(), () => {
      emitFault(f, exceptionCause.instructionAccessFault, secondVirtual)
      f.returnCall(core.raise, record!, left!)
    })
    const high = load('i32', 'load16u', ramOffset(second).toI32().add(ramStart))
    const bits = f.let(load('i32', 'load', record!, recordField.bits).or(high.shl(16)))
    const index = bits
      .xor(bits.shrU(7))
      .xor(bits.shrU(15))
      .xor(bits.shrU(20))
      .and(scratchEntries - 1)
    const scratch = f.let(index.mul(scratchEntryBytes).add(scratchBase))
    f.if(load('i32', 'load', scratch, recordField.bits).ne(bits), () => {
      f.do(core.imports.decodeStraddling, scratch, bits)
    })
    f.returnCall(core.interpret, scratch, left!)
  })

  return { decodeHere, nextPage, nextPageBehindStraddling, straddling }
}
