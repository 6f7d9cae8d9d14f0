/**
 * The F and D extensions (RISC-V unprivileged specification). Arithmetic is the soft-float library's; this file says
 * which operands go in, how singles are boxed in 64-bit registers, and where results go.
 */

import { canonicalNan, type FloatFormat, type FloatOperation, floatOperations } from './float-operations.ts'
import type { Format, Instruction, RegisterFiles } from './instruction.ts'
import type { InstructionContext, Semantics, Value } from './semantics.ts'

const opcodeFp = 0x53
const boxHigh = 0xffff_ffff_0000_0000n

/** A single in an f register is valid only if the upper half is all ones; otherwise it reads as the canonical NaN. */
function unboxed(c: InstructionContext, value: Value, format: FloatFormat): Value {
  if (format === 'double') return value
  return value.shrU(32).eq(0xffff_ffffn).select(value.and(0xffff_ffffn), c.i64(canonicalNan.single))
}

function boxed(value: Value, format: FloatFormat): Value {
  return format === 'double' ? value : value.or(boxHigh)
}

function row(
  extension: string,
  name: string,
  format: Format,
  match: number,
  mask: number,
  files: RegisterFiles,
  hasRoundingMode: boolean,
  semantics: Semantics,
): Instruction {
  return {
    extension,
    name,
    format,
    match: match >>> 0,
    mask: mask >>> 0,
    hasRoundingMode,
    files,
    semantics: (c) => {
      c.requireFloat()
      semantics(c)
    },
  }
}

const all = { rd: 'f', rs1: 'f', rs2: 'f' } as const
const toInteger = { rs1: 'f', rs2: 'f' } as const
const fromInteger = { rd: 'f' } as const

