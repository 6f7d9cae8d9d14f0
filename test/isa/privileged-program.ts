/**
 * Random programs for everything that user mode cannot show: traps and where they go, address translation and its faults,
 * accessed and dirty bits, CSR access and legal values, interrupts, the rules of mstatus. They run bare, the same on our
 * machine and on `qemu-system-riscv64 -machine virt`.
 *
 * A program is a row of probes. Each sets every CSR that matters, enters a mode, runs one or two instructions that may or
 * may not trap, and ends in an ECALL at the latest. The handler in M mode writes CSRs and some registers into a record and
 * goes on with the next probe. Traps delegated to S mode meet an ECALL there, so they end in M mode as well.
 *
 *   0x80000000  code: handler, probes, end        0x80600000  page tables
 *   0x80200000  constants                         0x80800000  records
 *   0x80700000  stop word, next probe             0x80a00000  data area
 */

import type { Prng } from '../../src/base/prng.ts'
import { csr } from '../../src/riscv/csrs.ts'
import { decode } from '../../src/riscv/decoder.ts'
import { CodeBuffer, ConstantPool } from './code-buffer.ts'
import { type Segment, writeElf } from './elf-writer.ts'
import { encodeByName } from './encoder.ts'
import { integerOperand } from './operands.ts'
import {
  dataAreaBase,
  dataAreaBytes,
  firstCodeFrame,
  nowhere,
  PageTables,
  type ProbeAddress,
  tablesBase,
  userAlias,
} from './page-tables.ts'

const codeBase = 0x8000_0000
const constantsBase = 0x8020_0000
export const stopWord = 0x8070_0000
const nextProbeWord = 0x8070_0008
export const recordsBase = 0x8080_0000
/** QEMU's and our machine's way to switch off: the sifive_test device. */
const finisher = 0x10_0000
export const timerCompare = 0x200_4000
const finisherPass = 0x5555n

const [ra, t0, t6] = [1, 5, 31]
const [a0, a1, a2] = [10, 11, 12]
const recordedRegisters = [ra, 10, 11, 12, 13, 14, 15]
const recordedCsrs = [
  'mcause',
  'mepc',
  'mtval',
  'mstatus',
  'mip',
  'mie',
  'scause',
  'sepc',
  'stval',
  'satp',
  'sscratch',
  'stvec',
  'medeleg',
  'mideleg',
  'mcounteren',
  'scounteren',
  'fcsr',
] as const
/** What a record holds, in order. */
export const recordNames = [...recordedRegisters.map((register) => `x${register}`), ...recordedCsrs]
const recordBytes = recordNames.length * 8

const status = {
  sie: 1n << 1n,
  mie: 1n << 3n,
  spie: 1n << 5n,
  mpie: 1n << 7n,
  spp: 1n << 8n,
  mprv: 1n << 17n,
  sum: 1n << 18n,
  mxr: 1n << 19n,
  tvm: 1n << 20n,
  tw: 1n << 21n,
  tsr: 1n << 22n,
} as const
const supervisorInterrupts = (1n << 1n) | (1n << 5n) | (1n << 9n)
/** All but ECALL from S, which is how a probe comes back to M mode. */
const delegable = 0xb1ffn
const hardwareUpdatesAccessed = 1n << 61n

/** Not canonical. */
const unmapped = 0xdead_beef_0000n

type Privilege = 0 | 1 | 3

export interface Probe {
  readonly start: number
  /** Where its mode is entered, physically. */
  readonly body: number
  readonly end: number
  readonly description: string
  readonly isAtomic: boolean
}

export interface PrivilegedProgram {
  readonly segments: readonly Segment[]
  readonly elf: Uint8Array
  readonly probes: readonly Probe[]
  /** Where the run ends on the bare machine: behind the store to the stop word. */
  readonly end: number
  /** Where SFENCE.VMA stands that is no probe, but what the specification asks software for. */
  readonly flushes: readonly number[]
}

