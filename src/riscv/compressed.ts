/**
 * The C extension for RV64 with D (RISC-V unprivileged specification, "RVC Instruction Set Listings"): each 16-bit form
 * is a base instruction whose fields are gathered from other bits. Forms with reserved fields expand to nothing.
 */

import type { CompressedForm, Expansion } from './instruction.ts'

/** `field(bits, '5:3=12:10 2=6 6=5')`: target bits 5:3 from source 12:10, and so on. */
function gather(pieces: string): (bits: number) => number {
  const parsed = pieces.split(' ').map((piece) => {
    const [target, origin] = piece.split('=').map((range) => range.split(':').map(Number))
    const targetLow = target!.at(-1)!
    const width = target![0]! - targetLow + 1
    return { targetLow, originLow: origin!.at(-1)!, mask: (1 << width) - 1 }
  })
  return (bits) => parsed.reduce((value, p) => value | (((bits >> p.originLow) & p.mask) << p.targetLow), 0)
}

function signed(value: number, width: number): number {
  return (value << (32 - width)) >> (32 - width)
}

const full = (bits: number): number => (bits >> 7) & 31
const second = (bits: number): number => (bits >> 2) & 31
/** Three-bit register fields name x8–x15. */
const shortUpper = (bits: number): number => 8 + ((bits >> 7) & 7)
const shortLower = (bits: number): number => 8 + ((bits >> 2) & 7)

const immediate6 = (bits: number): number => signed(gather('5=12 4:0=6:2')(bits), 6)
const amount6 = gather('5=12 4:0=6:2')
const wordOffset = gather('5:3=12:10 2=6 6=5')
const doubleOffset = gather('5:3=12:10 7:6=6:5')
const stackWordLoad = gather('5=12 4:2=6:4 7:6=3:2')
const stackDoubleLoad = gather('5=12 4:3=6:5 8:6=4:2')
const stackWordStore = gather('5:2=12:9 7:6=8:7')
const stackDoubleStore = gather('5:3=12:10 8:6=9:7')
const jumpOffset = (bits: number): number => signed(gather('11=12 4=11 9:8=10:9 10=8 6=7 7=6 3:1=5:3 5=2')(bits), 12)
const branchOffset = (bits: number): number => signed(gather('8=12 4:3=11:10 7:6=6:5 2:1=4:3 5=2')(bits), 9)
const addi4spnImmediate = gather('5:4=12:11 9:6=10:7 2=6 3=5')
const addi16spImmediate = (bits: number): number => signed(gather('9=12 4=6 6=5 8:7=4:3 5=2')(bits), 10)

const sp = 2

function form(name: string, match: number, mask: number, expand: CompressedForm['expand']): CompressedForm {
  return { name, match, mask, expand }
}

const loadForm = (name: string, base: string, f3: number, offset: (bits: number) => number): CompressedForm =>
  form(name, f3 << 13, 0xe003, (b) => ({ name: base, rd: shortLower(b), rs1: shortUpper(b), immediate: offset(b) }))
const storeForm = (name: string, base: string, f3: number, offset: (bits: number) => number): CompressedForm =>
  form(name, f3 << 13, 0xe003, (b) => ({ name: base, rs2: shortLower(b), rs1: shortUpper(b), immediate: offset(b) }))
const stackLoad = (
  name: string,
  base: string,
  f3: number,
  offset: (bits: number) => number,
  rd0: boolean,
): CompressedForm =>
  form(name, (f3 << 13) | 2, 0xe003, (b) =>
    full(b) === 0 && !rd0 ? undefined : { name: base, rd: full(b), rs1: sp, immediate: offset(b) },
  )
const stackStore = (name: string, base: string, f3: number, offset: (bits: number) => number): CompressedForm =>
  form(name, (f3 << 13) | 2, 0xe003, (b) => ({ name: base, rs2: second(b), rs1: sp, immediate: offset(b) }))
const arithmetic = (name: string, base: string, match: number): CompressedForm =>
  form(name, match, 0xfc63, (b) => ({ name: base, rd: shortUpper(b), rs1: shortUpper(b), rs2: shortLower(b) }))

const nonzero = (value: number, expansion: Expansion): Expansion | undefined => (value === 0 ? undefined : expansion)

