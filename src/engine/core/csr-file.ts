/**
 * The control and status registers (RISC-V privileged specification, chapters "Machine-Level ISA" and "Supervisor-Level
 * ISA"; Sstc, Zkr, Zicntr): one list of how each is read and written, from which three functions are generated. Fields
 * keep only legal values (WARL).
 *
 * No PMP entries, no triggers, no event counters: their registers read zero. ASIDs have no bits.
 */

import { csr } from '../../riscv/csrs.ts'
import { type Expression, i32, i64, load } from '../wasm/expression.ts'
import type { FunctionBuilder, Label } from '../wasm/function-builder.ts'
import type { Core } from './core.ts'
import {
  field,
  interruptBit,
  mcountinhibitBit,
  menvcfgBit,
  mseccfgBit,
  mstatusBit,
  satpModeSv39,
} from './csr-fields.ts'
import { attention, type CellName, csrIndexBase, get, put } from './layout.ts'
import { pendingBits } from './traps.ts'

interface CsrDefinition {
  readonly addresses: readonly number[]
  /** `count`: attempted before this instruction. */
  readonly read: (f: FunctionBuilder, count: Expression) => Expression
  /**
   * `count`: attempted after this instruction. A write after which interrupts, mode or mappings may differ says
   * 'lookUpAfresh'. Without `write`, writes have no effect.
   */
  readonly write?: (f: FunctionBuilder, value: Expression, count: Expression) => undefined | 'lookUpAfresh'
  /** Beyond privilege and read-only: gives 0 when the access is illegal. */
  readonly mayAccess?: (isWrite: Expression) => Expression
}

/** A register whose writable bits are `mask`. */
function plain(address: number, cell: CellName, mask = -1n, effect?: 'lookUpAfresh'): CsrDefinition {
  return {
    addresses: [address],
    read: () => get(cell),
    write: (f, value) => {
      put(f, cell, mask === -1n ? value : value.and(mask))
      return effect
    },
  }
}

function readOnly(value: bigint, ...addresses: number[]): CsrDefinition {
  return { addresses, read: () => i64(value) }
}

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index)
}

function bitSet(cell: CellName, bit: bigint): Expression {
  return get(cell).and(bit).ne(0)
}

const writableStatus =
  mstatusBit.sie | mstatusBit.spie | mstatusBit.spp | mstatusBit.fs | mstatusBit.sum | mstatusBit.mxr
const writableMachineStatus =
  writableStatus |
  mstatusBit.mie |
  mstatusBit.mpie |
  mstatusBit.mpp |
  mstatusBit.mprv |
  mstatusBit.tvm |
  mstatusBit.tw |
  mstatusBit.tsr

const supervisorInterrupts = interruptBit.ssip | interruptBit.stip | interruptBit.seip
const allInterrupts = supervisorInterrupts | interruptBit.msip | interruptBit.mtip | interruptBit.meip
/** Exceptions that exist, but for ECALL from M, which has nowhere to go. */
const delegableExceptions = 0xb3ffn

const misa =
  (2n << 62n) | [...'ACDFIMSU'].reduce((bits, letter) => bits | (1n << BigInt(letter.charCodeAt(0) - 65)), 0n)

