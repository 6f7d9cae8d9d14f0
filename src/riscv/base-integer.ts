/** RV64I, M, A, Zicsr, Zifencei and the privileged instructions (RISC-V unprivileged and privileged specifications). */

import type { Format, Instruction } from './instruction.ts'
import type { InstructionContext, Semantics, Value } from './semantics.ts'

const opcode = {
  load: 0x03,
  miscMem: 0x0f,
  opImm: 0x13,
  auipc: 0x17,
  opImm32: 0x1b,
  store: 0x23,
  amo: 0x2f,
  op: 0x33,
  lui: 0x37,
  op32: 0x3b,
  branch: 0x63,
  jalr: 0x67,
  jal: 0x6f,
  system: 0x73,
} as const

function row(
  extension: string,
  name: string,
  format: Format,
  match: number,
  mask: number,
  semantics: Semantics,
): Instruction {
  return { extension, name, format, match: match >>> 0, mask: mask >>> 0, semantics, hasRoundingMode: false, files: {} }
}

const funct3 = 0x7000
const funct7 = 0xfe00_0000
const opcodeMask = 0x7f

const major = (extension: string, name: string, format: Format, code: number, semantics: Semantics): Instruction =>
  row(extension, name, format, code, opcodeMask, semantics)
const minor = (
  extension: string,
  name: string,
  format: Format,
  code: number,
  f3: number,
  semantics: Semantics,
): Instruction => row(extension, name, format, code | (f3 << 12), opcodeMask | funct3, semantics)
const register = (
  extension: string,
  name: string,
  code: number,
  f3: number,
  f7: number,
  semantics: Semantics,
): Instruction => row(extension, name, 'R', code | (f3 << 12) | (f7 << 25), opcodeMask | funct3 | funct7, semantics)
const shift = (name: string, f3: number, f6: number, semantics: Semantics): Instruction =>
  row('I', name, 'shift', opcode.opImm | (f3 << 12) | (f6 << 26), opcodeMask | funct3 | 0xfc00_0000, semantics)
const shift32 = (name: string, f3: number, f7: number, semantics: Semantics): Instruction =>
  row('I', name, 'shift', opcode.opImm32 | (f3 << 12) | (f7 << 25), opcodeMask | funct3 | funct7, semantics)

/** The low 32 bits, sign-extended: how RV64 keeps every 32-bit result. */
function word(value: Value): Value {
  return value.toI32().toI64S()
}

function loads(name: string, f3: number, size: 1 | 2 | 4 | 8, signBits?: 8 | 16 | 32): Instruction {
  return minor('I', name, 'I', opcode.load, f3, (c) => {
    const value = c.load(c.rs1.add(c.immediate), size)
    c.setRd(signBits ? value.signExtend(signBits) : value)
  })
}

function stores(name: string, f3: number, size: 1 | 2 | 4 | 8): Instruction {
  return minor('I', name, 'S', opcode.store, f3, (c) => c.store(c.rs1.add(c.immediate), size, c.rs2))
}

function branches(name: string, f3: number, condition: (a: Value, b: Value) => Value): Instruction {
  return minor('I', name, 'B', opcode.branch, f3, (c) => c.branch(condition(c.rs1, c.rs2)))
}