/** CSRs that probes read and write. Not those that QEMU and we rightly have in different sizes (misa, PMP, hpm events). */
const probedCsrs = {
  3: [
    'mstatus',
    'medeleg',
    'mideleg',
    'mie',
    'mip',
    'mcounteren',
    'mepc',
    'mcause',
    'mtval',
    'mhartid',
    'mcountinhibit',
  ],
  1: ['sstatus', 'sie', 'stvec', 'scounteren', 'sscratch', 'sepc', 'scause', 'stval', 'sip', 'satp', 'senvcfg'],
  0: ['fflags', 'frm', 'fcsr', 'cycle', 'time', 'instret'],
} as const
const unreadable = new Set(['cycle', 'time', 'instret', 'mcountinhibit'])
const noSuchCsrs = [0x5c0, 0x8ff, 0x0c0, 0x400, 0xbc0, 0xdc0, 0xfc0]

export function writePrivilegedProgram(prng: Prng, probeCount: number): PrivilegedProgram {
  return new PrivilegedWriter(prng).write(probeCount)
}

class PrivilegedWriter {
  readonly #prng: Prng
  readonly #tables: PageTables
  readonly #code = new CodeBuffer(codeBase, new Uint8Array(constantsBase - codeBase))
  readonly #constants = new ConstantPool(constantsBase)
  readonly #flushes: number[] = []
  #place: ProbeAddress
  #supervisorHandler = 0
  #handler = 0

  constructor(prng: Prng) {
    this.#prng = prng
    this.#tables = new PageTables(prng)
    this.#place = this.#tables.pick()
  }