/** More special encodings stand before more general ones. */
export const compressedForms: readonly CompressedForm[] = [
  // Quadrant 0
  form('c.addi4spn', 0x0000, 0xe003, (b) => {
    const immediate = addi4spnImmediate(b)
    return nonzero(immediate, { name: 'addi', rd: shortLower(b), rs1: sp, immediate })
  }),
  loadForm('c.fld', 'fld', 1, doubleOffset),
  loadForm('c.lw', 'lw', 2, wordOffset),
  loadForm('c.ld', 'ld', 3, doubleOffset),
  storeForm('c.fsd', 'fsd', 5, doubleOffset),
  storeForm('c.sw', 'sw', 6, wordOffset),
  storeForm('c.sd', 'sd', 7, doubleOffset),
  // Quadrant 1
  form('c.addi', 0x0001, 0xe003, (b) => ({ name: 'addi', rd: full(b), rs1: full(b), immediate: immediate6(b) })),
  form('c.addiw', 0x2001, 0xe003, (b) =>
    nonzero(full(b), { name: 'addiw', rd: full(b), rs1: full(b), immediate: immediate6(b) }),
  ),
  form('c.li', 0x4001, 0xe003, (b) => ({ name: 'addi', rd: full(b), rs1: 0, immediate: immediate6(b) })),
  form('c.addi16sp', 0x6101, 0xef83, (b) => {
    const immediate = addi16spImmediate(b)
    return nonzero(immediate, { name: 'addi', rd: sp, rs1: sp, immediate })
  }),
  form('c.lui', 0x6001, 0xe003, (b) =>
    nonzero(immediate6(b), { name: 'lui', rd: full(b), immediate: immediate6(b) << 12 }),
  ),
  form('c.srli', 0x8001, 0xec03, (b) => ({
    name: 'srli',
    rd: shortUpper(b),
    rs1: shortUpper(b),
    immediate: amount6(b),
  })),
  form('c.srai', 0x8401, 0xec03, (b) => ({
    name: 'srai',
    rd: shortUpper(b),
    rs1: shortUpper(b),
    immediate: amount6(b),
  })),
  form('c.andi', 0x8801, 0xec03, (b) => ({
    name: 'andi',
    rd: shortUpper(b),
    rs1: shortUpper(b),
    immediate: immediate6(b),
  })),
  arithmetic('c.sub', 'sub', 0x8c01),
  arithmetic('c.xor', 'xor', 0x8c21),
  arithmetic('c.or', 'or', 0x8c41),
  arithmetic('c.and', 'and', 0x8c61),
  arithmetic('c.subw', 'subw', 0x9c01),
  arithmetic('c.addw', 'addw', 0x9c21),
  form('c.j', 0xa001, 0xe003, (b) => ({ name: 'jal', rd: 0, immediate: jumpOffset(b) })),
  form('c.beqz', 0xc001, 0xe003, (b) => ({ name: 'beq', rs1: shortUpper(b), rs2: 0, immediate: branchOffset(b) })),
  form('c.bnez', 0xe001, 0xe003, (b) => ({ name: 'bne', rs1: shortUpper(b), rs2: 0, immediate: branchOffset(b) })),
  // Quadrant 2
  form('c.slli', 0x0002, 0xe003, (b) => ({ name: 'slli', rd: full(b), rs1: full(b), immediate: amount6(b) })),
  stackLoad('c.fldsp', 'fld', 1, stackDoubleLoad, true),
  stackLoad('c.lwsp', 'lw', 2, stackWordLoad, false),
  stackLoad('c.ldsp', 'ld', 3, stackDoubleLoad, false),
  form('c.jr', 0x8002, 0xf07f, (b) => nonzero(full(b), { name: 'jalr', rd: 0, rs1: full(b), immediate: 0 })),
  form('c.mv', 0x8002, 0xf003, (b) => ({ name: 'add', rd: full(b), rs1: 0, rs2: second(b) })),
  form('c.ebreak', 0x9002, 0xffff, () => ({ name: 'ebreak' })),
  form('c.jalr', 0x9002, 0xf07f, (b) => ({ name: 'jalr', rd: 1, rs1: full(b), immediate: 0 })),
  form('c.add', 0x9002, 0xf003, (b) => ({ name: 'add', rd: full(b), rs1: full(b), rs2: second(b) })),
  stackStore('c.fsdsp', 'fsd', 5, stackDoubleStore),
  stackStore('c.swsp', 'sw', 6, stackWordStore),
  stackStore('c.sdsp', 'sd', 7, stackDoubleStore),
]
