import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MiB } from '../base/units.ts'
import { checkProgramFits } from './boot.ts'
import { readElf } from './elf.ts'
import { elfFile } from './test-support/boot-images.ts'

function changed(change: (view: DataView, file: Uint8Array) => void): Uint8Array {
  const file = elfFile()
  change(new DataView(file.buffer), file)
  return file
}

test('entry, segments and the tohost symbol are found', () => {
  const { entry, segments, tohost, fromhost } = readElf(elfFile({ tohost: 0x8000_2000 }))
  assert.equal(entry, 0x8000_0000n)
  assert.deepEqual(
    segments.map(({ address, bytes, memoryBytes }) => [address, bytes.length, memoryBytes]),
    [[0x8000_0000, 16, 16]],
  )
  assert.equal(tohost, 0x8000_2000)
  assert.equal(fromhost, undefined)
})

test('a symbol in a segment whose physical address differs is translated', () => {
  const file = changed((view) => view.setBigUint64(0x50, 0xffff_ffc0_0000_0000n, true))
  new DataView(file.buffer).setBigUint64(0x120 + 32, 0xffff_ffc0_0000_0008n, true)
  // Addresses above 2^53 lose their low bits as numbers; the symbol falls to the segment's start or is left out of RAM.
  assert.doesNotThrow(() => readElf(file))
  const near = changed((view) => view.setBigUint64(0x50, 0x1000n, true))
  new DataView(near.buffer).setBigUint64(0x120 + 32, 0x1008n, true)
  assert.equal(readElf(near).tohost, 0x8000_0008)
})

const wrong: [string, Uint8Array, string][] = [
  ['a text file', new TextEncoder().encode('#!/bin/sh\n'.repeat(20)), 'not-an-elf'],
  ['an empty file', new Uint8Array(0), 'not-an-elf'],
  ['a program for x86', changed((view) => view.setUint16(18, 62, true)), 'elf-wrong-architecture'],
  ['a 32-bit program', changed((_view, file) => (file[4] = 1)), 'elf-wrong-architecture'],
  ['a shared object', changed((view) => view.setUint16(16, 3, true)), 'elf-not-static'],
  ['a truncated file', elfFile().subarray(0, 0x104), 'elf-truncated'],
  [
    'a program header table outside the file',
    changed((view) => view.setBigUint64(32, 1n << 60n, true)),
    'elf-truncated',
  ],
  ['a segment larger than its memory', changed((view) => view.setBigUint64(0x68, 8n, true)), 'elf-damaged'],
  ['a program without a segment', changed((view) => view.setUint32(0x40, 4, true)), 'elf-empty'],
]
for (const [what, file, code] of wrong) {
  test(`${what} is refused as ${code}`, () => {
    assert.throws(() => readElf(file), { code })
  })
}

test('a symbol table that points outside the file is as if there were none', () => {
  const file = changed((view) => view.setBigUint64(0x258, 1n << 40n, true))
  assert.equal(readElf(file).tohost, undefined)
})

test('a program outside RAM is refused, its zeroed memory included', () => {
  const config = { ramBytes: 64 * MiB, disks: [] }
  assert.throws(() => checkProgramFits(config, readElf(elfFile({ address: 0x1_0000 }))), { code: 'elf-outside-ram' })
  const large = readElf(elfFile({ memoryBytes: 65 * MiB }))
  assert.throws(() => checkProgramFits(config, large), { code: 'elf-outside-ram' })
})
