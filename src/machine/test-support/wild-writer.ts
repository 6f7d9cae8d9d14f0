/**
 * A bare program that writes as wildly as it can: words at random places of 4 MiB, and now and then a page of zeros over
 * what was there. Whoever copies its memory while it runs must notice every page it hits.
 */

import { MiB, pageBytes } from '../../base/units.ts'
import { Assembler, reg } from '../../engine/test-support/assembler.ts'
import type { BootImage } from '../types.ts'
import { bareProgram } from './boot-images.ts'

const { t0, t1, s0, a0, a1, a2, a3 } = reg
const wildFrom = 0x8010_0000n
const wildBytes = 4 * MiB

export function wildWriter(): BootImage {
  const program = new Assembler()
    .li(a0, 0x9e37_79b9_7f4a_7c15n)
    .li(a1, wildFrom)
    .li(a2, BigInt(wildBytes - pageBytes))
    .li(a3, BigInt(pageBytes))
    .label('next')
    .emit('mul', { rd: s0, rs1: s0, rs2: a0 })
    .emit('addi', { rd: s0, rs1: s0, imm: 1 })
    .emit('srli', { rd: t0, rs1: s0, imm: 20 })
    .emit('and', { rd: t0, rs1: t0, rs2: a2 })
    .emit('add', { rd: t0, rs1: t0, rs2: a1 })
    .emit('andi', { rd: t1, rs1: s0, imm: 0x70 })
    .to('clear', 'beq', { rs1: t1 })
    .emit('sd', { rs1: t0, rs2: s0, imm: 8 })
    .to('next', 'jal')
    .label('clear')
    .emit('add', { rd: t1, rs1: t0, rs2: a3 })
    .label('on')
    .emit('sd', { rs1: t0 })
    .emit('addi', { rd: t0, rs1: t0, imm: 8 })
    .to('on', 'bltu', { rs1: t0, rs2: t1 })
    .to('next', 'jal')
  return bareProgram({ code: [...new Uint32Array(program.bytes().buffer)] })
}
