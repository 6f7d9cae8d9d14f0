/**
 * Traps and the ways back (RISC-V privileged specification, "Trap handling", MRET/SRET, WFI). Interrupts are taken only
 * between instructions, where `finish` or the run loop asks `pendingInterrupt`: after everything that can unmask or raise
 * one, and at the exact counts at which timers fire. So where a run is sliced changes nothing.
 */

import { exceptionCause, interruptCause } from '../../riscv/causes.ts'
import { trapCausesPerKind } from '../profile.ts'
import { type Expression, i32, i64, load } from '../wasm/expression.ts'
import type { FunctionBuilder } from '../wasm/function-builder.ts'
import type { Core } from './core.ts'
import { field, interruptBit, mcountinhibitBit, mstatusBit } from './csr-fields.ts'
import {
  attention,
  type CellName,
  coreExit,
  emitCount,
  get,
  put,
  recordBytesPerByte,
  recordField,
  slotBytes,
  trapCountersBase,
} from './layout.ts'
import { emitFault } from './memory-access.ts'

const interruptFlag = 1n << 63n

/** Highest priority first. */
const interruptOrder = [
  [interruptBit.meip, interruptCause.machineExternal],
  [interruptBit.msip, interruptCause.machineSoftware],
  [interruptBit.mtip, interruptCause.machineTimer],
  [interruptBit.seip, interruptCause.supervisorExternal],
  [interruptBit.ssip, interruptCause.supervisorSoftware],
  [interruptBit.stip, interruptCause.supervisorTimer],
] as const

/** mip: what software wrote, what devices drive, what timers say. */
export function pendingBits(): Expression {
  return get('mipSoft').or(get('mipLines')).or(get('mipTimers'))
}

/** Address of the instruction that a record stands for. */
export function recordPc(record: Expression): Expression {
  return get('pagePc').add(load('i64', 'load16u', record, recordField.pcOffset))
}

function hasBit(cell: CellName, bit: bigint): Expression {
  return get(cell).and(bit).ne(0)
}

/** `value` with `bits` set where `condition` (i32) holds, cleared elsewhere. */
function withBits(value: Expression, bits: bigint, condition: Expression): Expression {
  return value.and(~bits).or(condition.select(i64(bits), i64(0)))
}

