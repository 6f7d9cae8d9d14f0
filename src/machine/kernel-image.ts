/**
 * Reads the header of a Linux `Image` for RISC-V (Linux: Documentation/arch/riscv/boot-image-header.rst), and says what
 * is wrong with a file that is none. Decompression is not done here; the layer that reads files does it first.
 *
 *     0x00  code     0x08  text_offset u64   0x10  image_size u64 (with bss)   0x18  flags u64
 *     0x20  version  0x30  "RISCV\0\0\0"     0x38  "RSC\x05"                   0x3c  offset of the PE header (EFI stub)
 */

import { WorldError } from '../base/assert.ts'
import { MiB } from '../base/units.ts'

export interface KernelDescription {
  /** Where the kernel wants to be, from the start of RAM. */
  readonly textOffset: number
  /** Memory it occupies from there, its zeroed data included. */
  readonly imageBytes: number
}

const headerBytes = 64

/** Headers of files that people hand us by mistake, and what each is. */
const strangers: readonly { readonly offset: number; readonly magic: string; readonly what: string }[] = [
  { offset: 0x38, magic: 'ARM\x64', what: 'a kernel for arm64' },
  { offset: 0x202, magic: 'HdrS', what: 'a kernel for x86' },
  { offset: 0x38, magic: '\xd1\xd2\xc1\xcd', what: 'a kernel for LoongArch' },
]

const compressions: readonly { readonly offset: number; readonly magic: string; readonly what: string }[] = [
  { offset: 0, magic: '\x1f\x8b', what: 'gzip' },
  { offset: 0, magic: '\xfd7zXZ', what: 'xz' },
  { offset: 0, magic: '\x28\xb5\x2f\xfd', what: 'zstd' },
  { offset: 4, magic: 'zimg', what: 'an EFI zboot wrapper' },
]

function hasMagic(file: Uint8Array, offset: number, magic: string): boolean {
  return [...magic].every((letter, index) => file[offset + index] === letter.charCodeAt(0))
}

/** Throws a `WorldError` with one clear line unless `file` is a whole, uncompressed Linux Image for RISC-V. */
export function describeKernel(file: Uint8Array): KernelDescription {
  const compression = compressions.find(({ offset, magic }) => hasMagic(file, offset, magic))
  if (compression) {
    throw new WorldError('kernel-compressed', `the kernel is compressed (${compression.what}): decompress it first`)
  }
  const stranger = strangers.find(({ offset, magic }) => hasMagic(file, offset, magic))
  if (stranger) {
    throw new WorldError('kernel-wrong-architecture', `the kernel is ${stranger.what}: a riscv64 Image is needed`)
  }
  if (hasMagic(file, 0, '\x7fELF')) {
    const isRiscv = file[4] === 2 && file[18] === 243
    throw isRiscv
      ? new WorldError('not-a-kernel-image', 'the kernel is an ELF file (vmlinux): use arch/riscv/boot/Image')
      : new WorldError(
          'kernel-wrong-architecture',
          'the kernel is an ELF file for another architecture: a riscv64 Image is needed',
        )
  }
  if (file.length < headerBytes) throw truncated(`only ${file.length} bytes`)
  if (!hasMagic(file, 0x38, 'RSC\x05')) {
    throw new WorldError('not-a-riscv-kernel', 'the kernel is not a Linux Image for RISC-V (no "RSC\\5" in its header)')
  }
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  const textOffset = Number(view.getBigUint64(0x08, true))
  const imageBytes = Number(view.getBigUint64(0x10, true))
  if (imageBytes === 0 || textOffset % (2 * MiB) !== 0) {
    throw new WorldError('kernel-damaged', 'the kernel Image has an impossible size or load offset in its header')
  }
  const fileBytes = bytesByPeHeader(file, view)
  if (fileBytes !== undefined && file.length < fileBytes) {
    throw truncated(`${file.length} bytes, its header says ${fileBytes}`)
  }
  return { textOffset, imageBytes: Math.max(imageBytes, file.length) }
}

function truncated(how: string): WorldError {
  return new WorldError('kernel-truncated', `the kernel Image is truncated (${how}): copy or build it again`)
}

/** With an EFI stub the Image is also a PE file, whose section table says how long the file is. */
function bytesByPeHeader(file: Uint8Array, view: DataView): number | undefined {
  if (!hasMagic(file, 0, 'MZ')) return undefined
  const header = view.getUint32(0x3c, true)
  if (header + 24 > file.length) throw truncated(`${file.length} bytes, its EFI header lies behind that`)
  if (!hasMagic(file, header, 'PE\0\0')) return undefined
  const sections = view.getUint16(header + 6, true)
  const table = header + 24 + view.getUint16(header + 20, true)
  if (table + sections * 40 > file.length) throw truncated(`${file.length} bytes, its section table lies behind that`)
  let end = 0
  for (let index = 0; index < sections; index++) {
    const section = table + index * 40
    end = Math.max(end, view.getUint32(section + 20, true) + view.getUint32(section + 16, true))
  }
  return end
}