export function defineCsrFile(core: Core): Map<number, number> {
  const { module } = core

  /** mstatus with SD, which says that FS is Dirty. */
  const statusValue = (f: FunctionBuilder): Expression => {
    const mstatus = f.let(get('mstatus'))
    return mstatus.or(mstatus.and(mstatusBit.fs).eq(mstatusBit.fs).select(i64(mstatusBit.sd), i64(0)))
  }
  const writeStatus = (f: FunctionBuilder, value: Expression, mask: bigint): 'lookUpAfresh' => {
    const old = f.let(get('mstatus'))
    const next = f.let(old.and(~mask).or(value.and(mask)))
    // MPP holds U, S or M; a write of the reserved 2 keeps the old mode.
    f.if(field(next, 'mpp').eq(2), () => f.set(next, next.and(~mstatusBit.mpp).or(old.and(mstatusBit.mpp))))
    put(f, 'mstatus', next)
    f.if(old.xor(next).and(mstatusBit.mxr).ne(0), () => f.do(core.flushTranslations))
    f.do(core.updateMode)
    return 'lookUpAfresh'
  }
  const timersChanged = (f: FunctionBuilder): 'lookUpAfresh' => {
    put(f, 'attention', get('attention').or(attention.leave))
    return 'lookUpAfresh'
  }

  /** mcounteren and scounteren open the counters to S and U. */
  const mayCount = (bit: number): Expression => {
    const privilege = get('privilege')
    const machine = bitSet('mcounteren', 1n << BigInt(bit))
    const supervisor = bitSet('scounteren', 1n << BigInt(bit))
    return privilege.eq(3).or(machine.and(privilege.eq(1).or(supervisor)))
  }
  const floatOn = (): Expression => get('mstatus').and(mstatusBit.fs).ne(0)
  const setFcsr = (f: FunctionBuilder, value: Expression): undefined => {
    put(f, 'fcsr', value)
    put(f, 'mstatus', get('mstatus').or(mstatusBit.fs))
  }

  const inhibited = (bit: bigint): Expression => bitSet('mcountinhibit', bit)
  const counter = (base: CellName, bit: bigint) => ({
    read: (_: FunctionBuilder, count: Expression): Expression => get(base).add(inhibited(bit).select(i64(0), count)),
    write: (f: FunctionBuilder, value: Expression, count: Expression): undefined => {
      put(f, base, value.sub(inhibited(bit).select(i64(0), count)))
    },
  })
  const mcycle = counter('mcycleBase', mcountinhibitBit.cy)
  const minstret = counter('minstretBase', mcountinhibitBit.ir)

  const sip = (): Expression => pendingBits().and(get('mideleg'))

  const definitions: readonly CsrDefinition[] = [
    {
      addresses: [csr.fflags],
      mayAccess: floatOn,
      read: () => get('fcsr').and(0x1f),
      write: (f, value) => setFcsr(f, get('fcsr').and(0xe0).or(value.and(0x1f))),
    },
    {
      addresses: [csr.frm],
      mayAccess: floatOn,
      read: () => get('fcsr').shrU(5),
      write: (f, value) => setFcsr(f, get('fcsr').and(0x1f).or(value.and(7).shl(5))),
    },
    {
      addresses: [csr.fcsr],
      mayAccess: floatOn,
      read: () => get('fcsr'),
      write: (f, value) => setFcsr(f, value.and(0xff)),
    },
    {
      // Zkr: only a read-write access may take entropy, and only where mseccfg opens it.
      addresses: [csr.seed],
      mayAccess: (isWrite) => {
        const privilege = get('privilege')
        const open = privilege
          .eq(3)
          .or(privilege.eq(1).and(bitSet('mseccfg', mseccfgBit.sseed)))
          .or(privilege.eqz().and(bitSet('mseccfg', mseccfgBit.useed)))
        return isWrite.and(open)
      },
      read: (f) => f.call(core.imports.readSeed),
    },

    { addresses: [csr.cycle], mayAccess: () => mayCount(0), read: mcycle.read },
    { addresses: [csr.time], mayAccess: () => mayCount(1), read: (f, count) => f.call(core.ticksAt, count) },
    { addresses: [csr.instret], mayAccess: () => mayCount(2), read: minstret.read },
    ...range(3, 31).map((bit) => ({
      addresses: [csr.cycle + bit],
      mayAccess: () => mayCount(bit),
      read: () => i64(0),
    })),

    {
      addresses: [csr.sstatus],
      read: (f) => statusValue(f).and(writableStatus | mstatusBit.uxl | (3n << 32n) | mstatusBit.sd),
      write: (f, value) => writeStatus(f, value, writableStatus),
    },
    {
      addresses: [csr.sie],
      read: () => get('mie').and(get('mideleg')),
      write: (f, value) => {
        const mask = f.let(get('mideleg'))
        put(f, 'mie', get('mie').and(mask.not()).or(value.and(mask)))
        return 'lookUpAfresh'
      },
    },
    {
      addresses: [csr.sip],
      read: sip,
      write: (f, value) => {
        // Of the delegated bits, software may write only SSIP.
        const mask = f.let(get('mideleg').and(interruptBit.ssip))
        put(f, 'mipSoft', get('mipSoft').and(mask.not()).or(value.and(mask)))
        return 'lookUpAfresh'
      },
    },
    plain(csr.stvec, 'stvec', ~2n),
    plain(csr.scounteren, 'scounteren', 0xffff_ffffn),
    plain(csr.senvcfg, 'senvcfg', menvcfgBit.fiom),
    plain(csr.sscratch, 'sscratch'),
    plain(csr.sepc, 'sepc', ~1n),
    plain(csr.scause, 'scause'),
    plain(csr.stval, 'stval'),
    {
      addresses: [csr.stimecmp],
      mayAccess: () =>
        get('privilege')
          .eq(3)
          .or(bitSet('menvcfg', menvcfgBit.stce).and(bitSet('mcounteren', 2n))),
      read: () => get('stimecmp'),
      write: (f, value) => {
        put(f, 'stimecmp', value)
        return timersChanged(f)
      },
    },
    {
      addresses: [csr.satp],
      mayAccess: () => get('privilege').eq(1).and(bitSet('mstatus', mstatusBit.tvm)).eqz(),
      read: () => get('satp'),
      write: (f, value) => {
        // An unsupported mode leaves the register as it is; ASIDs have no bits.
        const mode = f.let(value.shrU(60))
        f.if(mode.eqz().or(mode.eq(satpModeSv39)), () => {
          const next = f.let(value.and((15n << 60n) | ((1n << 44n) - 1n)))
          f.if(next.ne(get('satp')), () => {
            put(f, 'satp', next)
            f.do(core.flushTranslations)
            f.do(core.updateMode)
          })
        })
        return 'lookUpAfresh'
      },
    },

    {
      addresses: [csr.mstatus],
      read: statusValue,
      write: (f, value) => writeStatus(f, value, writableMachineStatus),
    },
    readOnly(misa, csr.misa),
    plain(csr.medeleg, 'medeleg', delegableExceptions),
    plain(csr.mideleg, 'mideleg', supervisorInterrupts, 'lookUpAfresh'),
    plain(csr.mie, 'mie', allInterrupts, 'lookUpAfresh'),
    {
      addresses: [csr.mip],
      read: pendingBits,
      write: (f, value) => {
        // With Sstc, STIP follows stimecmp alone.
        const stip = bitSet('menvcfg', menvcfgBit.stce).select(i64(0), i64(interruptBit.stip))
        const mask = f.let(stip.or(interruptBit.ssip | interruptBit.seip))
        const soft = get('mipSoft')
        // A read-modify-write must not keep what the line says after the line falls: while it is high, writing a one
        // leaves the software's own SEIP as it is.
        const seip = f.let(get('mipLines').and(soft.not()).and(interruptBit.seip))
        put(f, 'mipSoft', soft.and(mask.not()).or(value.and(mask).and(seip.not())))
        return 'lookUpAfresh'
      },
    },
    plain(csr.mtvec, 'mtvec', ~2n),
    plain(csr.mcounteren, 'mcounteren', 0xffff_ffffn),
    {
      addresses: [csr.menvcfg],
      read: () => get('menvcfg'),
      write: (f, value) => {
        put(f, 'menvcfg', value.and(menvcfgBit.fiom | menvcfgBit.adue | menvcfgBit.stce))
        f.if(bitSet('menvcfg', menvcfgBit.stce), () => put(f, 'mipSoft', get('mipSoft').and(~interruptBit.stip)))
        return timersChanged(f)
      },
    },
    plain(csr.mseccfg, 'mseccfg', mseccfgBit.sseed | mseccfgBit.useed),
    {
      addresses: [csr.mcountinhibit],
      read: () => get('mcountinhibit'),
      write: (f, value, count) => {
        // A counter's base includes the count while it stands still.
        const old = f.let(get('mcountinhibit'))
        const next = f.let(value.and(mcountinhibitBit.cy | mcountinhibitBit.ir))
        for (const [bit, base] of [
          [mcountinhibitBit.cy, 'mcycleBase'],
          [mcountinhibitBit.ir, 'minstretBase'],
        ] as const) {
          f.if(next.and(old.not()).and(bit).ne(0), () => put(f, base, get(base).add(count)))
          f.if(old.and(next.not()).and(bit).ne(0), () => put(f, base, get(base).sub(count)))
        }
        put(f, 'mcountinhibit', next)
        return undefined
      },
    },
    plain(csr.mscratch, 'mscratch'),
    plain(csr.mepc, 'mepc', ~1n),
    plain(csr.mcause, 'mcause'),
    plain(csr.mtval, 'mtval'),
    { addresses: [csr.mcycle], ...mcycle },
    { addresses: [csr.minstret], ...minstret },
    readOnly(0n, ...range(csr.mhpmcounter3, csr.mhpmcounter3 + 28)),
    readOnly(0n, ...range(csr.mhpmevent3, csr.mhpmevent3 + 28)),
    // RV64 has only the even pmpcfg registers.
    readOnly(0n, ...range(0, 7).map((index) => csr.pmpcfg0 + 2 * index), ...range(csr.pmpaddr0, csr.pmpaddr0 + 63)),
    readOnly(0n, csr.tselect, csr.tdata1, csr.tdata2, csr.tdata3),
    readOnly(0n, csr.mvendorid, csr.marchid, csr.mimpid, csr.mhartid, csr.mconfigptr),
  ]

  /** Runs the branch of the CSR whose index is given; falls behind all of them where there is none. */
  const dispatch = (f: FunctionBuilder, address: Expression, body: (definition: CsrDefinition) => void): void => {
    const targets: Label[] = []
    f.block((none) => {
      targets[0] = none
      // Nested blocks, the first definition innermost: a branch to targets[i] lands at the body of definition i − 1.
      const wrap = (index: number): void => {
        if (index === 0) {
          f.brTable(load('i32', 'load8u', address, csrIndexBase), targets, none)
          return
        }
        f.block((label) => {
          targets[index] = label
          wrap(index - 1)
        })
        body(definitions[index - 1]!)
      }
      wrap(definitions.length)
    })
  }

  module.define(core.readCsr, (f, address, count) => {
    dispatch(f, address!, (definition) => f.return(definition.read(f, count!)))
    f.return(i64(0))
  })

  module.define(core.writeCsr, (f, address, value, count) => {
    dispatch(f, address!, (definition) => {
      const effect = definition.write?.(f, value!, count!)
      f.return(i32(effect === 'lookUpAfresh' ? 1 : 0))
    })
    f.return(i32(0))
  })

  module.define(core.mayAccessCsr, (f, address, isWrite) => {
    const least = address!.shrU(8).and(3)
    const readOnlyOne = address!.shrU(10).eq(3)
    f.if(get('privilege').toI32().ltU(least).or(isWrite!.and(readOnlyOne)), () => f.return(i32(0)))
    dispatch(f, address!, (definition) => f.return(definition.mayAccess?.(isWrite!) ?? i32(1)))
    f.return(i32(0))
  })

  module.define(core.accrueFlags, (f, flags) => {
    const old = get('fcsr')
    const next = f.let(old.or(flags!.toI64U()))
    f.if(next.ne(old), () => setFcsr(f, next))
  })

  module.define(core.ticksAt, (f, count) => {
    // (n − n0) · rate / 2^32, rounded down: the delta in two halves. Below the cap no step overflows.
    const delta = f.let(count!.sub(get('clockN0')))
    f.if(delta.geU(get('clockCapDelta')), () => f.return(get('clockT0').add(get('clockCap'))))
    const rate = f.let(get('clockRate'))
    const low = f.let(delta.and(0xffff_ffffn))
    const rateLow = rate.and(0xffff_ffffn)
    const rateHigh = rate.shrU(32)
    const whole = delta.shrU(32).mul(rate).add(low.mul(rateHigh)).add(low.mul(rateLow).shrU(32))
    f.return(get('clockT0').add(whole))
  })

  return new Map(
    definitions.flatMap(({ addresses }, index) => addresses.map((address) => [address, index + 1] as const)),
  )
}