/** The instructions of one format: F for singles (fmt 0), D for doubles (fmt 1). */
function instructionsOf(format: FloatFormat): Instruction[] {
  const single = format === 'single'
  const extension = single ? 'F' : 'D'
  const suffix = single ? 's' : 'd'
  const fmt = single ? 0 : 1
  const size = single ? 4 : 8
  const signBit = single ? 0x8000_0000n : 0x8000_0000_0000_0000n
  const source = (c: InstructionContext, value: Value): Value => c.let(unboxed(c, value, format))

  const computing = (
    name: string,
    f5: number,
    operation: FloatOperation,
    fixed?: { f3?: number; rs2?: number },
  ): Instruction => {
    const f3 = fixed?.f3
    const rs2 = fixed?.rs2
    const match = opcodeFp | (f5 << 27) | (fmt << 25) | ((f3 ?? 0) << 12) | ((rs2 ?? 0) << 20)
    const mask = 0xfe00_007f | (f3 === undefined ? 0 : 0x7000) | (rs2 === undefined ? 0 : 0x01f0_0000)
    return row(extension, `${name}.${suffix}`, 'R', match, mask, all, floatOperations[operation].rounds, (c) => {
      const operands = rs2 === undefined ? [source(c, c.fs1), source(c, c.fs2)] : [source(c, c.fs1)]
      c.setFd(boxed(c.float(operation, format, ...operands), format))
    })
  }

  const fused = (name: string, code: number, negateProduct: boolean, negateAddend: boolean): Instruction =>
    row(extension, `${name}.${suffix}`, 'R4', code | (fmt << 25), 0x0600_007f, all, true, (c) => {
      const a = source(c, c.fs1)
      const b = source(c, c.fs2)
      const addend = source(c, c.fs3)
      const result = c.float(
        'fma',
        format,
        negateProduct ? a.xor(signBit) : a,
        b,
        negateAddend ? addend.xor(signBit) : addend,
      )
      c.setFd(boxed(result, format))
    })

  const signInjection = (name: string, f3: number, sign: (a: Value, b: Value) => Value): Instruction =>
    row(
      extension,
      `${name}.${suffix}`,
      'R',
      opcodeFp | (0x04 << 27) | (fmt << 25) | (f3 << 12),
      0xfe00_707f,
      all,
      false,
      (c) => {
        const a = source(c, c.fs1)
        const b = source(c, c.fs2)
        c.setFd(boxed(a.and(signBit - 1n).or(sign(a, b).and(signBit)), format))
      },
    )

  const comparing = (name: string, f3: number, operation: FloatOperation): Instruction =>
    row(
      extension,
      `${name}.${suffix}`,
      'R',
      opcodeFp | (0x14 << 27) | (fmt << 25) | (f3 << 12),
      0xfe00_707f,
      toInteger,
      false,
      (c) => c.setRd(c.float(operation, format, source(c, c.fs1), source(c, c.fs2))),
    )

  const intoInteger = (name: string, rs2: number, operation: FloatOperation): Instruction =>
    row(
      extension,
      `${name}.${suffix}`,
      'R',
      opcodeFp | (0x18 << 27) | (fmt << 25) | (rs2 << 20),
      0xfff0_007f,
      toInteger,
      true,
      (c) => c.setRd(c.float(operation, format, source(c, c.fs1))),
    )

  const outOfInteger = (name: string, rs2: number, operation: FloatOperation): Instruction =>
    row(
      extension,
      `fcvt.${suffix}.${name}`,
      'R',
      opcodeFp | (0x1a << 27) | (fmt << 25) | (rs2 << 20),
      0xfff0_007f,
      fromInteger,
      true,
      (c) => c.setFd(boxed(c.float(operation, format, c.rs1), format)),
    )

  return [
    row(extension, single ? 'flw' : 'fld', 'I', 0x07 | ((single ? 2 : 3) << 12), 0x707f, { rd: 'f' }, false, (c) =>
      c.setFd(boxed(c.load(c.rs1.add(c.immediate), size), format)),
    ),
    row(extension, single ? 'fsw' : 'fsd', 'S', 0x27 | ((single ? 2 : 3) << 12), 0x707f, { rs2: 'f' }, false, (c) =>
      c.store(c.rs1.add(c.immediate), size, c.fs2),
    ),
    fused('fmadd', 0x43, false, false),
    fused('fmsub', 0x47, false, true),
    fused('fnmsub', 0x4b, true, false),
    fused('fnmadd', 0x4f, true, true),
    computing('fadd', 0x00, 'add'),
    computing('fsub', 0x01, 'sub'),
    computing('fmul', 0x02, 'mul'),
    computing('fdiv', 0x03, 'div'),
    computing('fsqrt', 0x0b, 'sqrt', { rs2: 0 }),
    signInjection('fsgnj', 0, (_, b) => b),
    signInjection('fsgnjn', 1, (_, b) => b.not()),
    signInjection('fsgnjx', 2, (a, b) => a.xor(b)),
    computing('fmin', 0x05, 'min', { f3: 0 }),
    computing('fmax', 0x05, 'max', { f3: 1 }),
    comparing('fle', 0, 'le'),
    comparing('flt', 1, 'lt'),
    comparing('feq', 2, 'eq'),
    intoInteger('fcvt.w', 0, 'toI32'),
    intoInteger('fcvt.wu', 1, 'toU32'),
    intoInteger('fcvt.l', 2, 'toI64'),
    intoInteger('fcvt.lu', 3, 'toU64'),
    outOfInteger('w', 0, 'fromI32'),
    outOfInteger('wu', 1, 'fromU32'),
    outOfInteger('l', 2, 'fromI64'),
    outOfInteger('lu', 3, 'fromU64'),
    row(
      extension,
      `fclass.${suffix}`,
      'R',
      opcodeFp | (0x1c << 27) | (fmt << 25) | (1 << 12),
      0xfff0_707f,
      toInteger,
      false,
      (c) => c.setRd(c.float('class', format, source(c, c.fs1))),
    ),
    // The bit moves neither look at the box nor at NaNs.
    row(
      extension,
      single ? 'fmv.x.w' : 'fmv.x.d',
      'R',
      opcodeFp | (0x1c << 27) | (fmt << 25),
      0xfff0_707f,
      toInteger,
      false,
      (c) => c.setRd(single ? c.fs1.signExtend(32) : c.fs1),
    ),
    row(
      extension,
      single ? 'fmv.w.x' : 'fmv.d.x',
      'R',
      opcodeFp | (0x1e << 27) | (fmt << 25),
      0xfff0_707f,
      fromInteger,
      false,
      (c) => c.setFd(single ? c.rs1.or(boxHigh) : c.rs1),
    ),
    row(
      'D',
      single ? 'fcvt.s.d' : 'fcvt.d.s',
      'R',
      opcodeFp | (0x08 << 27) | (fmt << 25) | ((1 - fmt) << 20),
      0xfff0_007f,
      all,
      true,
      (c) => c.setFd(boxed(c.float('convert', format, c.let(unboxed(c, c.fs1, single ? 'double' : 'single'))), format)),
    ),
  ]
}

export const floatInstructions: readonly Instruction[] = [...instructionsOf('single'), ...instructionsOf('double')]
