/**
 * Writes blocks of random instructions, made from the instruction table. A block ends, whatever its operands are: branches
 * go forward, loops are counted. Memory accesses stay in scratch memory: a few registers point there and are not written.
 *
 * Left out, because QEMU's user mode differs from a bare machine or from the specification's letter, not because of bugs:
 * traps (ECALL, EBREAK, illegal instructions, misaligned atomics), counters, and stores between LR and SC (QEMU's SC
 * compares the value instead of keeping a reservation). These have tests of their own.
 */

import type { Prng } from '../../src/base/prng.ts'
import { csr } from '../../src/riscv/csrs.ts'
import type { Instruction } from '../../src/riscv/instruction.ts'
import { instructionByName, instructions } from '../../src/riscv/instructions.ts'
import { type CodeBuffer, type ConstantPool, pcRelative } from './code-buffer.ts'
import { type CompressedEncoding, compressedEncodings, encode, type Fields } from './encoder.ts'
import { doubleOperand, operandsFor, singleOperand, tyingInteger } from './float-operands.ts'
import { scratchBase, scratchBytes } from './memory-map.ts'
import { integerOperand } from './operands.ts'

/** Occurrences by instruction or form name. */
export type BlockCounts = Map<string, number>

export interface BlockEnvironment {
  readonly prng: Prng
  readonly code: CodeBuffer
  readonly constants: ConstantPool
  readonly counts: BlockCounts
  /** Neither read nor written by random instructions. */
  readonly frameRegister: number
}

const major = (row: Instruction): number => row.match & 0x7f
const rows = {
  arithmetic: instructions.filter(
    (row) =>
      row.extension === 'I' && ['R', 'I', 'shift', 'U'].includes(row.format) && ![0x03, 0x67].includes(major(row)),
  ),
  multiplication: instructions.filter((row) => row.extension === 'M'),
  memory: instructions.filter((row) => [0x03, 0x23].includes(major(row))),
  floatMemory: instructions.filter((row) => [0x07, 0x27].includes(major(row))),
  branch: instructions.filter((row) => row.format === 'B'),
  atomic: instructions.filter((row) => row.extension === 'A' && !/^(lr|sc)\./.test(row.name)),
  float: instructions.filter((row) => 'FD'.includes(row.extension) && ![0x07, 0x27].includes(major(row))),
}

const controlForms = ['c.j', 'c.jr', 'c.jalr', 'c.beqz', 'c.bnez', 'c.ebreak']
const compressedForms = [...compressedEncodings.keys()].filter((name) => !controlForms.includes(name))
/** Loads and stores; the ones on the stack have sp as base. */
const isCompressedMemory = (name: string): boolean => /^c\.f?[ls][wd](sp)?$/.test(name)

/** A forward branch that waits for its target. */
interface PendingBranch {
  readonly from: number
  unitsLeft: number
  readonly bind: (target: number) => void
}

/** Compressed branches reach 254 bytes: a branch is bound before it is this far away. */
const bindBeforeBytes = 120

export function writeBlock(environment: BlockEnvironment): void {
  new BlockWriter(environment).write()
}

class BlockWriter {
  readonly #prng: Prng
  readonly #code: CodeBuffer
  readonly #constants: ConstantPool
  readonly #counts: BlockCounts
  readonly #frame: number
  /** Registers that point into scratch memory. */
  readonly #pointers: number[] = []
  /** Registers that must keep their value for now: pointers, the loop's counter, an address about to be used. */
  readonly #kept = new Set<number>()
  /** The registers that this block uses most, so that results meet each other. */
  readonly #favorites: readonly number[]
  readonly #singles: readonly number[]
  readonly #doubles: readonly number[]
  #pending: PendingBranch[] = []
  #isInLoop = false

  constructor({ prng, code, constants, counts, frameRegister }: BlockEnvironment) {
    this.#prng = prng
    this.#code = code
    this.#constants = constants
    this.#counts = counts
    this.#frame = frameRegister
    this.#kept.add(frameRegister)
    const registers = (length: number): number[] => Array.from({ length }, () => prng.below(32))
    this.#favorites = [...registers(4), 8 + prng.below(8), 8 + prng.below(8)]
    this.#singles = registers(4)
    this.#doubles = registers(4)
  }