export function defineTraps(core: Core): void {
  const { module, systemOperations } = core

  module.define(core.pendingInterrupt, (f) => {
    const pending = f.let(pendingBits().and(get('mie')))
    f.if(pending.eqz(), () => f.return(i64(0)))
    const privilege = get('privilege')
    const forMachine = f.let(pending.and(get('mideleg').not()))
    const forSupervisor = f.let(pending.and(get('mideleg')))
    const take = (candidates: Expression): void => {
      for (const [bit, cause] of interruptOrder) {
        f.if(candidates.and(bit).ne(0), () => f.return(i64(interruptFlag | BigInt(cause))))
      }
    }
    f.if(privilege.ltU(3).or(hasBit('mstatus', mstatusBit.mie)), () => take(forMachine))
    f.if(privilege.eqz().or(privilege.eq(1).and(hasBit('mstatus', mstatusBit.sie))), () => take(forSupervisor))
    f.return(i64(0))
  })

  /** Direct mode: the base. Vectored: interrupts go to base + 4 · cause. */
  const vector = (tvec: CellName, cause: Expression): Expression => {
    const base = get(tvec).and(-4)
    const isVectored = get(tvec).and(1).ne(0).and(cause.ltS(0))
    return isVectored.select(base.add(cause.and(63).shl(2)), base)
  }

  module.define(core.deliver, (f, cause, value, pc) => {
    put(f, 'reservation', -1)
    const privilege = f.let(get('privilege'))
    const isInterrupt = cause!.ltS(0)
    const counter = cause!
      .toI32()
      .and(trapCausesPerKind - 1)
      .add(isInterrupt.mul(trapCausesPerKind))
    emitCount(f, f.let(counter.mul(8).add(trapCountersBase)))
    // A trapping instruction is attempted, but not retired.
    f.if(isInterrupt.eqz().and(hasBit('mcountinhibit', mcountinhibitBit.ir).eqz()), () =>
      put(f, 'minstretBase', get('minstretBase').sub(1)),
    )
    const delegated = isInterrupt.select(get('mideleg'), get('medeleg')).shrU(cause!.and(63)).and(1)
    const mstatus = f.let(get('mstatus'))
    f.if(
      privilege.leU(1).and(delegated.ne(0)),
      () => {
        put(f, 'scause', cause!)
        put(f, 'sepc', pc!)
        put(f, 'stval', value!)
        f.set(mstatus, withBits(mstatus, mstatusBit.spie, mstatus.and(mstatusBit.sie).ne(0)))
        f.set(mstatus, withBits(mstatus, mstatusBit.spp, privilege.ne(0)))
        put(f, 'mstatus', mstatus.and(~mstatusBit.sie))
        put(f, 'privilege', 1)
        put(f, 'pc', vector('stvec', cause!))
      },
      () => {
        put(f, 'mcause', cause!)
        put(f, 'mepc', pc!)
        put(f, 'mtval', value!)
        f.set(mstatus, withBits(mstatus, mstatusBit.mpie, mstatus.and(mstatusBit.mie).ne(0)))
        f.set(mstatus, mstatus.and(~mstatusBit.mpp).or(privilege.shl(11)))
        put(f, 'mstatus', mstatus.and(~mstatusBit.mie))
        put(f, 'privilege', 3)
        put(f, 'pc', vector('mtvec', cause!))
      },
    )
    f.do(core.updateMode)
  })

  module.define(core.resumeOut, (f, pc, left) => {
    f.if(left!, () => f.returnCall(core.resume, pc!, left!))
    f.returnCall(core.stopAt, pc!)
  })

  module.define(core.stopAt, (f, pc) => {
    put(f, 'pc', pc!)
    put(f, 'count', get('endCount'))
  })

  module.define(core.leave, (f, record) => {
    // Behind a straddling instruction there is no record in a slot: the next one is two bytes into the next page.
    const distance = f.let(record!.sub(get('pageRecords')))
    const offset = distance.ltU(slotBytes).select(distance.divU(recordBytesPerByte), i32(4098))
    put(f, 'pc', get('pagePc').add(offset.toI64U()))
    put(f, 'count', get('endCount'))
  })

  module.define(core.finish, (f, pc, left) => {
    f.set(left!, left!.sub(1))
    f.if(left!.eqz().or(get('attention').ne(0)), () => {
      put(f, 'pc', pc!)
      put(f, 'count', get('endCount').sub(left!.toI64U()))
      f.return()
    })
    const cause = f.let(f.call(core.pendingInterrupt))
    f.if(cause.ne(0), () => {
      f.do(core.deliver, cause, i64(0), pc!)
      f.set(pc!, get('pc'))
    })
    f.returnCall(core.runFrom, pc!, left!)
  })

  module.define(core.raiseAt, (f, pc, left) => {
    f.do(core.deliver, get('faultCause'), get('faultValue'), pc!)
    f.returnCall(core.finish, get('pc'), left!)
  })

  module.define(core.raise, (f, record, left) => {
    f.returnCall(core.raiseAt, recordPc(record!), left!)
  })

  module.define(core.raiseIllegal, (f, record, left) => {
    emitFault(f, exceptionCause.illegalInstruction, load('i64', 'load32u', record!, recordField.bits))
    f.returnCall(core.raiseAt, recordPc(record!), left!)
  })

  /** Ends the instruction with an exit that the host acts on; the pc stands behind it. */
  const emitExit = (f: FunctionBuilder, reason: number, record: Expression, left: Expression): void => {
    put(f, 'exitReason', reason)
    put(f, 'attention', get('attention').or(attention.leave))
    f.returnCall(core.finish, recordPc(record).add(4), left)
  }

  module.define(systemOperations.ecall, (f, record, left) => {
    const supervisor = get('privilege').eq(1)
    const delegated = hasBit('medeleg', 1n << BigInt(exceptionCause.ecallFromSupervisor))
    f.if(get('supervisorCallsExit').ne(0).and(supervisor).and(delegated.eqz()), () => {
      put(f, 'reservation', -1)
      f.if(hasBit('mcountinhibit', mcountinhibitBit.ir).eqz(), () => put(f, 'minstretBase', get('minstretBase').sub(1)))
      emitExit(f, coreExit.supervisorCall, record!, left!)
    })
    emitFault(f, get('privilege').add(exceptionCause.ecallFromUser), i64(0))
    f.returnCall(core.raise, record!, left!)
  })

  module.define(systemOperations.ebreak, (f, record, left) => {
    emitFault(f, exceptionCause.breakpoint, recordPc(record!))
    f.returnCall(core.raise, record!, left!)
  })

  module.define(systemOperations.mret, (f, record, left) => {
    f.if(get('privilege').ne(3), () => f.returnCall(core.raiseIllegal, record!, left!))
    const mstatus = f.let(get('mstatus'))
    const previous = f.let(field(mstatus, 'mpp'))
    f.set(mstatus, withBits(mstatus, mstatusBit.mie, mstatus.and(mstatusBit.mpie).ne(0)))
    f.set(mstatus, mstatus.or(mstatusBit.mpie).and(~mstatusBit.mpp))
    f.if(previous.ne(3), () => f.set(mstatus, mstatus.and(~mstatusBit.mprv)))
    put(f, 'mstatus', mstatus)
    put(f, 'privilege', previous)
    f.do(core.updateMode)
    f.returnCall(core.finish, get('mepc'), left!)
  })

  module.define(systemOperations.sret, (f, record, left) => {
    const privilege = get('privilege')
    const trapped = privilege.eq(1).and(hasBit('mstatus', mstatusBit.tsr))
    f.if(privilege.eqz().or(trapped), () => f.returnCall(core.raiseIllegal, record!, left!))
    const mstatus = f.let(get('mstatus'))
    const previous = f.let(field(mstatus, 'spp'))
    f.set(mstatus, withBits(mstatus, mstatusBit.sie, mstatus.and(mstatusBit.spie).ne(0)))
    f.set(mstatus, mstatus.or(mstatusBit.spie).and(~(mstatusBit.spp | mstatusBit.mprv)))
    put(f, 'mstatus', mstatus)
    put(f, 'privilege', previous)
    f.do(core.updateMode)
    f.returnCall(core.finish, get('sepc'), left!)
  })

  module.define(systemOperations.wfi, (f, record, left) => {
    const privilege = get('privilege')
    const trapped = privilege.ne(3).and(hasBit('mstatus', mstatusBit.tw))
    f.if(privilege.eqz().or(trapped), () => f.returnCall(core.raiseIllegal, record!, left!))
    // Whether it waits is decided at the count behind it, where a timer may have come due: by the run loop.
    emitExit(f, coreExit.waitForInterrupt, record!, left!)
  })

  // Fetch is coherent with stores anyway.
  module.define(systemOperations.fenceI, (f, record, left) => {
    f.returnCall(core.finish, recordPc(record!).add(4), left!)
  })

  // The TLB is invisible: a store to a page table has had its effect already. Only the permission is left to check.
  module.define(systemOperations.sfenceVma, (f, record, left) => {
    const privilege = get('privilege')
    const trapped = privilege.eq(1).and(hasBit('mstatus', mstatusBit.tvm))
    f.if(privilege.eqz().or(trapped), () => f.returnCall(core.raiseIllegal, record!, left!))
    f.returnCall(core.finish, recordPc(record!).add(4), left!)
  })

  module.exportFunction(
    'run',
    module.function('run', ['i32'], [], (f, budget) => {
      put(f, 'budgetEnd', get('count').add(budget!.toI64U()))
      f.loop((again) => {
        const left = f.let(get('budgetEnd').sub(get('count')).toI32())
        f.if(left.eqz(), () => f.return())
        put(f, 'endCount', get('budgetEnd'))
        const cause = f.let(f.call(core.pendingInterrupt))
        f.if(cause.ne(0), () => f.do(core.deliver, cause, i64(0), get('pc')))
        f.do(core.resume, get('pc'), left)
        f.if(get('attention').and(attention.leave), () => f.return())
        put(f, 'attention', i32(0))
        f.br(again)
      })
    }),
  )
}
