/** The two that run a random program: QEMU's user-mode emulator, and the engine as a bare machine. */

import { spawnSync } from 'node:child_process'
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Engine, ramBase } from '../../src/engine/types.ts'
import { createEngine } from '../../src/engine/wasm-engine.ts'
import { csr } from '../../src/riscv/csrs.ts'
import { codeBase, recordBytes, scratchBase, scratchBytes, signatureBase, stopAddress } from './memory-map.ts'
import { type Excerpt, elfOf, type Program, segmentsOf } from './program.ts'
import { qemuTool, withTemporaryFolder } from './tools.ts'

/** What a run leaves behind. */
export interface Outcome {
  /** One record per block. */
  readonly signature: Uint8Array
  readonly scratch: Uint8Array
}

export type QemuRun = Outcome | { readonly failure: string }
export type EngineRun = (Outcome & { readonly instructions: number }) | { readonly failure: string }

const qemuTimeoutMs = 20_000
const ramBytes = 64 * 1024 * 1024
/** Instructions per block that no program comes near: a run that gets there does not end. */
const limitPerBlock = 1_000_000n

export function runInQemu(program: Program, excerpt: Excerpt = {}): QemuRun {
  return withTemporaryFolder((folder) => {
    const elf = join(folder, 'program.elf')
    const output = join(folder, 'output')
    writeFileSync(elf, elfOf(program, excerpt), { mode: 0o755 })
    const file = openSync(output, 'w')
    const run = spawnSync(qemuTool, [elf], {
      stdio: ['ignore', file, 'pipe'],
      timeout: qemuTimeoutMs,
      encoding: 'utf8',
    })
    closeSync(file)
    const bytes = readFileSync(output)
    const signatureBytes = program.blocks.length * recordBytes
    if (run.status !== 0 || bytes.length !== signatureBytes + scratchBytes) {
      return {
        failure: `qemu: status ${run.status}, signal ${run.signal}, ${bytes.length} bytes. ${run.stderr}`.trim(),
      }
    }
    return { signature: bytes.subarray(0, signatureBytes), scratch: bytes.subarray(signatureBytes) }
  })
}

/** How the engine is driven. None of it may make a difference. */
export interface EngineDrive {
  /** 3 = M, 1 = S, 0 = U; without address translation. */
  readonly privilege?: 0 | 1 | 3
  /** Length of the next slice; one long slice unless told. */
  readonly nextSlice?: () => bigint
}

const emptyBus = { load: () => undefined, store: () => false }
const floatInitial = 1n << 13n

export function newEngine(): Engine {
  return createEngine({ ramBytes, bus: emptyBus })
}

/** Runs on a fresh or used engine: it is reset first. */
export function runInEngine(
  engine: Engine,
  program: Program,
  excerpt: Excerpt = {},
  drive: EngineDrive = {},
): EngineRun {
  engine.reset()
  for (const { address, bytes } of segmentsOf(program, excerpt)) engine.storeBytes(address, bytes)
  engine.pc = BigInt(codeBase)
  engine.privilege = drive.privilege ?? 3
  engine.setCsr(csr.mstatus, engine.getCsr(csr.mstatus) | floatInitial)
  engine.setCsr(csr.mtvec, BigInt(program.trapHandler))
  engine.watchStore(stopAddress)
  const start = engine.count
  const limit = start + limitPerBlock * BigInt(program.blocks.length)
  while (engine.count < limit) {
    const slice = drive.nextSlice?.() ?? limit
    const exit = engine.run(engine.count + slice < limit ? engine.count + slice : limit)
    if (exit === 'stopRequested') break
    if (exit !== 'count') return { failure: `engine: ${exit} at ${engine.pc.toString(16)}` }
  }
  // AUIPC and SD stand between the end and the stop.
  if (engine.pc !== BigInt(program.end + 8)) {
    const [mcause, mepc, mtval] = [csr.mcause, csr.mepc, csr.mtval].map((address) =>
      engine.getCsr(address).toString(16),
    )
    return { failure: `engine: stopped at ${engine.pc.toString(16)}, mcause ${mcause}, mepc ${mepc}, mtval ${mtval}` }
  }
  const ram = (address: number, length: number): Uint8Array => {
    return engine.ram.slice(address - ramBase, address - ramBase + length)
  }
  return {
    signature: ram(signatureBase, program.blocks.length * recordBytes),
    scratch: ram(scratchBase, scratchBytes),
    instructions: Number(engine.count - start),
  }
}
