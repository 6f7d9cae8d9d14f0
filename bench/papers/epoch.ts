/**
 * Bressoud & Schneider's table on our machine: how much longer a guest takes in epochs than bare, by the length of an epoch,
 * for a guest that computes, one that writes the disk and one that reads it, under either form of rule P2.
 *
 *     npm run bench:papers -- [--quick] [--json] [--write] [--wait-minutes M]
 *
 * Normalized performance is time in epochs / time bare: for the guest that computes, instructions in a window of time; for the
 * others, disk operations. Their disk took about 25 ms and their link had 10 Mbit/s, so those are injected there; the
 * guest that computes has a channel as fast as it goes. CPU per epoch is what one costs the primary's hart beyond its
 * instructions, under revised P2: CPU time of this process, without a backup beside it.
 */

import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs, promisify } from 'node:util'
import { MiB } from '../../src/base/units.ts'
import { createEngine } from '../../src/engine/wasm-engine.ts'
import { ClockKeeper } from '../../src/hypervisor/clock-keeper.ts'
import { EpochPrimary } from '../../src/hypervisor/epoch/epoch-primary.ts'
import { Recorder } from '../../src/hypervisor/recorder.ts'
import type { Discipline, EpochProtocol } from '../../src/log/discipline.ts'
import { createMachine } from '../../src/machine/machine.ts'
import { type BootImage, instructionCount, type Machine, type MachineConfig } from '../../src/machine/types.ts'
import { writeIntoDocument } from '../support/document.ts'
import { round2 } from '../support/figures.ts'
import { describeCommit, describeHost, quietLoad, waitUntilQuiet } from '../support/host.ts'
import { MeasuredPair, type Surroundings } from './measured-pair.ts'

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
    'wait-minutes': { type: 'string', default: '0' },
  },
})

const workloads = ['cpu', 'write', 'read'] as const
type Workload = (typeof workloads)[number]
const protocols: readonly EpochProtocol[] = ['original', 'revised']

const lengths = options.quick ? [1000, 8000, 385_000] : [1000, 2000, 4000, 8000, 32_000, 385_000, 1_000_000]
const windowMs = options.quick ? 1500 : 4000
const warmUpMs = 1500

/** What the paper's table says, original → revised; `~` where a secondary source says about so much. */
const theirs: Readonly<Record<number, Readonly<Record<Workload, string>>>> = {
  1000: { cpu: '22.2 → 11.7', write: '1.87 → 1.70', read: '2.32 → 1.92' },
  2000: { cpu: '11.8 → ~6', write: '1.71 → 1.66', read: '2.10 → 1.76' },
  4000: { cpu: '6.50 → 3.21', write: '1.67 → ~1.66', read: '2.03 → 1.72' },
  8000: { cpu: '3.83 → 2.20', write: '1.64 → 1.64', read: '1.98 → 1.70' },
  32000: { cpu: '1.84', write: '', read: '' },
  385000: { cpu: '1.24', write: '', read: '' },
}

const config: MachineConfig = { ramBytes: 64 * MiB, disks: [{ sectors: 4096n, readOnly: false, serial: 'papers' }] }
const fast: Surroundings = { diskMs: 0, channelBitsPerSecond: 0 }
const asTheirs: Surroundings = { diskMs: 25, channelBitsPerSecond: 10_000_000 }

async function buildGuest(folder: string, mode: number): Promise<BootImage> {
  const kernels = join(import.meta.dirname, '../engine/kernels')
  const path = join(folder, `guest-${mode}`)
  await promisify(execFile)('riscv64-unknown-elf-gcc', [
    ...['-march=rv64gc', '-mabi=lp64d', '-mcmodel=medany', '-O2', '-ffreestanding', '-fno-builtin', '-nostdlib'],
    ...['-Wl,--no-warn-rwx-segments', '-DROUNDS=4000000000u', '-DLINGER=0', `-DMODE=${mode}`, `-I${kernels}`],
    ...['-T', join(kernels, 'kernel.ld'), '-o', path, join(kernels, 'start.S'), join(kernels, 'kernel.c')],
    ...[join(import.meta.dirname, 'guest.c'), '-lgcc'],
  ])
  return { kind: 'elf', file: readFileSync(path) }
}

interface Speed {
  readonly instructionsPerSecond: number
  readonly operationsPerSecond: number
  readonly batchesPerSecond: number
}

async function speedOf(
  image: BootImage,
  discipline: Discipline | undefined,
  surroundings: Surroundings,
): Promise<Speed> {
  const pair = new MeasuredPair(config, image, discipline, surroundings)
  await sleep(warmUpMs)
  const before = { instructions: pair.instructions, operations: pair.operations, batches: pair.batches }
  const startedAt = performance.now()
  await sleep(windowMs)
  const seconds = (performance.now() - startedAt) / 1000
  const speed = {
    instructionsPerSecond: Number(pair.instructions - before.instructions) / seconds,
    operationsPerSecond: (pair.operations - before.operations) / seconds,
    batchesPerSecond: (pair.batches - before.batches) / seconds,
  }
  await pair.end()
  return speed
}

interface Row {
  readonly epochInstructions: number
  readonly protocol: EpochProtocol
  readonly workload: Workload
  /** Time in epochs / time bare. */
  readonly normalized: number
  readonly mips: number
}

const timeOf: Readonly<Record<Workload, (speed: Speed) => number>> = {
  cpu: ({ instructionsPerSecond }) => 1 / instructionsPerSecond,
  write: ({ operationsPerSecond }) => 1 / operationsPerSecond,
  read: ({ operationsPerSecond }) => 1 / operationsPerSecond,
}

