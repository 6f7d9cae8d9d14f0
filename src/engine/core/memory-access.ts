/**
 * Loads, stores and atomics. The fast path is one compare against a TLB tag: `address & (−4096 | size − 1)` differs from
 * every tag when the page is not there or the address is misaligned. Everything else is the slow path's business: page
 * walk, permissions, misaligned and page-crossing accesses (both pages are checked before any byte moves), devices.
 */

import { exceptionCause } from '../../riscv/causes.ts'
import { ramBase } from '../types.ts'
import { type Expression, i32, i64, load } from '../wasm/expression.ts'
import type { FunctionBuilder, Local } from '../wasm/function-builder.ts'
import { access, byteAt, type Core } from './core.ts'
import { dataEntries, get, pageFlag, put, tlbEntryBytes, trackedFlags, writeTlbOffset } from './layout.ts'
import { emitMarkWritten } from './tracked-pages.ts'

export type Size = 1 | 2 | 4 | 8

/** What an access needs from the code around it. */
export interface AccessSite {
  readonly f: FunctionBuilder
  readonly core: Pick<Core, 'loadSlow' | 'storeSlow' | 'locateSlow'>
  /** The TLB set of the current mode. */
  readonly dataSet: Expression
  /** Instructions left, the current one included. */
  readonly left: Expression
  /**
   * Emits what follows the slow path. `after` is what it made of `left`: 0 when the access faulted, cause and value being
   * in their cells; `result` is what the access gave.
   */
  readonly afterSlow: (after: Local, result?: Local) => void
}

const loadNames = { 1: 'load8u', 2: 'load16u', 4: 'load32u', 8: 'load' } as const

/** The read entry that an address may be in; the write entry is `writeTlbOffset` behind it. */
function dataEntry(address: Expression, dataSet: Expression): Expression {
  // (address >> 12) mod entries, times the entry size, in one shift and mask.
  const shift = 12 - Math.log2(tlbEntryBytes)
  return address
    .shrU(shift)
    .toI32()
    .and((dataEntries - 1) * tlbEntryBytes)
    .add(dataSet)
}

/** Page address and alignment of an access: what a tag is compared with. */
function tagMask(size: Size): number {
  return -4096 | (size - 1)
}

/** Emits a load; the result is a local, zero-extended. */
export function emitLoad(site: AccessSite, address: Expression, size: Size): Local {
  const { f, core, left } = site
  const at = f.let(address)
  const entry = f.let(dataEntry(at, site.dataSet))
  const value = f.local('i64')
  f.if(
    load('i64', 'load', entry, 0).eq(at.and(tagMask(size))),
    () => f.set(value, load('i64', loadNames[size], at.toI32().add(load('i32', 'load', entry, 8)))),
    () => {
      const after = f.local('i32')
      f.callInto([value, after], core.loadSlow, at, i32(size), left)
      site.afterSlow(after, value)
    },
    'likely',
  )
  return value
}

export function emitStore(site: AccessSite, address: Expression, size: Size, value: Expression): void {
  const { f, core, left } = site
  const at = f.let(address)
  const entry = f.let(dataEntry(at, site.dataSet))
  f.if(
    load('i64', 'load', entry, writeTlbOffset).eq(at.and(tagMask(size))),
    () => f.store(size, at.toI32().add(load('i32', 'load', entry, writeTlbOffset + 8)), value),
    () => {
      const after = f.let(f.call(core.storeSlow, at, i32(size), value, left))
      site.afterSlow(after)
    },
    'likely',
  )
}

/** Emits finding the RAM behind an aligned address for an atomic access; the result is its address in memory. */
export function emitLocate(site: AccessSite, address: Expression, size: Size, kind: 'read' | 'write'): Local {
  const { f, core, left } = site
  const at = f.let(address)
  const entry = f.let(dataEntry(at, site.dataSet))
  const host = f.local('i32')
  const table = kind === 'read' ? 0 : writeTlbOffset
  f.if(
    load('i64', 'load', entry, table).eq(at.and(tagMask(size))),
    () => f.set(host, at.toI32().add(load('i32', 'load', entry, table + 8))),
    () => {
      const after = f.local('i32')
      f.callInto([host, after], core.locateSlow, at, i32(size), i32(access[kind]), left)
      site.afterSlow(after, host)
    },
    'likely',
  )
  return host
}

