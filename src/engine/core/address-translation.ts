/**
 * From virtual to physical addresses: Sv39 (RISC-V privileged specification, "Sv39: Page-Based 39-bit Virtual-Memory
 * System" and "Virtual Address Translation Process"), and bare mode.
 *
 * Every page the walk reads is tracked before anything is derived from it. A and D bits are set by the walk when
 * menvcfg.ADUE says so (Svadu), otherwise a clear bit is a page fault. Absent extensions (Svnapot, Svpbmt) make their
 * bits reserved. There are no PMP entries: physical memory is open to every mode.
 */

import { exceptionCause } from '../../riscv/causes.ts'
import { type Expression, i32, i64, load } from '../wasm/expression.ts'
import type { FunctionBuilder } from '../wasm/function-builder.ts'
import { access, byteAt, type Core } from './core.ts'
import { field, mstatusBit, satpModeSv39 } from './csr-fields.ts'
import {
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
} from './layout.ts'
import { emitFault, isRam, ramOffset } from './memory-access.ts'
import { emitMarkWritten } from './tracked-pages.ts'

const pte = { v: 1, r: 2, w: 4, x: 8, u: 16, g: 32, a: 64, d: 128 } as const
/** Bits 63:54: reserved, or of extensions this hart lacks. */
const reservedShift = 54
const physicalAddressBits = 56
const ppnMask = (1n << 44n) - 1n

/** The privilege that data accesses are made with: MPRV lends them MPP's. */
export function effectivePrivilege(): Expression {
  const mstatus = get('mstatus')
  return mstatus.and(mstatusBit.mprv).ne(0).select(field(mstatus, 'mpp'), get('privilege'))
}

function isTranslated(privilege: Expression): Expression {
  return privilege.ne(3).and(get('satp').shrU(60).eq(satpModeSv39))
}

