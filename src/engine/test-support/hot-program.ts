/**
 * Random programs that run round and round, so that their code gets hot: what the tests of translated code run. They mix
 * all that may end, divert or void a region: loops, calls and returns, traps, timers and device interrupts, misaligned and
 * page-crossing accesses, atomics, CSRs, floating point, stores into their own code, and edits of the page tables that map
 * code and data.
 *
 * They end up in M mode's handler for every trap, which goes on behind the instruction.
 */

import { Prng } from '../../base/prng.ts'
import { exceptionCause } from '../../riscv/causes.ts'
import { csr } from '../../riscv/csrs.ts'
import { interruptBit, mstatusBit } from '../core/csr-fields.ts'
import { type Engine, ramBase } from '../types.ts'
import { type Assembler, encode, reg } from './assembler.ts'
import { deviceBase, loadProgram, loadWord64, type ScriptedBus, storeWord64 } from './bare-hart.ts'
import { kernelPage, PageTables, pte, rootTable } from './page-tables.ts'

const { ra, t0, t1, t2, s0, s1, t3, t4 } = reg
const [s2, s3] = [18, 19]
/** What random instructions calculate with. */
const work = [10, 11, 12, 13, 14, 15, 16, 17]

const base = BigInt(ramBase)
const dataOffset = 0x1_0000
const dataPages = 4
const handlerOffset = 0x8000
const codePages = 3
/** Where S mode sees code, data and the tables. */
const codeVirtual = 0x4000_0000n
const codeAlias = 0x4080_0000n
const dataVirtual = 0x5000_0000n
const tablesVirtual = 0x6000_0000n

/** RAM that a hot program needs. */
export const hotProgramRamBytes = 0x12_0000

const registerOperations = [
  'add',
  'sub',
  'xor',
  'or',
  'and',
  'sll',
  'sra',
  'srlw',
  'addw',
  'mul',
  'mulh',
  'div',
  'remu',
]
const immediateOperations = ['addi', 'xori', 'andi', 'addiw', 'sltiu']
const loads = ['lb', 'lbu', 'lh', 'lhu', 'lw', 'lwu', 'ld']
const stores = ['sb', 'sh', 'sw', 'sd']
const atomics = ['amoadd.w', 'amoxor.d', 'amomaxu.w', 'amoswap.d', 'amomin.d']
const floats = ['fadd.d', 'fmul.d', 'fsub.s', 'fdiv.d', 'fmadd.d', 'fsgnjn.d', 'fmin.s', 'feq.d']
const branches = ['beq', 'bne', 'blt', 'bge', 'bltu', 'bgeu']

/**
 * `hostile` is supervisor mode with all that an operating system may do to its mappings and rarely does: pages that come
 * and go and change places while they run, code at two addresses, instructions across pages, misaligned atomics, timers
 * that are due at any instruction.
 */
export const hotModes = ['machine', 'supervisor', 'hostile'] as const
/** Bits of a page table entry, and the lowest one of its page number: two pages change places. */
const hostileEdits = [0x40, 0xc0, 0x80, 0x01, 0x02, 0x04, 0x08, 0x10, 0x400, 0x400]

export type HotMode = (typeof hotModes)[number]

/** Writes a program into an engine that was just made, and sets it going. */
export function loadHotProgram(engine: Engine, prng: Prng, mode: HotMode): void {
  new HotProgram(engine, prng, mode).load()
}

/** A device that now and then raises an interrupt or asks for a stop, by the number of the access alone. */
export function scriptDevice(engine: Engine, bus: ScriptedBus): void {
  bus.onAccess = () => {
    const accesses = bus.accesses.length
    bus.loadValue = BigInt(accesses)
    if (accesses % 3 === 0) engine.setInterrupt(interruptBit.meip, accesses % 2 === 0)
    if (accesses % 7 === 0) engine.requestStop()
    if (accesses % 4 === 0) writeAsDevice(engine, new Prng(accesses))
  }
}

/** What a device's write into RAM may hit: code, which stays what it is, or bits of a live page table. */
function writeAsDevice(engine: Engine, prng: Prng): void {
  if (prng.chance(0.5)) {
    const offset = prng.below(codePages * 4096 - 64)
    engine.storeBytes(ramBase + offset, engine.ram.slice(offset, offset + 1 + prng.below(64)))
    return
  }
  const offset = rootTable + 8 * prng.below(8 * 512)
  const entry = loadWord64(engine, offset)
  if ((entry & pte.v) !== 0n) storeWord64(engine, offset, entry ^ prng.pick([pte.a, pte.d, 0n]))
}