/** Offset in RAM of a physical address, and whether it is in RAM. */
export function ramOffset(physical: Expression): Expression {
  return physical.sub(i64(ramBase))
}

export function isRam(core: Core, physical: Expression): Expression {
  return ramOffset(physical).ltU(core.layout.ramBytes)
}

export function emitFault(f: FunctionBuilder, cause: Expression | number, value: Expression): void {
  put(f, 'faultCause', typeof cause === 'number' ? i64(cause) : cause)
  put(f, 'faultValue', value)
}

export function defineMemoryAccess(core: Core): void {
  const { module, layout } = core
  const { ramStart, pageFlagsBase } = layout

  module.define(core.heed, (f, left) => {
    f.if(get('attention').eqz(), () => f.return(left!))
    put(f, 'endCount', get('endCount').sub(left!.toI64U()).add(1))
    f.return(i32(1))
  })

  /** Enters a translation into the data TLB; a write entry only for pages that nobody tracks. */
  const fill = module.function('fillData', ['i64', 'i32', 'i32'], [], (f, va, offset, kind) => {
    const entry = f.let(dataEntry(va!, get('dataSet')))
    const page = f.let(offset!.shrU(12))
    f.if(kind!.eq(access.write), () => {
      const flags = byteAt(pageFlagsBase, page)
      f.if(flags.and(trackedFlags), () => f.return())
      emitMarkWritten(f, core, page)
      f.store(1, page.add(pageFlagsBase), flags.or(pageFlag.writeCached))
      f.set(entry, entry.add(writeTlbOffset))
    })
    const tag = f.let(va!.and(-4096))
    f.store(8, entry, tag)
    f.store(4, entry, offset!.and(-4096).add(ramStart).sub(tag.toI32()), 8)
  })

  const bySize = (f: FunctionBuilder, size: Expression, body: (size: Size) => void): void => {
    f.if(size.eq(8), () => body(8))
    f.if(size.eq(4), () => body(4))
    f.if(size.eq(2), () => body(2))
    f.if(size.eq(1), () => body(1))
  }
  const crossesPage = (at: Expression, size: Expression): Expression => at.toI32().and(0xfff).add(size).gtU(4096)
  const nextPage = (at: Expression): Expression => at.or(0xfff).add(1)

  /** If the access is misaligned, and all of it in a page whose entry stands: does `access` with its address in memory. */
  const withinPage = (
    f: FunctionBuilder,
    at: Local,
    size: Local,
    table: number,
    access: (host: Local) => void,
  ): void => {
    const entry = f.let(dataEntry(at, get('dataSet')))
    const isThere = load('i64', 'load', entry, table).eq(at.and(-4096))
    f.if(isThere.and(crossesPage(at, size).eqz()), () =>
      access(f.let(at.toI32().add(load('i32', 'load', entry, table + 8)))),
    )
  }

  module.define(core.loadSlow, (f, at, size, left) => {
    const none = (): void => f.return(i64(0), i32(0))
    withinPage(f, at!, size!, 0, (host) =>
      bySize(f, size!, (bytes) => f.return(load('i64', loadNames[bytes], host), left!)),
    )
    const first = f.let(f.call(core.translate, at!, i32(access.read)))
    f.if(first.eq(-1), none)
    f.if(crossesPage(at!, size!), () => {
      const second = f.let(f.call(core.translate, nextPage(at!), i32(access.read)))
      f.if(second.eq(-1), none)
      f.if(isRam(core, first).and(isRam(core, second)).eqz(), () => {
        emitFault(f, exceptionCause.loadAccessFault, isRam(core, first).select(nextPage(at!), at!))
        none()
      })
      const value = f.local('i64')
      const index = f.let(size!)
      const inFirst = f.let(i32(4096).sub(at!.toI32().and(0xfff)))
      f.loop((again) => {
        f.set(index, index.sub(1))
        const physical = index.ltU(inFirst).select(first.add(index.toI64U()), second.add(index.sub(inFirst).toI64U()))
        const byte = load('i64', 'load8u', ramOffset(physical).toI32().add(ramStart))
        f.set(value, value.shl(8).or(byte))
        f.brIf(again, index)
      })
      f.return(value, f.call(core.heed, left!))
    })
    f.if(isRam(core, first), () => {
      const offset = f.let(ramOffset(first).toI32())
      f.do(fill, at!, offset, i32(access.read))
      const host = f.let(offset.add(ramStart))
      // The walk may have started to track a page, or set a bit in a page table: nothing to heed for the interpreter,
      // which keeps no translation of its own, unless flushing asked for it.
      bySize(f, size!, (bytes) => f.return(load('i64', loadNames[bytes], host), f.call(core.heed, left!)))
    })
    f.if(at!.toI32().and(size!.sub(1)), () => {
      emitFault(f, exceptionCause.loadAccessFault, at!)
      none()
    })
    put(f, 'count', get('endCount').sub(left!.toI64U()))
    const value = f.let(f.call(core.imports.busLoad, first, size!))
    f.if(get('busFault'), () => {
      put(f, 'busFault', 0)
      emitFault(f, exceptionCause.loadAccessFault, at!)
      none()
    })
    f.return(value, f.call(core.heed, left!))
  })

  module.define(core.storeSlow, (f, at, size, value, left) => {
    const none = (): void => f.return(i32(0))
    withinPage(f, at!, size!, writeTlbOffset, (host) => {
      bySize(f, size!, (bytes) => f.store(bytes, host, value!))
      f.return(left!)
    })
    const first = f.let(f.call(core.translate, at!, i32(access.write)))
    f.if(first.eq(-1), none)
    f.if(crossesPage(at!, size!), () => {
      const second = f.let(f.call(core.translate, nextPage(at!), i32(access.write)))
      f.if(second.eq(-1), none)
      f.if(isRam(core, first).and(isRam(core, second)).eqz(), () => {
        emitFault(f, exceptionCause.storeAccessFault, isRam(core, first).select(nextPage(at!), at!))
        none()
      })
      const inFirst = f.let(i32(4096).sub(at!.toI32().and(0xfff)))
      f.do(core.prepareWrite, ramOffset(first).toI32(), inFirst)
      f.do(core.prepareWrite, ramOffset(second).toI32(), size!.sub(inFirst))
      const index = f.local('i32')
      f.loop((again) => {
        const physical = index.ltU(inFirst).select(first.add(index.toI64U()), second.add(index.sub(inFirst).toI64U()))
        f.store(1, ramOffset(physical).toI32().add(ramStart), value!)
        f.set(value!, value!.shrU(8))
        f.set(index, index.add(1))
        f.brIf(again, index.ltU(size!))
      })
      f.return(f.call(core.heed, left!))
    })
    f.if(isRam(core, first), () => {
      const offset = f.let(ramOffset(first).toI32())
      f.do(core.prepareWrite, offset, size!)
      // A flush just now may have been of this very translation: enter none.
      f.if(get('attention').eqz(), () => f.do(fill, at!, offset, i32(access.write)))
      const host = f.let(offset.add(ramStart))
      bySize(f, size!, (bytes) => f.store(bytes, host, value!))
      f.return(f.call(core.heed, left!))
    })
    f.if(at!.toI32().and(size!.sub(1)), () => {
      emitFault(f, exceptionCause.storeAccessFault, at!)
      none()
    })
    put(f, 'count', get('endCount').sub(left!.toI64U()))
    f.do(core.imports.busStore, first, size!, value!)
    f.if(get('busFault'), () => {
      put(f, 'busFault', 0)
      emitFault(f, exceptionCause.storeAccessFault, at!)
      none()
    })
    f.return(f.call(core.heed, left!))
  })

  module.define(core.locateSlow, (f, at, size, kind, left) => {
    const none = (): void => f.return(i32(0), i32(0))
    const isWrite = kind!.eq(access.write)
    const either = (write: number, read: number): Expression => isWrite.select(i64(write), i64(read))
    f.if(at!.toI32().and(size!.sub(1)), () => {
      emitFault(f, either(exceptionCause.storeAddressMisaligned, exceptionCause.loadAddressMisaligned), at!)
      none()
    })
    const physical = f.let(f.call(core.translate, at!, kind!))
    f.if(physical.eq(-1), none)
    // Devices offer no atomic access (a physical memory attribute of this machine).
    f.if(isRam(core, physical).eqz(), () => {
      emitFault(f, either(exceptionCause.storeAccessFault, exceptionCause.loadAccessFault), at!)
      none()
    })
    const offset = f.let(ramOffset(physical).toI32())
    f.if(isWrite, () => f.do(core.prepareWrite, offset, size!))
    f.if(get('attention').eqz(), () => f.do(fill, at!, offset, kind!))
    f.return(offset.add(ramStart), f.call(core.heed, left!))
  })
}
