/**
 * What makes the TLB and the predecoded code invisible to the guest (ENGINE.md, "What diverges if you let it"): a page
 * from which something was derived (translations, records) has no write entry in the data TLB, so every store to it comes
 * through `prepareWrite`, which drops what was derived before the bytes change. Writes of devices come the same way.
 * First writes to a clean page are noticed by the same means: that is the dirty tracking behind digests.
 */

import type { Expression } from '../wasm/expression.ts'
import { i32, i64, load } from '../wasm/expression.ts'
import type { FunctionBuilder } from '../wasm/function-builder.ts'
import { byteAt, type Core, entryAt } from './core.ts'
import {
  attention,
  counterAddress,
  dataSetBytes,
  dataSets,
  dataTlbBase,
  emitCount,
  fetchSetBytes,
  fetchSets,
  fetchTlbBase,
  get,
  pageFlag,
  put,
  tlbEntryBytes,
  trackedFlags,
  writeTlbOffset,
} from './layout.ts'

/** Puts a page into the list of written ones, once. Emitted where a write is about to happen. */
export function emitMarkWritten(f: FunctionBuilder, core: Core, page: Expression): void {
  const { pageFlagsBase, writtenListBase } = core.layout
  const flags = byteAt(pageFlagsBase, page)
  f.if(flags.and(pageFlag.written).eqz(), () => {
    f.store(1, page.add(pageFlagsBase), flags.or(pageFlag.written))
    f.store(4, entryAt(writtenListBase, get('writtenPages'), 4), page)
    put(f, 'writtenPages', get('writtenPages').add(1))
  })
}

export function defineTrackedPages(core: Core): void {
  const { module, layout } = core
  const { pageFlagsBase, tableListBase, ramStart } = layout

  module.define(core.purgeWriteEntries, (f, page) => {
    const host = f.let(page!.shl(12).add(ramStart))
    const first = dataTlbBase + writeTlbOffset
    const entry = f.let(i32(first))
    f.loop((again) => {
      const tag = load('i64', 'load', entry)
      f.if(
        tag
          .toI32()
          .add(load('i32', 'load', entry, 8))
          .eq(host),
        () => f.store(8, entry, i64(-1)),
      )
      f.set(entry, entry.add(tlbEntryBytes))
      f.brIf(again, entry.ltU(first + 4 * dataSetBytes))
    })
    f.store(1, page!.add(pageFlagsBase), byteAt(pageFlagsBase, page!).and(~pageFlag.writeCached))
  })

  module.define(core.trackTable, (f, page) => {
    const flags = f.let(byteAt(pageFlagsBase, page!))
    f.if(flags.and(pageFlag.table), () => f.return())
    f.store(1, page!.add(pageFlagsBase), flags.or(pageFlag.table))
    f.store(4, entryAt(tableListBase, get('tablePages'), 4), page!)
    put(f, 'tablePages', get('tablePages').add(1))
    f.if(flags.and(pageFlag.writeCached), () => f.do(core.purgeWriteEntries, page!))
  })

  module.define(core.flushTranslations, (f) => {
    emitCount(f, counterAddress('translationFlushes'))
    // The bare sets stay: physical addresses translate to themselves for ever.
    const skipped = dataSets.user * dataSetBytes
    for (const first of [dataTlbBase, dataTlbBase + writeTlbOffset]) {
      f.fill(i32(first + skipped), i32(0xff), i32(4 * dataSetBytes - skipped))
    }
    const firstFetch = fetchTlbBase + fetchSets.user * fetchSetBytes
    f.fill(i32(firstFetch), i32(0xff), i32(fetchTlbBase + 3 * fetchSetBytes - firstFetch))
    const index = f.let(get('tablePages'))
    f.block((end) => {
      f.loop((again) => {
        f.brIf(end, index.eqz())
        f.set(index, index.sub(1))
        const flags = load('i32', 'load', entryAt(tableListBase, index, 4)).add(pageFlagsBase)
        f.store(1, flags, load('i32', 'load8u', flags).and(~pageFlag.table))
        f.br(again)
      })
    })
    put(f, 'tablePages', 0)
    put(f, 'attention', get('attention').or(attention.lookUpAfresh))
  })

  module.define(core.prepareWrite, (f, offset, size) => {
    const page = f.let(offset!.shrU(12))
    emitMarkWritten(f, core, page)
    const flags = f.let(byteAt(pageFlagsBase, page))
    f.if(flags.and(trackedFlags).eqz(), () => f.return())
    const host = f.let(offset!.add(ramStart))
    const end = f.let(host.add(size!))
    f.if(flags.and(pageFlag.code), () => f.do(core.invalidateCode, offset!, size!))
    f.if(flags.and(pageFlag.table), () => {
      // Only a valid entry can have been walked through: storing over invalid ones drops nothing.
      const word = f.let(host.and(-8))
      f.loop((again) => {
        f.if(load('i32', 'load8u', word).and(1), () => {
          f.do(core.flushTranslations)
          f.set(word, end)
        })
        f.set(word, word.add(8))
        f.brIf(again, word.ltU(end))
      })
    })
    f.if(flags.and(pageFlag.watched), () => {
      const word = get('watchedWord')
      f.if(host.ltU(word.add(8)).and(end.gtU(word)), () => {
        put(f, 'watchHit', 1)
        put(f, 'attention', get('attention').or(attention.leave))
      })
    })
  })
}
