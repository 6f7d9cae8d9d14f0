import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decode } from './decoder.ts'

test('a 32-bit instruction decodes to its row and sign-extended immediate', () => {
  const addi = decode(0xfff10093)! // addi ra, sp, -1
  assert.deepEqual([addi.instruction.name, addi.rd, addi.rs1, addi.immediate, addi.lengthBytes], ['addi', 1, 2, -1, 4])
  const jal = decode(0xffdff06f)! // jal zero, -4
  assert.deepEqual([jal.instruction.name, jal.rd, jal.immediate], ['jal', 0, -4])
  const beq = decode(0xfe000ee3)! // beq zero, zero, -4
  assert.deepEqual([beq.instruction.name, beq.immediate], ['beq', -4])
})

test('a CSR access that cannot write decodes to a read', () => {
  assert.equal(decode(0xc0102573)!.instruction.name, 'csrrs.read') // rdtime a0
  assert.equal(decode(0x30051073)!.instruction.name, 'csrrw') // csrw mstatus, a0
})

test('a 16-bit form decodes to its base instruction', () => {
  const form = decode(0x1141)! // addi sp, sp, -16
  assert.deepEqual([form.instruction.name, form.rd, form.rs1, form.immediate, form.lengthBytes], ['addi', 2, 2, -16, 2])
  const jump = decode(0x8082)! // ret
  assert.deepEqual([jump.instruction.name, jump.rd, jump.rs1], ['jalr', 0, 1])
})

test('reserved encodings are no instruction', () => {
  for (const bits of [0x0000, 0xffff_ffff, 0x6101, 0x2001, 0x4002, 0x8002]) assert.equal(decode(bits), undefined)
})