const integer: readonly Instruction[] = [
  major('I', 'lui', 'U', opcode.lui, (c) => c.setRd(c.immediate)),
  major('I', 'auipc', 'U', opcode.auipc, (c) => c.setRd(c.pc.add(c.immediate))),
  major('I', 'jal', 'J', opcode.jal, (c) => {
    c.setRd(c.nextPc)
    c.jump(c.pc.add(c.immediate))
  }),
  minor('I', 'jalr', 'I', opcode.jalr, 0, (c) => {
    const target = c.let(c.rs1.add(c.immediate).and(-2))
    c.setRd(c.nextPc)
    c.jump(target)
  }),
  branches('beq', 0, (a, b) => a.eq(b)),
  branches('bne', 1, (a, b) => a.ne(b)),
  branches('blt', 4, (a, b) => a.ltS(b)),
  branches('bge', 5, (a, b) => a.geS(b)),
  branches('bltu', 6, (a, b) => a.ltU(b)),
  branches('bgeu', 7, (a, b) => a.geU(b)),
  loads('lb', 0, 1, 8),
  loads('lh', 1, 2, 16),
  loads('lw', 2, 4, 32),
  loads('ld', 3, 8),
  loads('lbu', 4, 1),
  loads('lhu', 5, 2),
  loads('lwu', 6, 4),
  stores('sb', 0, 1),
  stores('sh', 1, 2),
  stores('sw', 2, 4),
  stores('sd', 3, 8),
  minor('I', 'addi', 'I', opcode.opImm, 0, (c) => c.setRd(c.rs1.add(c.immediate))),
  minor('I', 'slti', 'I', opcode.opImm, 2, (c) => c.setRd(c.rs1.ltS(c.immediate).toI64U())),
  minor('I', 'sltiu', 'I', opcode.opImm, 3, (c) => c.setRd(c.rs1.ltU(c.immediate).toI64U())),
  minor('I', 'xori', 'I', opcode.opImm, 4, (c) => c.setRd(c.rs1.xor(c.immediate))),
  minor('I', 'ori', 'I', opcode.opImm, 6, (c) => c.setRd(c.rs1.or(c.immediate))),
  minor('I', 'andi', 'I', opcode.opImm, 7, (c) => c.setRd(c.rs1.and(c.immediate))),
  shift('slli', 1, 0x00, (c) => c.setRd(c.rs1.shl(c.immediate))),
  shift('srli', 5, 0x00, (c) => c.setRd(c.rs1.shrU(c.immediate))),
  shift('srai', 5, 0x10, (c) => c.setRd(c.rs1.shrS(c.immediate))),
  register('I', 'add', opcode.op, 0, 0x00, (c) => c.setRd(c.rs1.add(c.rs2))),
  register('I', 'sub', opcode.op, 0, 0x20, (c) => c.setRd(c.rs1.sub(c.rs2))),
  register('I', 'sll', opcode.op, 1, 0x00, (c) => c.setRd(c.rs1.shl(c.rs2))),
  register('I', 'slt', opcode.op, 2, 0x00, (c) => c.setRd(c.rs1.ltS(c.rs2).toI64U())),
  register('I', 'sltu', opcode.op, 3, 0x00, (c) => c.setRd(c.rs1.ltU(c.rs2).toI64U())),
  register('I', 'xor', opcode.op, 4, 0x00, (c) => c.setRd(c.rs1.xor(c.rs2))),
  register('I', 'srl', opcode.op, 5, 0x00, (c) => c.setRd(c.rs1.shrU(c.rs2))),
  register('I', 'sra', opcode.op, 5, 0x20, (c) => c.setRd(c.rs1.shrS(c.rs2))),
  register('I', 'or', opcode.op, 6, 0x00, (c) => c.setRd(c.rs1.or(c.rs2))),
  register('I', 'and', opcode.op, 7, 0x00, (c) => c.setRd(c.rs1.and(c.rs2))),
  minor('I', 'addiw', 'I', opcode.opImm32, 0, (c) => c.setRd(word(c.rs1.add(c.immediate)))),
  shift32('slliw', 1, 0x00, (c) => c.setRd(c.rs1.toI32().shl(c.immediate.toI32()).toI64S())),
  shift32('srliw', 5, 0x00, (c) => c.setRd(c.rs1.toI32().shrU(c.immediate.toI32()).toI64S())),
  shift32('sraiw', 5, 0x20, (c) => c.setRd(c.rs1.toI32().shrS(c.immediate.toI32()).toI64S())),
  register('I', 'addw', opcode.op32, 0, 0x00, (c) => c.setRd(word(c.rs1.add(c.rs2)))),
  register('I', 'subw', opcode.op32, 0, 0x20, (c) => c.setRd(word(c.rs1.sub(c.rs2)))),
  register('I', 'sllw', opcode.op32, 1, 0x00, (c) => c.setRd(c.rs1.toI32().shl(c.rs2.toI32()).toI64S())),
  register('I', 'srlw', opcode.op32, 5, 0x00, (c) => c.setRd(c.rs1.toI32().shrU(c.rs2.toI32()).toI64S())),
  register('I', 'sraw', opcode.op32, 5, 0x20, (c) => c.setRd(c.rs1.toI32().shrS(c.rs2.toI32()).toI64S())),
  // One hart, every access in program order: FENCE (and its PAUSE hint) has nothing to wait for.
  minor('I', 'fence', 'none', opcode.miscMem, 0, () => {}),
  minor('Zifencei', 'fence.i', 'none', opcode.miscMem, 1, (c) => c.system('fenceI')),
  row('I', 'ecall', 'none', 0x0000_0073, 0xffff_ffff, (c) => c.system('ecall')),
  row('I', 'ebreak', 'none', 0x0010_0073, 0xffff_ffff, (c) => c.system('ebreak')),
  row('priv', 'sret', 'none', 0x1020_0073, 0xffff_ffff, (c) => c.system('sret')),
  row('priv', 'mret', 'none', 0x3020_0073, 0xffff_ffff, (c) => c.system('mret')),
  row('priv', 'wfi', 'none', 0x1050_0073, 0xffff_ffff, (c) => c.system('wfi')),
  row('priv', 'sfence.vma', 'R', 0x1200_0073, 0xfe00_7fff, (c) => c.system('sfenceVma')),
]