  write(): void {
    const prng = this.#prng
    this.#writePointers()
    for (let count = 3 + prng.below(5); count > 0; count--) {
      const register = this.#realTarget()
      this.#code.accessAt('ld', register, this.#constants.add(integerOperand(prng)), { rd: register })
    }
    for (const register of this.#singles) this.#loadFloat(register, singleOperand(prng))
    for (const register of this.#doubles) this.#loadFloat(register, doubleOperand(prng))
    for (let units = 20 + prng.below(31); units > 0; units--) this.#writeUnit()
    this.#bindAll()
  }

  #emit(row: Instruction, fields: Fields): number {
    this.#counts.set(row.name, (this.#counts.get(row.name) ?? 0) + 1)
    return this.#code.emit(encode(row, fields))
  }

  #emitNamed(name: string, fields: Fields): number {
    return this.#emit(instructionByName(name), fields)
  }

  #emitCompressed(name: string, { bits }: CompressedEncoding): number {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1)
    return this.#code.emit(bits)
  }

  /** A register to read. */
  #source(): number {
    const register = this.#prng.chance(0.7) ? this.#prng.pick(this.#favorites) : this.#prng.below(32)
    return register === this.#frame ? 0 : register
  }

  /** A register to write; now and then x0. */
  #target(): number {
    for (;;) {
      const register = this.#prng.chance(0.7) ? this.#prng.pick(this.#favorites) : this.#prng.below(32)
      if (!this.#kept.has(register)) return register
    }
  }

  /** A register to write that is not x0. */
  #realTarget(): number {
    for (;;) {
      const register = 1 + this.#prng.below(31)
      if (!this.#kept.has(register)) return register
    }
  }

  /** An f register; singles and doubles mostly live apart, so that not every single is a broken box. */
  #float(isSingle: boolean): number {
    if (this.#prng.chance(0.1)) return this.#prng.below(32)
    return this.#prng.pick(this.#prng.chance(0.95) === isSingle ? this.#singles : this.#doubles)
  }

  #loadFloat(register: number, value: bigint): void {
    this.#code.accessAt('fld', this.#realTarget(), this.#constants.add(value), { rd: register })
  }

  /** Two to four pointers, mostly close to the middle page boundary, of any alignment. */
  #writePointers(): void {
    const prng = this.#prng
    const candidates = [2, 8 + prng.below(8), 8 + prng.below(8), 1 + prng.below(31)].slice(prng.below(3))
    for (const register of new Set(candidates)) {
      if (this.#kept.has(register)) continue
      const spread = prng.chance(0.5) ? 16 : 2048
      this.#code.loadAddress(register, scratchBase + scratchBytes / 2 - spread + prng.below(2 * spread))
      this.#pointers.push(register)
      this.#kept.add(register)
    }
  }

  #writeUnit(): void {
    this.#bindDue()
    const dice = this.#prng.below(100)
    if (dice < 24) this.#writeArithmetic()
    else if (dice < 32) this.#writeRow(this.#prng.pick(rows.multiplication))
    else if (dice < 40) this.#writeMemory()
    else if (dice < 56) this.#writeFloat()
    else if (dice < 64) this.#writeFloatProbe()
    else if (dice < 80) this.#writeCompressed()
    else if (dice < 85) this.#writeAtomic()
    else if (dice < 87) this.#writeReservation()
    else if (dice < 91) this.#writeBranch()
    else if (dice < 94) this.#writeJump()
    else if (dice < 97) this.#writeControl()
    else if (dice < 98) this.#writeCodeChange()
    else if (!this.#isInLoop) this.#writeLoop()
  }

  #writeArithmetic(): void {
    this.#writeRow(this.#prng.pick(rows.arithmetic))
  }

  /** A row whose operands are integer registers and an immediate. */
  #writeRow(row: Instruction): void {
    const prng = this.#prng
    const immediate = prng.chance(0.3) ? prng.pick([-1, 0, 1, 2047, -2048, 31, 32, 63]) : prng.below(4096) - 2048
    this.#emit(row, {
      rd: this.#target(),
      rs1: this.#source(),
      rs2: this.#source(),
      immediate: row.format === 'U' ? Number(BigInt.asIntN(32, prng.u64())) : immediate,
    })
  }

  /** Any offset keeps the access inside scratch memory: pointers stay 2048 bytes and more away from its ends. */
  #writeMemory(): void {
    const prng = this.#prng
    if (this.#pointers.length === 0) return
    const pointer = prng.pick(this.#pointers)
    const row = prng.chance(0.6) ? prng.pick(rows.memory) : prng.pick(rows.floatMemory)
    const isFloat = row.extension !== 'I'
    const isSingle = row.extension === 'F'
    this.#emit(row, {
      rs1: pointer,
      rd: isFloat ? this.#float(isSingle) : this.#target(),
      rs2: isFloat ? this.#float(isSingle) : this.#source(),
      immediate: prng.chance(0.5) ? prng.below(65) - 32 : prng.below(4096) - 2048,
    })
  }

  #writeFloat(): void {
    const prng = this.#prng
    const row = prng.pick(rows.float)
    const isSource = (single: boolean): boolean =>
      row.name === 'fcvt.s.d' || row.name === 'fcvt.d.s' ? !single : single
    const isSingle = row.name === 'fcvt.s.d' || (row.extension === 'F' && row.name !== 'fcvt.d.s')
    this.#emit(row, {
      rd: row.files.rd ? this.#float(isSingle) : this.#target(),
      rs1: row.files.rs1 ? this.#float(isSource(isSingle)) : this.#source(),
      rs2: this.#float(isSingle),
      rs3: this.#float(isSingle),
      rm: prng.chance(0.5) ? 7 : prng.below(5),
    })
    if (prng.chance(0.3)) {
      this.#emitNamed('csrrs.read', { rd: this.#target(), csr: prng.pick([csr.fflags, csr.fcsr, csr.frm]) })
    }
  }

  /** Operands made for the operation, flags clear before it and read after it: accrued flags would hide its own. */
  #writeFloatProbe(): void {
    const prng = this.#prng
    const row = prng.pick(rows.float)
    const operands = operandsFor(prng, row.name).map((value) => {
      const register = prng.below(32)
      this.#loadFloat(register, value)
      return register
    })
    let rs1 = operands[0]!
    if (!row.files.rs1) {
      rs1 = this.#realTarget()
      this.#code.accessAt('ld', rs1, this.#constants.add(tyingInteger(prng)), { rd: rs1 })
    }
    const mode = prng.below(5)
    const isDynamic = prng.chance(0.5)
    if (isDynamic) this.#emitNamed('csrrwi', { csr: csr.fcsr, immediate: 0 })
    this.#emitNamed('csrrwi', isDynamic ? { csr: csr.frm, immediate: mode } : { csr: csr.fflags, immediate: 0 })
    this.#emit(row, {
      rd: row.files.rd ? prng.below(32) : this.#target(),
      rs1,
      rs2: operands[1] ?? 0,
      rs3: operands[2] ?? 0,
      rm: isDynamic ? 7 : mode,
    })
    this.#emitNamed('csrrs.read', { rd: this.#target(), csr: csr.fcsr })
  }

  #writeCompressed(): void {
    const prng = this.#prng
    const name = prng.pick(compressedForms)
    const isMemory = isCompressedMemory(name)
    for (let attempts = 0; attempts < 40; attempts++) {
      const encoding = prng.pick(compressedEncodings.get(name)!)
      const { instruction, rd, rs1, rs2 } = encoding.decoded
      const writesInteger = instruction.format !== 'S' && !instruction.files.rd
      if (writesInteger && rd !== 0 && this.#kept.has(rd)) continue
      if (rs1 === this.#frame || (rs2 === this.#frame && !instruction.files.rs2)) continue
      if (isMemory && !this.#pointers.includes(rs1)) continue
      this.#emitCompressed(name, encoding)
      return
    }
  }

  /** An aligned address in scratch memory in a register that is kept until `use` returns. */
  #withAddress(alignment: number, use: (register: number) => void): void {
    const register = this.#realTarget()
    this.#code.loadAddress(register, scratchBase + this.#prng.below(scratchBytes / alignment) * alignment)
    this.#kept.add(register)
    use(register)
    this.#kept.delete(register)
  }

  #writeAtomic(): void {
    const row = this.#prng.pick(rows.atomic)
    this.#withAddress(row.name.endsWith('.d') ? 8 : 4, (address) => {
      // The address register itself may be overwritten by the result, and may be the operand.
      const rd = this.#prng.chance(0.1) ? address : this.#target()
      const rs2 = this.#prng.chance(0.1) ? address : this.#source()
      this.#emit(row, { rd, rs1: address, rs2, order: this.#prng.below(4) })
    })
  }

  /** LR, up to three integer instructions, SC to the same word: it succeeds. A second SC, or one elsewhere, fails. */
  #writeReservation(): void {
    const prng = this.#prng
    const suffix = prng.pick(['w', 'd'])
    const order = prng.below(4)
    this.#withAddress(8, (address) => {
      const storeConditional = (rs1: number): void => {
        this.#emitNamed(`sc.${suffix}`, { rd: this.#target(), rs1, rs2: this.#source(), order })
      }
      this.#emitNamed(`lr.${suffix}`, { rd: this.#target(), rs1: address, order })
      for (let count = prng.below(4); count > 0; count--) this.#writeArithmetic()
      if (prng.chance(0.2)) {
        // Far enough to be outside any reservation set.
        const elsewhere = this.#realTarget()
        this.#emitNamed('xori', { rd: elsewhere, rs1: address, immediate: 0x400 })
        storeConditional(elsewhere)
      }
      storeConditional(address)
      if (prng.chance(0.2)) storeConditional(address)
    })
  }

  #await(from: number, bind: (target: number) => void): void {
    this.#pending.push({ from, unitsLeft: 1 + this.#prng.below(4), bind })
  }

  #bindDue(): void {
    const { address } = this.#code
    const isDue = (branch: PendingBranch): boolean => --branch.unitsLeft < 0 || address - branch.from > bindBeforeBytes
    const due = this.#pending.filter(isDue)
    this.#pending = this.#pending.filter((branch) => !due.includes(branch))
    for (const branch of due) branch.bind(address)
  }

  #bindAll(): void {
    for (const branch of this.#pending) branch.bind(this.#code.address)
    this.#pending = []
  }

  /** A placeholder now, the encoding with the right distance when the target is known. */
  #emitForward(row: Instruction, fields: Fields): void {
    const from = this.#emit(row, fields)
    this.#await(from, (target) => this.#code.patch(from, encode(row, { ...fields, immediate: target - from })))
  }

  #emitForwardCompressed(name: string, rs1: number): void {
    const encodings = compressedEncodings.get(name)!
    const from = this.#emitCompressed(name, encodings[0]!)
    this.#await(from, (target) => {
      const fits = ({ decoded }: CompressedEncoding): boolean =>
        decoded.immediate === target - from && decoded.rs1 === rs1
      this.#code.patch(from, encodings.find(fits)!.bits)
    })
  }

  #writeBranch(): void {
    const prng = this.#prng
    if (prng.chance(0.3)) {
      const rs1 = 8 + prng.below(8)
      if (rs1 !== this.#frame) this.#emitForwardCompressed(prng.pick(['c.beqz', 'c.bnez']), rs1)
    } else {
      const rs1 = this.#source()
      this.#emitForward(prng.pick(rows.branch), { rs1, rs2: prng.chance(0.2) ? rs1 : this.#source() })
    }
  }

  #writeJump(): void {
    switch (this.#prng.below(4)) {
      case 0:
        this.#emitForward(instructionByName('jal'), { rd: this.#target() })
        break
      case 1:
        this.#emitForwardCompressed('c.j', 0)
        break
      case 2:
        this.#writeIndirectJump()
        break
      default:
        this.#writeCompressedIndirectJump()
    }
  }

  /** JALR clears bit 0 of its target. */
  #writeIndirectJump(): void {
    const pointer = this.#realTarget()
    const auipc = this.#emitNamed('auipc', { rd: pointer })
    const fields = { rd: this.#prng.chance(0.2) ? pointer : this.#target(), rs1: pointer }
    const from = this.#emitNamed('jalr', fields)
    const oddness = this.#prng.below(2)
    this.#await(from, (target) => {
      this.#code.patch(from, encode(instructionByName('jalr'), { ...fields, immediate: target - auipc + oddness }))
    })
  }

  #writeCompressedIndirectJump(): void {
    const pointer = this.#realTarget()
    const name = this.#kept.has(1) ? 'c.jr' : this.#prng.pick(['c.jr', 'c.jalr'])
    const auipc = this.#emitNamed('auipc', { rd: pointer })
    const from = this.#emitNamed('addi', { rd: pointer, rs1: pointer })
    this.#emitCompressed(name, compressedEncodings.get(name)!.find(({ decoded }) => decoded.rs1 === pointer)!)
    this.#await(from, (target) => {
      const fields = { rd: pointer, rs1: pointer, immediate: target - auipc }
      this.#code.patch(from, encode(instructionByName('addi'), fields))
    })
  }

  /** Rounding modes, flags and fences. frm is valid again when the unit ends: other modes make dynamic rounding illegal. */
  #writeControl(): void {
    const prng = this.#prng
    const rd = this.#target()
    const rs1 = this.#source()
    const access = (): string => prng.pick(['csrrw', 'csrrs', 'csrrc'])
    const validMode = (): number =>
      this.#emitNamed('csrrwi', { rd: this.#target(), csr: csr.frm, immediate: prng.below(5) })
    switch (prng.below(7)) {
      case 0:
        this.#emitNamed(access(), { rd, rs1: rs1 || this.#realTarget(), csr: csr.fflags })
        break
      case 1:
        this.#emitNamed(`${access()}i`, { rd, immediate: 1 + prng.below(31), csr: csr.fflags })
        break
      case 2:
        this.#emitNamed(access(), { rd, rs1: rs1 || this.#realTarget(), csr: prng.pick([csr.frm, csr.fcsr]) })
        if (prng.chance(0.5)) this.#emitNamed('csrrc.read', { rd: this.#target(), csr: csr.fcsr })
        validMode()
        break
      case 3:
        this.#emitNamed(`${access()}i`, { rd, immediate: 1 + prng.below(31), csr: prng.pick([csr.frm, csr.fcsr]) })
        if (prng.chance(0.5))
          this.#emitNamed(prng.pick(['csrrsi.read', 'csrrci.read']), { rd: this.#target(), csr: csr.frm })
        validMode()
        break
      case 4:
        this.#code.patch(this.#emitNamed('fence', {}), instructionByName('fence').match | (prng.below(256) << 20))
        break
      default:
        validMode()
    }
  }

  /** Replaces an instruction further on (in a loop also: further back) and FENCE.I. */
  #writeCodeChange(): void {
    const prng = this.#prng
    const replaced = (): number =>
      encode(prng.pick(rows.arithmetic), {
        rd: this.#target(),
        rs1: this.#source(),
        rs2: this.#source(),
        immediate: prng.below(2048),
      })
    const slotBefore = this.#isInLoop && prng.chance(0.5) ? this.#code.emit(replaced()) : undefined
    const value = this.#realTarget()
    const replacement = replaced()
    this.#code.accessAt('lwu', value, this.#constants.add(BigInt(replacement)), { rd: value })
    this.#kept.add(value)
    const pointer = this.#realTarget()
    this.#kept.delete(value)
    const auipc = this.#code.address
    // auipc, sw, fence.i: the slot comes right behind.
    const slot = slotBefore ?? auipc + 12
    const { upper, lower } = pcRelative(auipc, slot)
    this.#emitNamed('auipc', { rd: pointer, immediate: upper })
    this.#emitNamed('sw', { rs1: pointer, rs2: value, immediate: lower })
    this.#emitNamed('fence.i', {})
    if (slotBefore === undefined) this.#code.emit(replaced())
  }

  /** A counted loop. No branch enters it from outside, so the counter is always set. */
  #writeLoop(): void {
    const prng = this.#prng
    this.#bindAll()
    const counter = this.#realTarget()
    this.#emitNamed('addi', { rd: counter, immediate: 2 + prng.below(prng.chance(0.1) ? 60 : 10) })
    this.#kept.add(counter)
    this.#isInLoop = true
    const top = this.#code.address
    for (let units = 3 + prng.below(8); units > 0; units--) this.#writeUnit()
    this.#bindAll()
    this.#isInLoop = false
    this.#kept.delete(counter)
    this.#emitNamed('addi', { rd: counter, rs1: counter, immediate: -1 })
    this.#emitNamed('bne', { rs1: counter, immediate: top - this.#code.address })
  }
}
