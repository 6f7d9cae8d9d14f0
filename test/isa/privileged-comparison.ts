/** Runs a privileged program on `qemu-system-riscv64` and on the engine, and compares records, page tables and data. */

import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Engine, ramBase } from '../../src/engine/types.ts'
import { createEngine } from '../../src/engine/wasm-engine.ts'
import { exceptionCause } from '../../src/riscv/causes.ts'
import { disassemble } from '../../src/riscv/disassembler.ts'
import { dataAreaBase, dataAreaBytes, tableBytes, tableCount, tablesBase } from './page-tables.ts'
import {
  type PrivilegedProgram,
  type Probe,
  recordNames,
  recordsBase,
  stopWord,
  timerCompare,
} from './privileged-program.ts'
import { qemuSystemTool, withTemporaryFolder } from './tools.ts'

const ramMebibytes = 64
const qemuTimeoutMs = 60_000
/** No program comes near. */
const instructionLimit = 50_000_000n
/** What our hart does not have, and every QEMU from 7.2 on has. */
const absentExtensions = ['h', 'v', 'pmp', 'zba', 'zbb', 'zbc', 'zbs', 'svinval', 'svnapot', 'svpbmt', 'sstc']
/** Later QEMUs have more; earlier ones do not know the names. */
const absentFromVersion8 = ['zfa', 'zawrs', 'zicbom', 'zicboz']

/** QEMU's name for a hart like ours. */
function qemuHart(): string {
  const [, major = '0'] =
    /version (\d+)/.exec(spawnSync(qemuSystemTool, ['--version'], { encoding: 'utf8' }).stdout) ?? []
  const absent = Number(major) >= 8 ? [...absentExtensions, ...absentFromVersion8] : absentExtensions
  return ['rv64', ...absent.map((extension) => `${extension}=false`)].join(',')
}

/** All of RAM after the run, or undefined if it did not end. QEMU's RAM is a file, so nothing has to be printed. */
function runInQemuSystem(program: PrivilegedProgram): Uint8Array | undefined {
  return withTemporaryFolder((folder) => {
    const elf = join(folder, 'program.elf')
    const ram = join(folder, 'ram')
    writeFileSync(elf, program.elf)
    const memory = `memory-backend-file,id=ram,size=${ramMebibytes}M,mem-path=${ram},share=on`
    const flags = ['-machine', 'virt,memory-backend=ram', '-object', memory, '-m', `${ramMebibytes}M`, '-smp', '2']
    flags.push('-cpu', qemuHart(), '-bios', 'none', '-kernel', elf, '-display', 'none', '-nodefaults')
    const run = spawnSync(qemuSystemTool, flags, { timeout: qemuTimeoutMs })
    return run.status === 0 ? readFileSync(ram) : undefined
  })
}

/** An engine for privileged programs: the only device is the timer's compare register, which takes anything. */
export function newPrivilegedEngine(): Engine {
  const bus = { load: () => undefined, store: (address: number) => address === timerCompare }
  return createEngine({ ramBytes: ramMebibytes * 1024 * 1024, bus })
}

function runInEngine(engine: Engine, program: PrivilegedProgram, nextSlice: () => bigint): Uint8Array | undefined {
  engine.reset()
  for (const { address, bytes } of program.segments) engine.storeBytes(address, bytes)
  // Our TLB is invisible: every access behaves as if it walked the page table. So nothing has to be flushed.
  const fence = Uint8Array.of(0x0f, 0, 0xf0, 0x0f)
  for (const address of program.flushes) engine.storeBytes(address, fence)
  engine.pc = BigInt(ramBase)
  engine.privilege = 3
  engine.watchStore(stopWord)
  const limit = engine.count + instructionLimit
  while (engine.count < limit) {
    if (engine.run(engine.count + nextSlice()) === 'stopRequested') break
  }
  return engine.pc === BigInt(program.end) ? engine.ram : undefined
}

function word(ram: Uint8Array, address: number): bigint {
  return new DataView(ram.buffer, ram.byteOffset).getBigUint64(address - ramBase, true)
}

type RecordValues = Record<string, bigint>

function recordOf(ram: Uint8Array, index: number): RecordValues {
  const base = recordsBase + index * recordNames.length * 8
  return Object.fromEntries(recordNames.map((name, position) => [name, word(ram, base + position * 8)]))
}

/** The record without what both sides may rightly, or QEMU 7.2 wrongly, do in another way. */
function comparable(record: RecordValues, probe: Probe): RecordValues {
  const copy = { ...record }
  for (const mode of ['m', 's']) {
    const cause = copy[`${mode}cause`]
    // EBREAK may leave its address or zero.
    if (cause === BigInt(exceptionCause.breakpoint)) copy[`${mode}tval`] = 0n
    // QEMU 7.2 calls an atomic's access fault a load's, and rounds the address down.
    if (probe.isAtomic && cause === BigInt(exceptionCause.loadAccessFault)) {
      copy[`${mode}cause`] = BigInt(exceptionCause.storeAccessFault)
    }
    if (
      copy[`${mode}cause`] === BigInt(probe.isAtomic ? exceptionCause.storeAccessFault : exceptionCause.loadAccessFault)
    ) {
      copy[`${mode}tval`]! &= ~7n
    }
  }
  return copy
}

function listing(ram: Uint8Array, { body, end }: Probe): string[] {
  const view = new DataView(ram.buffer, ram.byteOffset)
  const lines: string[] = []
  for (let address = body; address < end; ) {
    const half = view.getUint16(address - ramBase, true)
    const isLong = (half & 3) === 3
    const bits = isLong ? view.getUint32(address - ramBase, true) : half
    lines.push(`    ${address.toString(16)}: ${disassemble(bits, BigInt(address))}`)
    address += isLong ? 4 : 2
  }
  return lines
}

/** Lines about the first differences; empty when there are none. */
export function comparePrivileged(
  engine: Engine,
  program: PrivilegedProgram,
  nextSlice: () => bigint = () => instructionLimit,
): string[] {
  const theirs = runInQemuSystem(program)
  if (!theirs) return ['QEMU did not end']
  const ours = runInEngine(engine, program, nextSlice)
  if (!ours) return [`the engine did not end: pc ${engine.pc.toString(16)}`]
  const lines: string[] = []
  for (const [index, probe] of program.probes.entries()) {
    const theirRecord = comparable(recordOf(theirs, index), probe)
    const ourRecord = comparable(recordOf(ours, index), probe)
    const different = recordNames.filter((name) => theirRecord[name] !== ourRecord[name])
    if (different.length === 0) continue
    lines.push(`probe ${index}, ${probe.description}`, ...listing(ours, probe))
    for (const name of different) {
      lines.push(`  ${name}: qemu ${theirRecord[name]!.toString(16)}, engine ${ourRecord[name]!.toString(16)}`)
    }
    lines.push(`  all of QEMU's: ${recordNames.map((name) => `${name}=${theirRecord[name]!.toString(16)}`).join(' ')}`)
    if (lines.length > 40) return lines
  }
  const compareMemory = (name: string, base: number, lengthBytes: number): void => {
    for (let address = base; address < base + lengthBytes && lines.length <= 40; address += 8) {
      const [a, b] = [word(theirs, address), word(ours, address)]
      if (a !== b) lines.push(`${name} at ${address.toString(16)}: qemu ${a.toString(16)}, engine ${b.toString(16)}`)
    }
  }
  compareMemory('page table entry', tablesBase, tableCount * tableBytes)
  compareMemory('data', dataAreaBase, dataAreaBytes)
  return lines
}