/** High half of the unsigned 128-bit product, from four 32 × 32 products. */
function multiplyHighUnsigned(c: InstructionContext, a: Value, b: Value): Value {
  const low32 = 0xffff_ffffn
  const lowA = c.let(a.and(low32))
  const highA = c.let(a.shrU(32))
  const lowB = c.let(b.and(low32))
  const highB = c.let(b.shrU(32))
  const middle = c.let(highA.mul(lowB).add(lowA.mul(lowB).shrU(32)))
  const carry = c.let(lowA.mul(highB).add(middle.and(low32)))
  return highA.mul(highB).add(middle.shrU(32)).add(carry.shrU(32))
}

/** a if b is negative, else 0: the correction between signed and unsigned high products. */
function ifNegative(b: Value, a: Value): Value {
  return b.shrS(63).and(a)
}

/** What a division works on, and what it gives. */
interface Division {
  readonly operand: (value: Value) => Value
  readonly isSigned: boolean
  readonly isRemainder: boolean
}

/** Division by zero gives all ones, and the remainder the dividend; −2^(n−1) / −1 overflows to itself, remainder 0. */
function division(name: string, code: number, f3: number, { operand, isSigned, isRemainder }: Division): Instruction {
  return register('M', name, code, f3, 0x01, (c) => {
    const a = c.let(operand(c.rs1))
    const b = c.let(operand(c.rs2))
    const unsigned = (): void => c.setRd((isRemainder ? a.remU(b) : a.divU(b)).toI64S())
    const signed = (): void =>
      c.if(
        b.eq(-1),
        () => c.setRd(isRemainder ? c.i64(0) : a.neg().toI64S()),
        () => c.setRd((isRemainder ? a.remS(b) : a.divS(b)).toI64S()),
      )
    c.if(b.eqz(), () => c.setRd(isRemainder ? a.toI64S() : c.i64(-1)), isSigned ? signed : unsigned)
  })
}

/** Quotient and remainder, signed and unsigned, in the order of funct3. */
function divisions(code: number, suffix: string, operand: (value: Value) => Value): Instruction[] {
  return [
    division(`div${suffix}`, code, 4, { operand, isSigned: true, isRemainder: false }),
    division(`divu${suffix}`, code, 5, { operand, isSigned: false, isRemainder: false }),
    division(`rem${suffix}`, code, 6, { operand, isSigned: true, isRemainder: true }),
    division(`remu${suffix}`, code, 7, { operand, isSigned: false, isRemainder: true }),
  ]
}

const multiply: readonly Instruction[] = [
  register('M', 'mul', opcode.op, 0, 0x01, (c) => c.setRd(c.rs1.mul(c.rs2))),
  register('M', 'mulh', opcode.op, 1, 0x01, (c) => {
    const high = multiplyHighUnsigned(c, c.rs1, c.rs2)
    c.setRd(high.sub(ifNegative(c.rs1, c.rs2)).sub(ifNegative(c.rs2, c.rs1)))
  }),
  register('M', 'mulhsu', opcode.op, 2, 0x01, (c) => {
    const high = multiplyHighUnsigned(c, c.rs1, c.rs2)
    c.setRd(high.sub(ifNegative(c.rs1, c.rs2)))
  }),
  register('M', 'mulhu', opcode.op, 3, 0x01, (c) => c.setRd(multiplyHighUnsigned(c, c.rs1, c.rs2))),
  ...divisions(opcode.op, '', (value) => value),
  register('M', 'mulw', opcode.op32, 0, 0x01, (c) => c.setRd(word(c.rs1.mul(c.rs2)))),
  ...divisions(opcode.op32, 'w', (value) => value.toI32()),
]