  write(probeCount: number): PrivilegedProgram {
    const code = this.#code
    const start = code.emitNamed('jal', {})
    this.#writeHandlers()
    const parked = code.emitNamed('jal', {})
    code.patch(start, encodeByName('jal', { immediate: code.address - start }))
    // QEMU has a second hart, which is parked: with one hart alone its atomics load first, and fault like loads.
    code.emitNamed('csrrs.read', { rd: t0, csr: csr.mhartid })
    code.emitNamed('bne', { rs1: t0, immediate: parked - code.address })
    this.#setCsr('mscratch', BigInt(recordsBase))
    this.#setCsr('mtvec', BigInt(this.#handler))
    this.#setCsr('menvcfg', hardwareUpdatesAccessed)
    // QEMU's timer compare register starts with 0, which would be pending at once.
    this.#load(t0, BigInt(timerCompare))
    code.emitNamed('addi', { rd: t6, immediate: -1 })
    code.emitNamed('sd', { rs1: t0, rs2: t6 })
    const probes: Probe[] = []
    for (let count = 0; count < probeCount; count++) probes.push(this.#writeProbe())
    const end = this.#writeEnd()
    const segment = (address: number, bytes: Uint8Array): Segment => ({ address, bytes, memoryBytes: bytes.length })
    const segments = [
      segment(codeBase, code.bytes),
      segment(constantsBase, this.#constants.bytes),
      segment(tablesBase, this.#tables.initialBytes),
      segment(stopWord, new Uint8Array(4096)),
      segment(dataAreaBase, this.#dataArea()),
    ]
    return { segments, elf: writeElf(codeBase, segments), probes, end, flushes: this.#flushes }
  }

  /** Random data; and ECALLs, in every second frame shifted by two bytes, so that some lie across the frame's end. */
  #dataArea(): Uint8Array {
    const bytes = new Uint8Array(dataAreaBytes)
    const view = new DataView(bytes.buffer)
    const codeStart = firstCodeFrame * 4096
    for (let offset = 0; offset < codeStart; offset += 8) view.setBigUint64(offset, this.#prng.u64(), true)
    for (let offset = codeStart; offset < dataAreaBytes; offset += 4) {
      view.setUint32(offset, (offset >> 12) & 1 ? 0x0073_0000 : 0x0000_0073, true)
    }
    return bytes
  }

  /** Loads a constant; leaves nothing else changed. */
  #load(register: number, value: bigint): void {
    this.#code.accessAt('ld', register, this.#constants.add(BigInt.asUintN(64, value)), { rd: register })
  }

  #setCsr(name: keyof typeof csr, value: bigint): void {
    this.#load(t0, value)
    this.#code.emitNamed('csrrw', { rs1: t0, csr: csr[name] })
  }

  #writeHandlers(): void {
    const code = this.#code
    while (code.address % 256 !== 0) code.emitNamed('addi', {})
    this.#supervisorHandler = code.address
    for (let cause = 0; cause < 64; cause++) code.emitNamed('ecall', {})
    this.#handler = code.address
    code.emitNamed('csrrw', { rd: t6, rs1: t6, csr: csr.mscratch })
    let offset = 0
    const store = (register: number): void => {
      code.emitNamed('sd', { rs2: register, rs1: t6, immediate: offset })
      offset += 8
    }
    for (const register of recordedRegisters) store(register)
    for (const name of recordedCsrs) {
      // fcsr can only be read with FS on; mstatus is in the record by then.
      if (name === 'fcsr') {
        this.#load(t0, 3n << 13n)
        code.emitNamed('csrrs', { rs1: t0, csr: csr.mstatus })
      }
      code.emitNamed('csrrs.read', { rd: t0, csr: csr[name] })
      store(t0)
    }
    code.emitNamed('addi', { rd: t6, rs1: t6, immediate: recordBytes })
    code.emitNamed('csrrw', { rs1: t6, csr: csr.mscratch })
    code.accessAt('ld', t0, nextProbeWord, { rd: t0 })
    code.emitNamed('jalr', { rs1: t0 })
  }

  #writeEnd(): number {
    const code = this.#code
    code.accessAt('sd', t0, stopWord, { rs2: 0 })
    const end = code.address
    this.#load(t0, BigInt(finisher))
    this.#load(t6, finisherPass)
    code.emitNamed('sw', { rs1: t0, rs2: t6 })
    code.emitNamed('jal', {})
    return end
  }

  #bits(choices: Readonly<Record<string, bigint>>, probability: number): bigint {
    return Object.values(choices).reduce((bits, flag) => bits | (this.#prng.chance(probability) ? flag : 0n), 0n)
  }

  #emitFlush(): void {
    this.#flushes.push(this.#code.emitNamed('sfence.vma', {}))
  }

  #writeProbe(): Probe {
    const prng = this.#prng
    const code = this.#code
    const start = code.address
    // Often the page of the probe before, with an entry on the way to it changed: what was cached must be forgotten.
    if (prng.chance(0.4)) this.#place = this.#tables.pick()
    if (prng.chance(0.5)) {
      const { address, entry } = this.#tables.change(this.#place)
      this.#load(t0, entry)
      code.loadAddress(t6, address)
      code.emitNamed('sd', { rs1: t6, rs2: t0 })
    }
    const privilege = prng.pick([3, 1, 1, 0, 0] as const)
    const place = this.#place
    const isTranslated = prng.chance(0.85)
    const satp = isTranslated ? (8n << 60n) | BigInt(PageTables.rootAddress(place.root) / 4096) : 0n
    const previous = prng.pick([0n, 1n, 3n])
    const supervisorPrevious = prng.below(2)
    const { sum, mxr, tvm, tw, tsr, spie, mpie } = status
    let mstatus =
      this.#bits({ sum, mxr, spie, mpie }, 0.5) |
      this.#bits({ tvm, tw, tsr }, 0.2) |
      this.#bits({ sie: status.sie, mie: status.mie }, 0.3) |
      (BigInt(supervisorPrevious) * status.spp) |
      (BigInt(prng.pick([0, 1, 2, 3, 3])) << 13n) |
      ((privilege === 3 ? previous : BigInt(privilege)) << 11n)
    const isModified = privilege === 3 && prng.chance(0.5) && previous !== 3n
    const probe = this.#chooseProbe(privilege, place, isTranslated && (privilege !== 3 || isModified), mstatus, satp)
    // QEMU 7.2 does not yet clear MPRV when xRET leaves M mode (privileged specification 1.12, "Memory Privilege").
    if (isModified && !/ret$/.test(probe.description)) mstatus |= status.mprv
    const hasInterrupts = prng.chance(0.2)
    const isStvecKept = !probe.description.includes('stvec')
    this.#load(a0, probe.address ?? integerOperand(prng))
    this.#load(a1, probe.data ?? integerOperand(prng))
    this.#load(a2, integerOperand(prng))
    for (const register of [ra, 13, 14, 15]) this.#load(register, integerOperand(prng))
    this.#setCsr('mstatus', 3n << 13n)
    this.#setCsr('fcsr', BigInt(prng.below(5) << 5))
    const delegated = isStvecKept && prng.chance(0.6) ? prng.u64() & delegable : 0n
    // Access faults of loads and stores go to the same place: see `comparable`.
    this.#setCsr('medeleg', (delegated & ~(1n << 7n)) | ((delegated & (1n << 5n)) << 2n))
    this.#setCsr('mideleg', isStvecKept ? prng.u64() & supervisorInterrupts : 0n)
    this.#setCsr('mie', hasInterrupts ? prng.u64() & supervisorInterrupts : 0n)
    // One at a time: QEMU 7.2 takes the lowest number first, not the order that the specification gives.
    this.#setCsr('mip', hasInterrupts ? 1n << BigInt(prng.pick([1, 5, 9])) : 0n)
    this.#setCsr('mcounteren', prng.u64() & 7n)
    this.#setCsr('scounteren', prng.u64() & 7n)
    this.#setCsr('stvec', BigInt(this.#supervisorHandler + prng.below(2)))
    for (const name of ['sscratch', 'stval', 'scause', 'mcause', 'mtval'] as const) this.#setCsr(name, 0n)
    this.#setCsr('satp', satp)
    this.#emitFlush()

    // Addresses of this probe's own code are known when everything in front of it is written.
    const setup = { sepc: this.#reserve('sepc'), mepc: this.#reserve('mepc') }
    const nextProbe = this.#reserve()
    code.loadAddress(t6, nextProbeWord)
    code.emitNamed('sd', { rs1: t6, rs2: t0 })
    this.#setCsr('mstatus', mstatus)
    if (privilege !== 3) code.emitNamed('mret', {})
    const body = code.address
    probe.write()
    // Where MRET and SRET of the probe lead, and the end of every probe.
    const after = code.address
    code.emitNamed('ecall', {})

    const seenFrom = (mode: Privilege, address: number): bigint =>
      BigInt(address) + (mode === 0 && isTranslated ? BigInt(userAlias) : 0n)
    setup.sepc(seenFrom(supervisorPrevious === 1 ? 1 : 0, after))
    setup.mepc(privilege === 3 ? seenFrom(Number(previous) as Privilege, after) : seenFrom(privilege, body))
    nextProbe(BigInt(code.address))
    const description = `${'US?M'[privilege]} mode: ${probe.description}`
    return { start, body, end: code.address, description, isAtomic: probe.description.startsWith('amo') }
  }

  /** Loads a constant that is known later into t0, and puts it into a CSR. */
  #reserve(name?: keyof typeof csr): (value: bigint) => void {
    const address = this.#constants.add(0n)
    this.#code.accessAt('ld', t0, address, { rd: t0 })
    if (name) this.#code.emitNamed('csrrw', { rs1: t0, csr: csr[name] })
    return (value) => this.#constants.set(address, value)
  }

