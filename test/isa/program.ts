/**
 * The frame of a random program: a static image that runs the same under QEMU's user-mode emulation and on the bare
 * machine, and writes down every register after each block of random instructions.
 *
 * The end stores to the stop word, and then, for QEMU, writes signature and scratch to standard output and exits (Linux
 * system calls). One integer register is the frame's own (`frameRegister`) and no random instruction touches it.
 */

import type { Prng } from '../../src/base/prng.ts'
import { csr } from '../../src/riscv/csrs.ts'
import { type BlockCounts, writeBlock } from './block-writer.ts'
import { CodeBuffer, ConstantPool } from './code-buffer.ts'
import { type Segment, writeElf } from './elf-writer.ts'
import { doubleOperand, singleOperand } from './float-operands.ts'
import {
  codeBase,
  codeCapacityBytes,
  constantsBase,
  dataBase,
  recordBytes,
  scratchBase,
  scratchBytes,
  signatureBase,
  stopAddress,
} from './memory-map.ts'
import { integerOperand } from './operands.ts'

const floatOffset = 32 * 8
const fcsrOffset = 64 * 8
const systemCall = { write: 64, exit: 93 } as const

export interface Block {
  readonly start: number
  /** The random instructions, without the frame's own around them. */
  readonly bodyStart: number
  readonly bodyEnd: number
}

export interface Program {
  readonly code: Uint8Array
  readonly constants: Uint8Array
  /** One record. */
  readonly initialState: Uint8Array
  readonly initialScratch: Uint8Array
  readonly blocks: readonly Block[]
  readonly frameRegister: number
  /** Where the jump to the first block is. */
  readonly entryJump: number
  readonly end: number
  /** The handler for traps, none of which should happen: it stops the bare machine too. */
  readonly trapHandler: number
  /** Instructions of the frame in a whole run: what is executed and not random. */
  readonly frameInstructions: number
  /** How often each instruction and compressed form was written. */
  readonly counts: BlockCounts
}

function randomState(prng: Prng): Uint8Array {
  const view = new DataView(new ArrayBuffer(recordBytes))
  for (let x = 1; x < 32; x++) view.setBigUint64(x * 8, integerOperand(prng), true)
  for (let f = 0; f < 32; f++) {
    view.setBigUint64(floatOffset + f * 8, prng.chance(0.5) ? singleOperand(prng) : doubleOperand(prng), true)
  }
  view.setBigUint64(fcsrOffset, BigInt((prng.below(5) << 5) | prng.below(32)), true)
  return new Uint8Array(view.buffer)
}

/** Loads every register, except the frame's, from the initial state. */
function writeEntry(code: CodeBuffer, frame: number): void {
  const temporary = frame === 5 ? 6 : 5
  code.loadAddress(frame, dataBase)
  code.emitNamed('ld', { rd: temporary, rs1: frame, immediate: fcsrOffset })
  code.emitNamed('csrrw', { rd: 0, rs1: temporary, csr: csr.fcsr })
  for (let f = 0; f < 32; f++) code.emitNamed('fld', { rd: f, rs1: frame, immediate: floatOffset + f * 8 })
  for (let x = 1; x < 32; x++) if (x !== frame) code.emitNamed('ld', { rd: x, rs1: frame, immediate: x * 8 })
}

/** Stores every register, except the frame's, into the record it points at. */
function writeDump(code: CodeBuffer, frame: number): void {
  const temporary = frame === 5 ? 6 : 5
  for (let x = 1; x < 32; x++) if (x !== frame) code.emitNamed('sd', { rs2: x, rs1: frame, immediate: x * 8 })
  for (let f = 0; f < 32; f++) code.emitNamed('fsd', { rs2: f, rs1: frame, immediate: floatOffset + f * 8 })
  code.emitNamed('csrrs.read', { rd: temporary, csr: csr.fcsr })
  code.emitNamed('sd', { rs2: temporary, rs1: frame, immediate: fcsrOffset })
  code.emitNamed('ld', { rd: temporary, rs1: frame, immediate: temporary * 8 })
}

