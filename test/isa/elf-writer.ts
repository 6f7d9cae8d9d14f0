/**
 * A static RISC-V ELF executable from bytes in memory, just enough for a loader: ELF header and program headers, no
 * sections, no symbols (System V gABI, "Object Files", "Program Loading"; RISC-V ELF psABI for the flags).
 */

import { ByteWriter } from '../../src/base/bytes.ts'

export interface Segment {
  /** Virtual and physical address, page-aligned. */
  readonly address: number
  readonly bytes: Uint8Array
  /** Bytes in memory; what the file doesn't hold is zero. */
  readonly memoryBytes: number
}

const pageBytes = 4096
const headerBytes = 64
const programHeaderBytes = 56
const typeExecutable = 2
const machineRiscv = 243
/** Compressed instructions, double-float calling convention. */
const riscvFlags = 0x1 | 0x4
const loadable = 1
const readWriteExecute = 7

function pageAligned(value: number): number {
  return Math.ceil(value / pageBytes) * pageBytes
}

export function writeElf(entry: number, segments: readonly Segment[]): Uint8Array {
  const writer = new ByteWriter()
  writer.raw(Uint8Array.of(0x7f, 0x45, 0x4c, 0x46)) // magic
  writer.raw(Uint8Array.of(2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)) // 64 bits, little-endian, version 1
  writer.u16(typeExecutable).u16(machineRiscv).u32(1)
  writer.u64(BigInt(entry)).u64(BigInt(headerBytes)).u64(0n) // entry, program headers, no section headers
  writer.u32(riscvFlags)
  writer.u16(headerBytes).u16(programHeaderBytes).u16(segments.length)
  writer.u16(0).u16(0).u16(0)

  let offset = pageAligned(headerBytes + programHeaderBytes * segments.length)
  for (const { address, bytes, memoryBytes } of segments) {
    writer.u32(loadable).u32(readWriteExecute)
    writer.u64(BigInt(offset)).u64(BigInt(address)).u64(BigInt(address))
    writer.u64(BigInt(bytes.length)).u64(BigInt(memoryBytes)).u64(BigInt(pageBytes))
    offset = pageAligned(offset + bytes.length)
  }
  for (const { bytes } of segments) {
    writer.raw(new Uint8Array(pageAligned(writer.length) - writer.length)).raw(bytes)
  }
  return writer.finish()
}
