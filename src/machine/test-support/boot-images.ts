/** Boot images for tests, made byte by byte: the smallest files that the loaders accept. */

import type { BootImage } from '../types.ts'

/** A Linux Image that is all header. */
export function kernelImage(imageBytes = 0x1000): Uint8Array {
  const file = new Uint8Array(0x1000)
  const view = new DataView(file.buffer)
  view.setUint32(0, 0x0000_006f, true) // jal x0, 0
  view.setBigUint64(0x08, 0x20_0000n, true)
  view.setBigUint64(0x10, BigInt(imageBytes), true)
  view.setUint32(0x20, 2, true)
  file.set(new TextEncoder().encode('RISCV\0\0\0RSC\x05'), 0x30)
  return file
}

export interface ElfOptions {
  readonly tohost?: number
  readonly address?: number
  readonly memoryBytes?: number
  /** The segment's words. Default: an endless loop and zeros. */
  readonly code?: readonly number[]
}

const codeOffset = 0x300

/** An ELF executable with one segment at `address` (default: start of RAM) and the symbol `tohost`. */
export function elfFile(options: ElfOptions = {}): Uint8Array {
  const { tohost = 0x8000_1000, address = 0x8000_0000, code = [0x0000_006f, 0, 0, 0] } = options
  const codeBytes = code.length * 4
  const file = new Uint8Array(codeOffset + codeBytes)
  const view = new DataView(file.buffer)
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1])
  view.setUint16(16, 2, true)
  view.setUint16(18, 243, true)
  view.setUint32(20, 1, true)
  view.setBigUint64(24, BigInt(address), true)
  view.setBigUint64(32, 0x40n, true)
  view.setBigUint64(40, 0x200n, true)
  view.setUint16(52, 64, true)
  view.setUint16(54, 56, true)
  view.setUint16(56, 1, true)
  view.setUint16(58, 64, true)
  view.setUint16(60, 3, true)
  // Program header
  view.setUint32(0x40, 1, true)
  view.setBigUint64(0x48, BigInt(codeOffset), true)
  view.setBigUint64(0x50, BigInt(address), true)
  view.setBigUint64(0x58, BigInt(address), true)
  view.setBigUint64(0x60, BigInt(codeBytes), true)
  view.setBigUint64(0x68, BigInt(options.memoryBytes ?? codeBytes), true)
  code.forEach((word, index) => {
    view.setUint32(codeOffset + index * 4, word, true)
  })
  // Symbols at 0x120: the null symbol, then tohost. Strings at 0x180.
  view.setUint32(0x120 + 24, 1, true)
  view.setBigUint64(0x120 + 32, BigInt(tohost), true)
  file.set(new TextEncoder().encode('\0tohost\0'), 0x180)
  // Section headers at 0x200: null, symbols, strings.
  view.setUint32(0x244, 2, true)
  view.setBigUint64(0x258, 0x120n, true)
  view.setBigUint64(0x260, 48n, true)
  view.setUint32(0x268, 2, true)
  view.setUint32(0x284, 3, true)
  view.setBigUint64(0x298, 0x180n, true)
  view.setBigUint64(0x2a0, 8n, true)
  return file
}

export function bareProgram(options?: ElfOptions): BootImage {
  return { kind: 'elf', file: elfFile(options) }
}