async function measureTable(images: readonly BootImage[]): Promise<Row[]> {
  const rows: Row[] = []
  for (const [index, workload] of workloads.entries()) {
    const surroundings = workload === 'cpu' ? fast : asTheirs
    const bare = await speedOf(images[index]!, undefined, surroundings)
    for (const instructions of lengths) {
      for (const protocol of protocols) {
        const speed = await speedOf(images[index]!, { kind: 'epoch', protocol, instructions }, surroundings)
        const normalized = timeOf[workload](speed) / timeOf[workload](bare)
        const mips = speed.instructionsPerSecond / 1e6
        rows.push({ epochInstructions: instructions, protocol, workload, normalized, mips })
        console.error(`${workload} ${protocol} ${instructions}: ${round2(normalized)}, ${Math.round(mips)} MIPS`)
      }
    }
  }
  return rows
}

// ---- CPU per epoch -------------------------------------------------------------------------------------------------------

const boot = { kind: 'boot', rngSeed: new Uint8Array(64), wallClockNs: 1n } as const

/** Nanoseconds of CPU for so many instructions. */
function cpuOf(machine: Machine, instructions: bigint, runTo: (count: bigint) => void): number {
  runTo(machine.count + 200_000_000n)
  const before = process.cpuUsage()
  runTo(machine.count + instructions)
  const { user, system } = process.cpuUsage(before)
  return (user + system) * 1000
}

function newMachine(image: BootImage): Machine {
  return createMachine(config, image, (parts) => createEngine(parts))
}

function bareCpu(image: BootImage, instructions: bigint): number {
  const machine = newMachine(image)
  machine.apply(boot)
  return cpuOf(machine, instructions, (count) => {
    while (machine.count < count) if (machine.run(instructionCount(count)).kind === 'outputs') machine.takeOutputs()
  })
}

function epochCpu(image: BootImage, epochInstructions: number, instructions: bigint): number {
  const recorder = new Recorder(newMachine(image))
  const { machine } = recorder
  const epochs = new EpochPrimary(recorder, { kind: 'epoch', protocol: 'revised', instructions: epochInstructions })
  epochs.onAcknowledged(undefined)
  epochs.environmentValue(boot)
  const now = { monotonicNs: process.hrtime.bigint(), wallClockNs: BigInt(Date.now()) * 1_000_000n }
  const keeper = new ClockKeeper(machine.clockAnchor!, machine.ticks, now)
  return cpuOf(machine, instructions, (count) => {
    for (let ended = 0; machine.count < count; ) {
      if (epochs.run(1n << 30n).stop.kind !== 'epochEnd') continue
      epochs.endEpoch(keeper.epochTime(process.hrtime.bigint(), machine.ticks))
      // A batch for every so many epochs, as the hart's thread takes them.
      if (++ended % 256 === 0) recorder.takeBatches()
    }
  })
}

/** Microseconds that an epoch costs. */
function cpuPerEpoch(image: BootImage): number {
  const epochInstructions = 1000
  const instructions = options.quick ? 100_000_000n : 300_000_000n
  const extra = epochCpu(image, epochInstructions, instructions) - bareCpu(image, instructions)
  return extra / (Number(instructions) / epochInstructions) / 1000
}

// ---- report --------------------------------------------------------------------------------------------------------------

function cell(rows: readonly Row[], workload: Workload, epochInstructions: number): string {
  const of = (protocol: EpochProtocol) =>
    rows.find(
      (row) => row.workload === workload && row.epochInstructions === epochInstructions && row.protocol === protocol,
    )!
  return `${round2(of('original').normalized)} → ${round2(of('revised').normalized)}`
}

function table(rows: readonly Row[]): string {
  const lines = lengths.map((length) => {
    const mips = protocols.map((protocol) =>
      Math.round(
        rows.find((row) => row.workload === 'cpu' && row.epochInstructions === length && row.protocol === protocol)!
          .mips,
      ),
    )
    const cells = workloads.map((workload) => `${cell(rows, workload, length)} | ${theirs[length]?.[workload] ?? ''}`)
    return `| ${length} | ${mips.join(' → ')} | ${cells.join(' | ')} |`
  })
  return [
    '| epoch (instructions) | MIPS | CPU | theirs | disk writes | theirs | disk reads | theirs |',
    '|---|---|---|---|---|---|---|---|',
    ...lines,
  ].join('\n')
}

const load = await waitUntilQuiet(Number(options['wait-minutes']) * 60_000, () => {})
const folder = mkdtempSync(join(tmpdir(), 'understudy-papers-'))
try {
  const images = [await buildGuest(folder, 0), await buildGuest(folder, 1), await buildGuest(folder, 2)]
  const microseconds = cpuPerEpoch(images[0]!)
  console.error(`CPU per epoch: ${round2(microseconds)} µs`)
  const rows = await measureTable(images)
  const noise = load > quietLoad ? ` The machine was not quiet (load ${round2(load)}).` : ''
  const text = `${table(rows)}

Original → revised P2. CPU of the primary's hart per epoch, revised: ${round2(microseconds)} µs. ${describeHost()}, commit ${describeCommit()}.${noise}`
  console.log(text)
  if (options.write) writeIntoDocument('bench:papers', text)
  if (options.json) {
    const result = { epoch: { cpu_us_per_epoch: round2(microseconds), rows }, load_at_start: load }
    console.log(JSON.stringify({ ...result, host: describeHost(), commit: describeCommit() }))
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
