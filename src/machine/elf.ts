/**
 * Reads a bare program: a statically linked 64-bit little-endian RISC-V ELF executable (System V ABI, ELF-64; RISC-V ELF
 * psABI). Segments go to their physical addresses; symbols are searched for `tohost` and `fromhost` only.
 */

import { WorldError } from '../base/assert.ts'

export interface BareProgram {
  readonly entry: bigint
  /** `bytes` from the file, then zeros up to `memoryBytes`. */
  readonly segments: readonly { readonly address: number; readonly bytes: Uint8Array; readonly memoryBytes: number }[]
  /** HTIF mailboxes, as physical addresses, where the program has them. */
  readonly tohost: number | undefined
  readonly fromhost: number | undefined
}

const headerBytes = 64
const programHeaderBytes = 56
const sectionHeaderBytes = 64
const symbolBytes = 24
const machineRiscv = 243
const typeExecutable = 2
const segmentLoad = 1
const sectionSymbols = 2

interface ProgramHeader {
  readonly fileOffset: number
  readonly virtualAddress: number
  readonly physicalAddress: number
  readonly fileBytes: number
  readonly memoryBytes: number
}

export function readElf(file: Uint8Array): BareProgram {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  if (file.length < headerBytes || view.getUint32(0, false) !== 0x7f45_4c46) {
    throw new WorldError('not-an-elf', 'the program is not an ELF file')
  }
  if (file[4] !== 2 || file[5] !== 1 || view.getUint16(18, true) !== machineRiscv) {
    throw new WorldError('elf-wrong-architecture', 'the program is not for 64-bit little-endian RISC-V')
  }
  if (view.getUint16(16, true) !== typeExecutable) {
    throw new WorldError('elf-not-static', 'the program is not a statically linked executable: link it with -static')
  }

  const headers = programHeaders(view)
  const segments = headers
    .filter(({ memoryBytes }) => memoryBytes > 0)
    .map(({ fileOffset, fileBytes, physicalAddress, memoryBytes }) => {
      return { address: physicalAddress, bytes: file.subarray(fileOffset, fileOffset + fileBytes), memoryBytes }
    })
  if (segments.length === 0) throw new WorldError('elf-empty', 'the program has no loadable segment')

  const symbols = findSymbols(file, view, ['tohost', 'fromhost'])
  const physical = (name: string) => {
    const address = symbols.get(name)
    if (address === undefined) return undefined
    if (address % 8 !== 0)
      throw new WorldError('elf-damaged', `the program's symbol "${name}" is not aligned to 8 bytes`)
    const home = headers.find((h) => address >= h.virtualAddress && address < h.virtualAddress + h.memoryBytes)
    return home ? address - home.virtualAddress + home.physicalAddress : address
  }
  return { entry: view.getBigUint64(24, true), segments, tohost: physical('tohost'), fromhost: physical('fromhost') }
}

function truncated(): WorldError {
  return new WorldError('elf-truncated', 'the program file ends early: copy it again')
}

/** A file offset or length that must lie inside the file. Beyond 2^53 it is outside any file. */
function fileNumber(view: DataView, offset: number): number {
  return Number(view.getBigUint64(offset, true))
}

function programHeaders(view: DataView): ProgramHeader[] {
  const start = fileNumber(view, 32)
  const entryBytes = view.getUint16(54, true)
  const count = view.getUint16(56, true)
  if (count > 0 && (entryBytes < programHeaderBytes || start + count * entryBytes > view.byteLength)) throw truncated()
  const headers: ProgramHeader[] = []
  for (let index = 0; index < count; index++) {
    const at = start + index * entryBytes
    if (view.getUint32(at, true) !== segmentLoad) continue
    const header = {
      fileOffset: fileNumber(view, at + 8),
      virtualAddress: fileNumber(view, at + 16),
      physicalAddress: fileNumber(view, at + 24),
      fileBytes: fileNumber(view, at + 32),
      memoryBytes: fileNumber(view, at + 40),
    }
    if (header.fileOffset + header.fileBytes > view.byteLength) throw truncated()
    if (header.fileBytes > header.memoryBytes) {
      throw new WorldError('elf-damaged', 'the program has a segment that is larger in the file than in memory')
    }
    headers.push(header)
  }
  return headers
}

/** Values of the named symbols. A file without a symbol table has none; a damaged table has none either. */
function findSymbols(file: Uint8Array, view: DataView, names: readonly string[]): Map<string, number> {
  const found = new Map<string, number>()
  const start = fileNumber(view, 40)
  const entryBytes = view.getUint16(58, true)
  const count = view.getUint16(60, true)
  if (count === 0 || entryBytes < sectionHeaderBytes || start + count * entryBytes > view.byteLength) return found
  for (let index = 0; index < count; index++) {
    const at = start + index * entryBytes
    if (view.getUint32(at + 4, true) !== sectionSymbols) continue
    const link = view.getUint32(at + 40, true)
    if (link >= count) continue
    const symbols = { offset: fileNumber(view, at + 24), lengthBytes: fileNumber(view, at + 32) }
    const stringsAt = start + link * entryBytes
    const strings = { offset: fileNumber(view, stringsAt + 24), lengthBytes: fileNumber(view, stringsAt + 32) }
    if (symbols.offset + symbols.lengthBytes > view.byteLength) continue
    if (strings.offset + strings.lengthBytes > view.byteLength) continue
    const table = file.subarray(strings.offset, strings.offset + strings.lengthBytes)
    for (let symbol = 0; symbol + symbolBytes <= symbols.lengthBytes; symbol += symbolBytes) {
      const name = view.getUint32(symbols.offset + symbol, true)
      const match = names.find((candidate) => isTextAt(table, name, candidate))
      if (match) found.set(match, fileNumber(view, symbols.offset + symbol + 8))
    }
  }
  return found
}

function isTextAt(table: Uint8Array, offset: number, text: string): boolean {
  for (let index = 0; index < text.length; index++) {
    if (table[offset + index] !== text.charCodeAt(index)) return false
  }
  return table[offset + text.length] === 0
}
