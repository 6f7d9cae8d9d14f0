import assert from 'node:assert/strict'
import { test } from 'node:test'
import { disassemble } from './disassembler.ts'

const at = 0x8000_0000n

test('an instruction reads as assembler text with the registers of the calling convention', () => {
  assert.equal(disassemble(0xfff1_0093, at), 'addi ra,sp,-1')
  assert.equal(disassemble(0xffc1_2083, at), 'lw ra,-4(sp)')
  assert.equal(disassemble(0x3001_10f3, at), 'csrrw ra,mstatus,sp')
  assert.equal(disassemble(0x3001_10f3, at, 'numeric'), 'csrrw x1,mstatus,x2')
})

test('a branch names its target, not its distance', () => {
  assert.equal(disassemble(0xffdf_f06f, at), 'jal zero,0x7ffffffc')
  assert.equal(disassemble(0xfe00_0ee3, 0n), 'beq zero,zero,0xfffffffffffffffc')
})

test('memory ordering and static rounding modes are shown, dynamic rounding is not', () => {
  assert.equal(disassemble(0x1601_20af, at), 'lr.w.aqrl ra,(sp)')
  assert.equal(disassemble(0x8330_000f, at), 'fence.tso')
  assert.equal(disassemble(0x2031_40c3, at), 'fmadd.s ft1,ft2,ft3,ft4,rmm')
  assert.equal(disassemble(0x2031_70c3, at), 'fmadd.s ft1,ft2,ft3,ft4')
})

test('a 16-bit form reads as the base instruction it stands for', () => {
  assert.equal(disassemble(0x1141, at), 'addi sp,sp,-16')
  assert.equal(disassemble(0xabcd_8082 | 0, at), 'jalr zero,0(ra)')
})

test('what is no instruction reads as data, a reserved rounding mode included', () => {
  assert.equal(disassemble(0, at), '.2byte 0x0')
  assert.equal(disassemble(0xffff_ffff, at), '.4byte 0xffffffff')
  assert.equal(disassemble(0x0251_50d3, at), '.4byte 0x25150d3')
})