  #chooseProbe(
    privilege: Privilege,
    place: ProbeAddress,
    isTranslated: boolean,
    mstatus: bigint,
    satp: bigint,
  ): ProbeBody {
    const dice = this.#prng.below(100)
    if (dice < 50) return this.#memoryProbe(place, isTranslated)
    if (dice < 62) return this.#fetchProbe(privilege, place, satp)
    if (dice < 82) return this.#csrProbe(satp)
    if (dice < 92) return this.#systemProbe(privilege, mstatus)
    if (dice < 97) return this.#floatProbe(place, isTranslated)
    return this.#illegalProbe()
  }

  /** The frame is data, or nothing is mapped: then a store does no harm. */
  #isData(place: ProbeAddress): boolean {
    const destination = this.#tables.destinationOf(place)
    return typeof destination === 'number' ? destination < firstCodeFrame : destination !== 'elsewhere'
  }

  /** An address for data that is safe to write; without translation a physical one, now and then of nothing. */
  #dataPlace(place: ProbeAddress, offset: number, isTranslated: boolean): bigint {
    if (!isTranslated) {
      const frame = this.#prng.below(firstCodeFrame - 1)
      return this.#prng.chance(0.2) ? nowhere : BigInt(dataAreaBase + frame * 4096 + offset)
    }
    const next = { root: place.root, address: BigInt.asUintN(64, place.address + 4096n) }
    // A store that runs out of RAM has written its first part when QEMU reports the fault; here it writes nothing.
    const isInside = offset <= 4096 - 8 || (this.#isData(next) && this.#tables.destinationOf(next) !== 'nowhere')
    const isSafe = this.#isData(place) && isInside
    return isSafe ? place.address + BigInt(offset) : unmapped
  }

  #memoryProbe(place: ProbeAddress, isTranslated: boolean): ProbeBody {
    const prng = this.#prng
    const code = this.#code
    const name = prng.pick([
      'lb',
      'lh',
      'lw',
      'ld',
      'lbu',
      'lhu',
      'lwu',
      'sb',
      'sh',
      'sw',
      'sd',
      'sd',
      'amoadd.w',
      'amoswap.d',
      'lr.w',
      'lr.d',
      'sc.d',
    ])
    const isAtomic = name.includes('.')
    const size = /^[ls]b/.test(name)
      ? 1
      : /^[ls]h/.test(name)
        ? 2
        : /w/.test(name.slice(-2)) && name !== 'amoswap.d'
          ? 4
          : 8
    let offset = prng.below(4096 / size) * size
    // QEMU 7.2 reports a load across a page's end with the address rounded down: only stores go there.
    if (name.startsWith('s') && !isAtomic && prng.chance(0.2)) offset = 4096 - size + 1 + prng.below(7)
    else if (!isAtomic && prng.chance(0.2)) offset = Math.min(offset + prng.below(size), 4096 - size)
    const address = this.#dataPlace(place, offset, isTranslated)
    return {
      description: `${name} at ${address.toString(16)}`,
      address,
      write: () => {
        if (name === 'sc.d') code.emitNamed('lr.d', { rd: 13, rs1: a0 })
        code.emitNamed(name, { rd: a2, rs1: a0, rs2: a1 })
        // What was stored, and that the right page got it.
        if (/^(s[bhwd]|amo|sc)/.test(name) && prng.chance(0.5)) code.emitNamed('lb', { rd: 14, rs1: a0 })
      },
    }
  }

  #fetchProbe(privilege: Privilege, place: ProbeAddress, satp: bigint): ProbeBody {
    const page1 = this.#tables.destinationOf(place)
    const page2 = this.#tables.destinationOf({ root: place.root, address: BigInt.asUintN(64, place.address + 4096n) })
    const isSafe = [page1, page2].every((it) => (typeof it === 'number' ? it >= firstCodeFrame : it !== 'elsewhere'))
    const isTranslated = satp !== 0n && privilege !== 3
    const physical = BigInt(dataAreaBase + (firstCodeFrame + this.#prng.below(200)) * 4096)
    const page = isTranslated ? (isSafe ? place.address : unmapped) : physical
    // QEMU 7.2 aborts when an instruction goes on where no memory is.
    const last = page1 === 'nowhere' || page2 === 'nowhere' ? 0xffcn : 0xffen
    const address = page + this.#prng.pick([0n, 2n, 4n, last, last, BigInt(this.#prng.below(2047) * 2)])
    return {
      description: `fetch from ${address.toString(16)}`,
      address,
      write: () => this.#code.emitNamed('jalr', { rd: ra, rs1: a0 }),
    }
  }

  #csrProbe(satp: bigint): ProbeBody {
    const prng = this.#prng
    const name = prng.pick(probedCsrs[prng.pick([3, 1, 1, 0] as const)])
    const anyAccess = prng.pick(['csrrw', 'csrrs', 'csrrc', 'csrrs.read', 'csrrwi', 'csrrsi', 'csrrci'])
    const isMissing = prng.chance(0.1)
    const number = isMissing ? prng.pick(noSuchCsrs) : csr[name]
    const isWhole = name === 'satp' || (name.endsWith('status') && anyAccess === 'csrrwi')
    const access = isWhole && anyAccess !== 'csrrs.read' ? 'csrrw' : anyAccess
    // QEMU 7.2 lets UXL and SXL be written; here they stay 2, RV64.
    const widths = name.endsWith('status') && access === 'csrrw' ? 10n << 32n : 0n
    const data = this.#csrValue(name, satp) | widths
    return {
      description: `${access} ${isMissing ? `0x${number.toString(16)}` : name}`,
      data,
      write: () => {
        const rd = unreadable.has(name) ? 0 : a2
        this.#code.emitNamed(access, { rd, rs1: a1, immediate: Number(data & 31n), csr: number })
      },
    }
  }

  /**
   * A value whose every bit has the same meaning on both sides. QEMU 7.2 keeps bits of mie, sepc, scounteren and senvcfg
   * that are read-only zero for a hart like this one.
   */
  #csrValue(name: string, satp: bigint): bigint {
    const prng = this.#prng
    const value = integerOperand(prng)
    switch (name) {
      case 'mstatus':
      case 'sstatus':
        // MPP = 2 is reserved: QEMU 7.2 keeps it. So it does with VS, MPV and GVA of extensions that it is told not to have.
        return value & ~((1n << 12n) | (3n << 9n) | (0xffn << 32n))
      case 'satp':
        return prng.pick([satp, 0n, (8n << 60n) | BigInt(tablesBase / 4096), (1n << 60n) | 5n, (15n << 60n) | 1n])
      case 'medeleg':
        return value & delegable
      case 'mideleg':
        return value & supervisorInterrupts
      case 'mip':
        return prng.pick([0n, 1n << 1n, 1n << 5n, 1n << 9n])
      case 'mie':
      case 'sie':
        return value & 0xaaan
      case 'stvec':
        return value & ~2n
      case 'mepc':
      case 'sepc':
        return value & ~1n
      case 'mcounteren':
      case 'scounteren':
        // The counters that every QEMU has: 10 keeps no bit for others, 7.2 keeps all 32.
        return value & 0x7_ffffn
      case 'senvcfg':
        return value & 1n
      case 'fflags':
      case 'frm':
      case 'fcsr':
      case 'cycle':
      case 'time':
      case 'instret':
      case 'mhartid':
        // Setting no bit is a write all the same. QEMU 7.2 leaves it out: FS stays as it is, a read-only CSR is no error.
        return value | 1n
      default:
        return value
    }
  }

  #systemProbe(privilege: Privilege, mstatus: bigint): ProbeBody {
    const names = ['ecall', 'ebreak', 'c.ebreak', 'sret', 'mret', 'sfence.vma', 'fence.i']
    // Where WFI would wait, it is left out: nothing would wake the hart.
    if (privilege === 0 || (privilege === 1 && mstatus & status.tw)) names.push('wfi')
    const name = this.#prng.pick(names)
    return {
      description: name,
      write: () => {
        if (name === 'c.ebreak') this.#code.emit(0x9002)
        else this.#code.emitNamed(name, name === 'sfence.vma' ? { rs1: a0, rs2: 0 } : {})
      },
    }
  }

  #floatProbe(place: ProbeAddress, isTranslated: boolean): ProbeBody {
    const code = this.#code
    const address = this.#dataPlace(place, this.#prng.below(512) * 8, isTranslated)
    const name = this.#prng.pick([
      'fadd.d',
      'fmv.x.d',
      'fmv.d.x',
      'fld',
      'fsd',
      'flw',
      'fcvt.d.l',
      'fsgnj.s',
      'fmadd.s',
    ])
    const rm = this.#prng.pick([0, 4, 7, 7, 5, 6])
    return {
      description: `${name} rm ${rm} at ${address.toString(16)}`,
      address,
      write: () => code.emitNamed(name, { rd: a2, rs1: a0, rs2: a1, rs3: a2, rm }),
    }
  }

  #illegalProbe(): ProbeBody {
    const prng = this.#prng
    const illegal = ((): number => {
      for (;;) {
        const word = prng.chance(0.5) ? prng.below(0x1_0000) : Number(prng.u64() & 0xffff_ffffn)
        if ((word & 3) === 3 ? (word & 0x1c) === 0x1c : false) continue
        if (((word & 3) === 3) === word > 0xffff && decode(word) === undefined) return word
      }
    })()
    return { description: `illegal ${illegal.toString(16)}`, write: () => this.#code.emit(illegal) }
  }
}

interface ProbeBody {
  readonly description: string
  /** In a0. */
  readonly address?: bigint
  /** In a1. */
  readonly data?: bigint
  readonly write: () => void
}