export function defineAddressTranslation(core: Core): void {
  const { module, layout } = core
  const { ramStart, pageFlagsBase } = layout

  /** By access: read, write, fetch. */
  const causeOf = (kind: Expression, read: number, write: number, fetch: number): Expression =>
    kind.eq(access.read).select(i64(read), kind.eq(access.write).select(i64(write), i64(fetch)))
  const emitPageFault = (f: FunctionBuilder, kind: Expression, va: Expression): void => {
    emitFault(
      f,
      causeOf(kind, exceptionCause.loadPageFault, exceptionCause.storePageFault, exceptionCause.instructionPageFault),
      va,
    )
    f.return(i64(-1))
  }
  const emitAccessFault = (f: FunctionBuilder, kind: Expression, va: Expression): void => {
    emitFault(
      f,
      causeOf(
        kind,
        exceptionCause.loadAccessFault,
        exceptionCause.storeAccessFault,
        exceptionCause.instructionAccessFault,
      ),
      va,
    )
    f.return(i64(-1))
  }

  module.define(core.translate, (f, va, kind) => {
    const isFetch = kind!.eq(access.fetch)
    const isWrite = kind!.eq(access.write)
    emitCount(f, f.let(kind!.mul(8).add(counterAddress('readMisses'))))
    const privilege = f.let(isFetch.select(get('privilege'), effectivePrivilege()))
    f.if(isTranslated(privilege).eqz(), () => {
      f.if(va!.shrU(physicalAddressBits).ne(0), () => emitAccessFault(f, kind!, va!))
      f.return(va!)
    })
    // Bits 63:39 must all equal bit 38.
    f.if(va!.shl(25).shrS(25).ne(va!), () => emitPageFault(f, kind!, va!))
    const table = f.let(get('satp').and(ppnMask).shl(12))
    const shift = f.let(i64(30))
    const entryAddress = f.local('i64')
    const host = f.local('i32')
    const entry = f.local('i64')
    f.block((found) => {
      f.loop((again) => {
        f.set(entryAddress, table.add(va!.shrU(shift).and(511).shl(3)))
        f.if(isRam(core, entryAddress).eqz(), () => emitAccessFault(f, kind!, va!))
        f.set(host, ramOffset(entryAddress).toI32().add(ramStart))
        const page = f.let(ramOffset(entryAddress).toI32().shrU(12))
        f.if(byteAt(pageFlagsBase, page).and(pageFlag.table).eqz(), () => f.do(core.trackTable, page))
        f.set(entry, load('i64', 'load', host))
        const writableOnly = entry.and(pte.r | pte.w).eq(pte.w)
        f.if(entry.and(pte.v).eqz().or(writableOnly).or(entry.shrU(reservedShift).ne(0)), () =>
          emitPageFault(f, kind!, va!),
        )
        f.brIf(found, entry.and(pte.r | pte.x).ne(0))
        // A pointer to the next level: A, D and U are reserved in it.
        f.if(
          entry
            .and(pte.a | pte.d | pte.u)
            .ne(0)
            .or(shift.eq(12)),
          () => emitPageFault(f, kind!, va!),
        )
        f.set(table, entry.shrU(10).and(ppnMask).shl(12))
        f.set(shift, shift.sub(9))
        f.br(again)
      })
    })
    const refuse = (condition: Expression): void => f.if(condition, () => emitPageFault(f, kind!, va!))
    const isUserPage = f.let(entry.and(pte.u).ne(0))
    f.if(
      privilege.eqz(),
      () => refuse(isUserPage.eqz()),
      () => refuse(isUserPage.and(isFetch.or(get('mstatus').and(mstatusBit.sum).eqz()))),
    )
    f.if(
      isFetch,
      () => refuse(entry.and(pte.x).eqz()),
      () =>
        f.if(
          isWrite,
          () => refuse(entry.and(pte.w).eqz()),
          () => {
            const readable = get('mstatus')
              .and(mstatusBit.mxr)
              .ne(0)
              .select(i64(pte.r | pte.x), i64(pte.r))
            refuse(entry.and(readable).eqz())
          },
        ),
    )
    const offsetMask = f.let(i64(1).shl(shift).sub(1))
    const base = f.let(entry.shrU(10).and(ppnMask).shl(12))
    refuse(base.and(offsetMask).ne(0))
    const needed = f.let(isWrite.select(i64(pte.a | pte.d), i64(pte.a)))
    f.if(entry.and(needed).ne(needed), () => {
      refuse(
        get('menvcfg')
          .and(1n << 61n)
          .eqz(),
      )
      // The walk's own write derives nothing that an older value of the entry would contradict: no flush.
      const offset = f.let(ramOffset(entryAddress).toI32())
      const page = f.let(offset.shrU(12))
      emitMarkWritten(f, core, page)
      f.if(byteAt(pageFlagsBase, page).and(pageFlag.code), () => f.do(core.invalidateCode, offset, i32(8)))
      f.store(8, host, entry.or(needed))
    })
    f.return(base.or(va!.and(offsetMask)))
  })

  module.define(core.updateMode, (f) => {
    const chooseData = (set: number): void => put(f, 'dataSet', i32(dataTlbBase + set * dataSetBytes))
    const chooseFetch = (set: number): void => put(f, 'fetchSet', i32(fetchTlbBase + set * fetchSetBytes))
    const data = f.let(effectivePrivilege())
    f.if(
      isTranslated(data),
      () =>
        f.if(
          data.eqz(),
          () => chooseData(dataSets.user),
          () =>
            f.if(
              get('mstatus').and(mstatusBit.sum).eqz(),
              () => chooseData(dataSets.supervisor),
              () => chooseData(dataSets.supervisorSum),
            ),
        ),
      () => chooseData(dataSets.bare),
    )
    const privilege = get('privilege')
    f.if(
      isTranslated(privilege),
      () =>
        f.if(
          privilege.eqz(),
          () => chooseFetch(fetchSets.user),
          () => chooseFetch(fetchSets.supervisor),
        ),
      () => chooseFetch(fetchSets.bare),
    )
  })
}
