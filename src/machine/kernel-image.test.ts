import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MiB } from '../base/units.ts'
import { planLinux } from './boot.ts'
import { describeKernel } from './kernel-image.ts'
import { kernelImage } from './test-support/boot-images.ts'
import type { BootImage } from './types.ts'

test('a riscv64 Image tells where it wants to be and how much memory it takes', () => {
  assert.deepEqual(describeKernel(kernelImage(5_000_000)), { textOffset: 0x20_0000, imageBytes: 5_000_000 })
})

function withText(offset: number, text: string): Uint8Array {
  const file = kernelImage()
  file.fill(0, 0x30, 0x40)
  file.set(
    [...text].map((letter) => letter.charCodeAt(0)),
    offset,
  )
  return file
}

const wrong: [string, Uint8Array, string][] = [
  ['a kernel for arm64', withText(0x38, 'ARM\x64'), 'kernel-wrong-architecture'],
  ['a kernel for x86', withText(0x202, 'HdrS'), 'kernel-wrong-architecture'],
  ['an ELF file for x86', withText(0, '\x7fELF\x02\x01'), 'kernel-wrong-architecture'],
  ['a gzip file', withText(0, '\x1f\x8b'), 'kernel-compressed'],
  ['an EFI zboot wrapper', withText(0, 'MZ\0\0zimg'), 'kernel-compressed'],
  ['a text file', withText(0, 'hello'), 'not-a-riscv-kernel'],
  ['an empty file', new Uint8Array(0), 'kernel-truncated'],
  ['the first bytes of an Image', kernelImage().subarray(0, 60), 'kernel-truncated'],
]
for (const [what, file, code] of wrong) {
  test(`${what} is refused as ${code}, in one line`, () => {
    assert.throws(
      () => describeKernel(file),
      (error: Error & { code: string }) => error.code === code && !error.message.includes('\n'),
    )
  })
}

/** An Image with an EFI stub, whose one section ends at `endBytes`. */
function efiImage(endBytes: number): Uint8Array {
  const file = kernelImage()
  const view = new DataView(file.buffer)
  file.set([0x4d, 0x5a])
  view.setUint32(0x3c, 0x40, true)
  file.set([0x50, 0x45, 0, 0], 0x40)
  view.setUint16(0x40 + 6, 1, true)
  view.setUint16(0x40 + 20, 0xa0, true)
  const section = 0x40 + 24 + 0xa0
  view.setUint32(section + 16, endBytes - 0x400, true)
  view.setUint32(section + 20, 0x400, true)
  return file
}

test('an Image shorter than its own section table says is truncated', () => {
  assert.equal(describeKernel(efiImage(0x1000)).textOffset, 0x20_0000)
  assert.throws(() => describeKernel(efiImage(0x1001)), { code: 'kernel-truncated' })
  assert.throws(() => describeKernel(efiImage(0x1000).subarray(0, 0x90)), { code: 'kernel-truncated' })
})

test('kernel, initrd and device tree never overlap, and too little memory says how much is needed', () => {
  const image = (initrdBytes: number): Extract<BootImage, { kind: 'linux' }> => {
    return { kind: 'linux', kernel: kernelImage(), initrd: new Uint8Array(initrdBytes), bootArguments: '' }
  }
  const config = { ramBytes: 64 * MiB, disks: [] }
  const kernel = describeKernel(kernelImage(10 * MiB))
  const layout = planLinux(config, image(5 * MiB + 1), kernel)
  assert.equal(layout.initrdAddress % 4096, 0)
  assert.ok(layout.kernelAddress + kernel.imageBytes <= layout.initrdAddress)
  assert.ok(layout.initrdAddress + 5 * MiB + 1 <= layout.treeAddress)
  assert.throws(() => planLinux(config, image(55 * MiB), kernel), { code: 'ram-too-small', message: /69 MiB/ })
})