function writeEnd(code: CodeBuffer, frame: number, signatureBytes: number): void {
  const [a0, a1, a2, a7] = [10, 11, 12, 17]
  const constant = (rd: number, value: number): void => {
    code.emitNamed('lui', { rd, immediate: (value + 0x800) & ~0xfff })
    code.emitNamed('addiw', { rd, rs1: rd, immediate: (value << 20) >> 20 })
  }
  const write = (address: number, lengthBytes: number): void => {
    constant(a0, 1)
    code.loadAddress(a1, address)
    constant(a2, lengthBytes)
    constant(a7, systemCall.write)
    code.emitNamed('ecall', {})
  }
  code.accessAt('sd', frame, stopAddress, { rs2: 0 })
  write(signatureBase, signatureBytes)
  write(scratchBase, scratchBytes)
  constant(a0, 0)
  constant(a7, systemCall.exit)
  code.emitNamed('ecall', {})
}

export function writeProgram(prng: Prng, blockCount: number): Program {
  const code = new CodeBuffer(codeBase, new Uint8Array(codeCapacityBytes))
  const constants = new ConstantPool(constantsBase)
  const counts: BlockCounts = new Map()
  const frameRegister = 1 + prng.below(31)
  const initialState = randomState(prng)
  const initialScratch = new Uint8Array(scratchBytes)
  const scratchView = new DataView(initialScratch.buffer)
  for (let offset = 0; offset < scratchBytes; offset += 8) {
    scratchView.setBigUint64(offset, prng.chance(0.5) ? integerOperand(prng) : doubleOperand(prng), true)
  }

  writeEntry(code, frameRegister)
  const entryJump = code.address
  code.jumpTo(frameRegister, code.address + 8)
  const entryInstructions = (code.address - codeBase) / 4
  const blocks: Block[] = []
  for (let index = 0; index < blockCount; index++) {
    const start = code.address
    code.loadAddress(frameRegister, signatureBase + index * recordBytes)
    const bodyStart = code.address
    writeBlock({ prng, code, constants, counts, frameRegister })
    const bodyEnd = code.address
    writeDump(code, frameRegister)
    blocks.push({ start, bodyStart, bodyEnd })
  }
  const end = code.address
  const lastDump = (end - (blocks.at(-1)?.bodyEnd ?? end)) / 4
  writeEnd(code, frameRegister, blockCount * recordBytes)
  const trapHandler = Math.ceil(code.address / 4) * 4
  while (code.address < trapHandler) code.emit(1) // c.nop
  code.accessAt('sd', frameRegister, stopAddress, { rs2: 0 })
  return {
    code: code.bytes,
    constants: constants.bytes,
    initialState,
    initialScratch,
    blocks,
    frameRegister,
    entryJump,
    end,
    trapHandler,
    frameInstructions: entryInstructions + blockCount * (2 + lastDump) + 2,
    counts,
  }
}

/** What to run of a program, and from which state: all of it from its own unless told. */
export interface Excerpt {
  readonly first?: number
  readonly last?: number
  readonly state?: Uint8Array
  readonly scratch?: Uint8Array
  /** Instructions to replace, by address, with others of the same length. */
  readonly patches?: ReadonlyMap<number, number>
}

export function segmentsOf(program: Program, excerpt: Excerpt = {}): Segment[] {
  const { first = 0, last = program.blocks.length - 1 } = excerpt
  const bytes = program.code.slice()
  const code = new CodeBuffer(codeBase, bytes)
  code.moveTo(program.entryJump)
  code.jumpTo(program.frameRegister, program.blocks[first]!.start)
  const next = program.blocks[last + 1]
  if (next) {
    code.moveTo(next.start)
    code.jumpTo(program.frameRegister, program.end)
  }
  for (const [address, bits] of excerpt.patches ?? []) code.patch(address, bits)

  const data = new Uint8Array(constantsBase - dataBase + program.constants.length)
  data.set(excerpt.state ?? program.initialState, 0)
  data.set(excerpt.scratch ?? program.initialScratch, scratchBase - dataBase)
  data.set(program.constants, constantsBase - dataBase)
  return [
    { address: codeBase, bytes, memoryBytes: bytes.length },
    { address: dataBase, bytes: data, memoryBytes: data.length },
    {
      address: signatureBase,
      bytes: new Uint8Array(0),
      memoryBytes: program.blocks.length * recordBytes,
    },
  ]
}

export function elfOf(program: Program, excerpt: Excerpt = {}): Uint8Array {
  return writeElf(codeBase, segmentsOf(program, excerpt))
}