class HotProgram {
  readonly #engine: Engine
  readonly #prng: Prng
  readonly #mode: HotMode
  /** Bytes in front of the code: with two, 32-bit instructions lie across page borders. */
  readonly #shift: number
  /** Offsets in RAM of the leaf entries of code and data pages. */
  readonly #entries: number[] = []
  /** Those of code pages. */
  #codeEntries: readonly number[] = []
  #labels = 0

  constructor(engine: Engine, prng: Prng, mode: HotMode) {
    this.#engine = engine
    this.#prng = prng
    this.#mode = mode
    this.#shift = mode === 'hostile' && prng.chance(0.7) ? 2 : 0
  }

  get #isHostile(): boolean {
    return this.#mode === 'hostile'
  }

  load(): void {
    const engine = this.#engine
    const isMapped = this.#mode !== 'machine'
    if (isMapped) this.#map()
    this.#loadHandler()
    const [data, tables] = isMapped ? [dataVirtual, tablesVirtual] : [base + BigInt(dataOffset), base + 0x20000n]
    if (this.#shift > 0) engine.storeBytes(ramBase, Uint8Array.of(0x01, 0x00))
    loadProgram(engine, this.#shift, (a) => this.#writeCode(a, data, tables))
    for (let offset = dataOffset; offset < dataOffset + dataPages * 4096; offset += 8) {
      storeWord64(engine, offset, this.#prng.u64())
    }
    for (const register of work) engine.setX(register, this.#prng.u64())
    engine.setCsr(csr.mtvec, base + BigInt(handlerOffset))
    engine.setCsr(csr.menvcfg, (1n << 63n) | (this.#prng.chance(0.7) ? 1n << 61n : 0n))
    engine.setCsr(csr.mcounteren, 7n)
    engine.setCsr(csr.stimecmp, 100n)
    engine.setCsr(csr.mie, interruptBit.stip | interruptBit.meip)
    engine.setCsr(csr.mstatus, mstatusBit.mie | mstatusBit.fs | (isMapped ? mstatusBit.sum : 0n))
    if (isMapped) {
      engine.privilege = 1
      engine.pc = codeVirtual
    }
  }

  #map(): void {
    const tables = new PageTables(this.#engine)
    const mapped = (virtual: bigint, offset: number): number => tables.map(virtual, offset, kernelPage)
    for (let page = 0; page < codePages; page++) {
      this.#entries.push(mapped(codeVirtual + BigInt(page * 4096), page * 4096))
    }
    if (this.#isHostile) {
      for (let page = 0; page < codePages; page++) {
        this.#entries.push(mapped(codeAlias + BigInt(page * 4096), page * 4096))
      }
    }
    this.#codeEntries = [...this.#entries]
    for (let page = 0; page < dataPages; page++) {
      this.#entries.push(mapped(dataVirtual + BigInt(page * 4096), dataOffset + page * 4096))
    }
    for (let page = 0; page < 16; page++) mapped(tablesVirtual + BigInt(page * 4096), rootTable + page * 4096)
    tables.map(BigInt(deviceBase), deviceBase - ramBase, pte.v | pte.r | pte.w | pte.a | pte.d)
    tables.enable()
  }

  /** Interrupts: push the timer on, calm the line. Exceptions: go on behind the instruction, or from the start. */
  #loadHandler(): void {
    const start = this.#mode === 'machine' ? base : codeVirtual
    loadProgram(this.#engine, handlerOffset, (a) => {
      a.emit('csrrw', { csr: csr.mscratch, rd: t4, rs1: t4 })
      a.emit('csrrs.read', { csr: csr.mcause, rd: t4 }).to('interrupt', 'blt', { rs1: t4, rs2: 0 })
      if (this.#isHostile) this.#writeRepair(a)
      a.emit('csrrs.read', { csr: csr.mepc, rd: t4 }).emit('addi', { rd: t4, rs1: t4, imm: 4 })
      a.emit('csrrw', { csr: csr.mepc, rs1: t4 })
      a.emit('srli', { rd: t4, rs1: t4, imm: 12 }).emit('andi', { rd: t4, rs1: t4, imm: 0xff })
      a.emit('sltiu', { rd: t4, rs1: t4, imm: codePages }).to('out', 'bne', { rs1: t4 })
      a.li(t4, start).emit('csrrw', { csr: csr.mepc, rs1: t4 })
      a.to('out', 'jal')
      a.label('interrupt')
      a.emit('csrrs.read', { csr: csr.stimecmp, rd: t4 }).emit('addi', {
        rd: t4,
        rs1: t4,
        imm: this.#isHostile ? 20 + this.#prng.below(200) : 677,
      })
      a.emit('csrrw', { csr: csr.stimecmp, rs1: t4 })
      a.li(t4, BigInt(deviceBase)).emit('sw', { rs1: t4, rs2: t4 })
      a.label('out').emit('csrrw', { csr: csr.mscratch, rd: t4, rs1: t4 }).emit('mret')
    })
  }

  /** Code that cannot be fetched gets its pages back. The program's scratch registers are lost, as good as any other noise. */
  #writeRepair(a: Assembler): void {
    a.emit('addi', { rd: t4, rs1: t4, imm: -exceptionCause.instructionPageFault }).to('mapped', 'bne', { rs1: t4 })
    for (const entry of this.#codeEntries) {
      a.li(t1, base + BigInt(entry))
        .li(t2, loadWord64(this.#engine, entry))
        .emit('sd', { rs1: t1, rs2: t2 })
    }
    a.label('mapped')
  }

  #writeCode(a: Assembler, data: bigint, tables: bigint): void {
    const functions = 3
    a.label('start').li(s0, data).li(s1, tables).li(s2, BigInt(deviceBase))
    a.label('round').emit('addi', { rd: s3, rs1: s3, imm: 1 })
    for (let count = 0; count < 14; count++) this.#writeItem(a, 2, functions)
    a.to('round', 'jal')
    for (let index = 0; index < functions; index++) {
      // Some functions are in pages of their own, one begins right at the end of a page.
      const start = index === 1 ? 0x1000 - 8 : index === 2 ? 0x2100 : a.offset
      while (a.offset < start) a.word(0x0000_0013)
      a.label(`function${index}`)
      for (let count = 0; count < 4; count++) this.#writeItem(a, 1, 0)
      a.emit('jalr', { rs1: ra })
    }
  }

  #newLabel(): string {
    return `l${this.#labels++}`
  }

  #writeItem(a: Assembler, depth: number, functions: number): void {
    const prng = this.#prng
    const [rd, rs1, rs2] = [prng.pick(work), prng.pick(work), prng.pick(work)]
    const kinds = ['register', 'immediate', 'load', 'store', 'atomic', 'count', 'float', 'skip', 'rare'] as const
    const hostileKinds = [...kinds, 'rare', 'rare'] as const
    const kind =
      depth > 0 && prng.chance(0.15)
        ? 'loop'
        : functions > 0 && prng.chance(0.2)
          ? 'call'
          : prng.pick(this.#isHostile ? hostileKinds : kinds)
    switch (kind) {
      case 'register':
        a.emit(prng.pick(registerOperations), { rd, rs1, rs2 })
        break
      case 'immediate':
        a.emit(prng.pick(immediateOperations), { rd, rs1, imm: prng.below(4096) - 2048 })
        break
      case 'load':
        this.#address(a, rs1, prng.chance(0.8) ? 8 : 1)
        a.emit(prng.pick(loads), { rd, rs1: t0, imm: prng.below(16) * 8 })
        break
      case 'store':
        this.#address(a, rs1, prng.chance(0.8) ? 8 : 1)
        a.emit(prng.pick(stores), { rs1: t0, rs2, imm: prng.below(16) * 8 })
        break
      case 'atomic':
        this.#address(a, rs1, this.#isHostile && prng.chance(0.2) ? 1 : 8)
        if (prng.chance(0.5)) a.emit(prng.pick(atomics), { rd, rs1: t0, rs2 })
        else {
          a.emit('lr.d', { rd, rs1: t0 }).emit('addi', { rd, rs1: rd, imm: 1 })
          a.emit('sc.d', { rd: t1, rs1: t0, rs2: rd }).emit('add', { rd, rs1: rd, rs2: t1 })
        }
        break
      case 'count':
        a.emit('csrrs.read', { rd: t1, csr: prng.pick([csr.instret, csr.cycle, csr.time]) })
        a.emit('xor', { rd, rs1, rs2: t1 })
        break
      case 'float':
        a.emit('fmv.d.x', { rd: 1 + prng.below(4), rs1 })
        a.emit(prng.pick(floats), {
          rd: 1 + prng.below(3),
          rs1: 1,
          rs2: 2,
          rs3: 3,
          rm: this.#isHostile ? (prng.chance(0.03) ? 5 : prng.pick([0, 1, 2, 3, 4, 7, 7])) : 0,
        })
        a.emit('fmv.x.d', { rd, rs1: 1 })
        break
      case 'skip': {
        const label = this.#newLabel()
        a.to(label, prng.pick(branches), { rs1, rs2 })
        for (let count = 0; count <= prng.below(3); count++) this.#writeItem(a, 0, 0)
        a.label(label)
        break
      }
      case 'loop': {
        const [label, counter] = [this.#newLabel(), depth === 2 ? t3 : 30]
        a.emit('andi', { rd: counter, rs1, imm: 15 })
        a.label(label)
        for (let count = 0; count <= prng.below(4); count++) this.#writeItem(a, depth - 1, 0)
        a.emit('addi', { rd: counter, rs1: counter, imm: -1 }).to(label, 'blt', { rs1: 0, rs2: counter })
        break
      }
      case 'call': {
        const label = `function${prng.below(functions)}`
        if (prng.chance(0.6)) a.to(label, 'jal', { rd: ra })
        else {
          // Through a register, from a table of one.
          const here = this.#newLabel()
          a.to(here, 'jal', { rd: t2 }).label(here)
          const distanceFrom = a.offset
          a.to(label, 'addi', { rd: t2, rs1: t2 }, distanceFrom).emit('jalr', { rd: ra, rs1: t2 })
        }
        break
      }
      case 'rare':
        this.#writeRare(a, rd, rs1)
    }
  }

  /** t0 := somewhere in the data pages. */
  #address(a: Assembler, from: number, alignment: 1 | 8): void {
    a.emit('slli', { rd: t0, rs1: from, imm: 50 }).emit('srli', { rd: t0, rs1: t0, imm: 50 })
    if (alignment === 8) a.emit('andi', { rd: t0, rs1: t0, imm: -8 })
    a.emit('add', { rd: t0, rs1: t0, rs2: s0 })
  }

  #writeRare(a: Assembler, rd: number, rs1: number): void {
    const prng = this.#prng
    const kinds = ['trap', 'illegal', 'device', 'csr', 'patch', 'patch', 'table', 'table', 'fence'] as const
    const kind = prng.pick(this.#isHostile ? [...kinds, 'alias', 'table'] : kinds)
    switch (kind) {
      case 'trap':
        a.emit(prng.pick(['ecall', 'ebreak']))
        break
      case 'illegal':
        a.word(0)
        break
      case 'device':
        if (prng.chance(0.5)) a.emit('lw', { rd, rs1: s2 })
        else a.emit('sw', { rs1: s2, rs2: rs1 })
        break
      case 'csr':
        this.#writeCsr(a, rd, rs1)
        break
      case 'patch': {
        // Another immediate for an instruction nearby, ahead or in this very row.
        const label = this.#newLabel()
        a.to(label, 'jal', { rd: t2 })
        a.label(label)
        const distance = 4 * (4 + prng.below(6))
        a.li(t0, BigInt(encode('addi', { rd, rs1: rd })))
        a.emit('andi', { rd: t1, rs1, imm: 7 }).emit('slli', { rd: t1, rs1: t1, imm: 20 })
        a.emit('or', { rd: t0, rs1: t0, rs2: t1 })
        a.emit(prng.pick(['sw', 'sw', 'sh']), { rs1: t2, rs2: t0, imm: distance + 12 })
        for (let count = 0; count < 8; count++) a.emit('addi', { rd, rs1: rd, imm: count })
        break
      }
      case 'table': {
        if (this.#entries.length === 0) break
        const entry = prng.pick(this.#entries) - rootTable
        a.li(t2, tablesVirtual + BigInt(entry)).emit('ld', { rd: t0, rs1: t2 })
        // Accessed and dirty go, or a data page loses the right to be written until next time.
        a.emit('xori', { rd: t0, rs1: t0, imm: prng.pick(this.#isHostile ? hostileEdits : [0x40, 0xc0, 0x80]) })
        a.emit('sd', { rs1: t2, rs2: t0 })
        if (prng.chance(0.3)) a.emit('sfence.vma')
        break
      }
      case 'alias': {
        // Goes on behind the jump, at the other address of this page.
        const label = this.#newLabel()
        a.to(label, 'jal', { rd: t2 }).label(label)
        const from = a.offset
        a.li(t1, codeVirtual ^ codeAlias).emit('xor', { rd: t2, rs1: t2, rs2: t1 })
        const distance = a.offset + 4 - from
        a.emit('jalr', { rd: t1, rs1: t2, imm: distance })
        break
      }
      case 'fence':
        a.emit(prng.pick(['fence', 'fence.i', 'sfence.vma']))
    }
  }

  #writeCsr(a: Assembler, rd: number, rs1: number): void {
    const prng = this.#prng
    if (prng.chance(0.3)) {
      a.emit('csrrw', { rd, rs1, csr: csr.fcsr })
      return
    }
    if (prng.chance(0.3)) {
      a.emit('csrrw', { rd, rs1, csr: csr.sscratch })
      return
    }
    // FS, SUM and MXR come and go.
    a.li(t0, prng.pick([mstatusBit.fs, mstatusBit.fs & (mstatusBit.fs - 1n), mstatusBit.sum, mstatusBit.mxr]))
    a.emit(prng.pick(['csrrs', 'csrrs', 'csrrc']), { rd, rs1: t0, csr: csr.sstatus })
  }
}