/** One atomic operation in its .w and .d form. aq and rl order nothing on one hart. */
function atomics(name: string, f5: number, update: (old: Value, operand: Value) => Value): Instruction[] {
  const mask = opcodeMask | funct3 | 0xf800_0000
  return [
    row('A', `${name}.w`, 'R', opcode.amo | (2 << 12) | (f5 << 27), mask, (c) => {
      const operand = c.let(c.rs2.signExtend(32))
      c.setRd(c.atomic(c.rs1, 4, (old) => update(old, operand)))
    }),
    row('A', `${name}.d`, 'R', opcode.amo | (3 << 12) | (f5 << 27), mask, (c) => {
      const operand = c.let(c.rs2)
      c.setRd(c.atomic(c.rs1, 8, (old) => update(old, operand)))
    }),
  ]
}

function reservations(): Instruction[] {
  return (
    [
      [4, 2, 'w'],
      [8, 3, 'd'],
    ] as const
  ).flatMap(([size, f3, suffix]) => [
    row('A', `lr.${suffix}`, 'R', opcode.amo | (f3 << 12) | (0x02 << 27), opcodeMask | funct3 | 0xf9f0_0000, (c) =>
      c.setRd(c.loadReserved(c.rs1, size)),
    ),
    row('A', `sc.${suffix}`, 'R', opcode.amo | (f3 << 12) | (0x03 << 27), opcodeMask | funct3 | 0xf800_0000, (c) =>
      c.setRd(c.storeConditional(c.rs1, size, c.rs2)),
    ),
  ])
}

// Sign-extended 32-bit operands order the same way unsigned as their low halves do: both compares work on 64 bits.
const atomic: readonly Instruction[] = [
  ...reservations(),
  ...atomics('amoswap', 0x01, (_, operand) => operand),
  ...atomics('amoadd', 0x00, (old, operand) => old.add(operand)),
  ...atomics('amoxor', 0x04, (old, operand) => old.xor(operand)),
  ...atomics('amoand', 0x0c, (old, operand) => old.and(operand)),
  ...atomics('amoor', 0x08, (old, operand) => old.or(operand)),
  ...atomics('amomin', 0x10, (old, operand) => old.ltS(operand).select(old, operand)),
  ...atomics('amomax', 0x14, (old, operand) => old.gtS(operand).select(old, operand)),
  ...atomics('amominu', 0x18, (old, operand) => old.ltU(operand).select(old, operand)),
  ...atomics('amomaxu', 0x1c, (old, operand) => old.gtU(operand).select(old, operand)),
]

/** CSRRW, CSRRS, CSRRC with a register (f3 1–3) or a 5-bit immediate (5–7) as source. */
function csrAccess(name: string, f3: number, update: (old: Value, source: Value) => Value): Instruction {
  return minor('Zicsr', name, f3 >= 5 ? 'csrImmediate' : 'csr', opcode.system, f3, (c) => {
    const source = c.let(f3 >= 5 ? c.immediate : c.rs1)
    const old = c.readCsr('readWrite')
    c.setRd(old)
    c.writeCsr(update(old, source))
  })
}

/** CSRRS/CSRRC with rs1 = x0 (or zimm = 0) only read, and so may name a read-only CSR. */
function csrRead(name: string, f3: number): Instruction {
  const mask = opcodeMask | funct3 | 0x000f_8000
  const format = f3 >= 5 ? 'csrImmediate' : 'csr'
  return row('Zicsr', name, format, opcode.system | (f3 << 12), mask, (c) => c.setRd(c.readCsr('read')))
}

const controlAndStatus: readonly Instruction[] = [
  csrRead('csrrs.read', 2),
  csrRead('csrrc.read', 3),
  csrRead('csrrsi.read', 6),
  csrRead('csrrci.read', 7),
  csrAccess('csrrw', 1, (_, source) => source),
  csrAccess('csrrs', 2, (old, source) => old.or(source)),
  csrAccess('csrrc', 3, (old, source) => old.and(source.not())),
  csrAccess('csrrwi', 5, (_, source) => source),
  csrAccess('csrrsi', 6, (old, source) => old.or(source)),
  csrAccess('csrrci', 7, (old, source) => old.and(source.not())),
]

/** More special encodings stand before more general ones. */
export const baseInstructions: readonly Instruction[] = [...integer, ...multiply, ...atomic, ...controlAndStatus]
