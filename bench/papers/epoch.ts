/**
 * Bressoud & Schneider's table on our machine: how much longer a guest takes in epochs than bare, by the length of an epoch,
 * for a guest that computes, one that writes the disk and one that reads it, under either form of rule P2.
 *
 * Normalized performance is time in epochs / time bare: for the guest that computes, instructions in a window of time; for the
 * others, disk operations. These are measured twice: with a disk and a channel as fast as they go, and with their disk of
 * 25 ms and their link of 10 Mbit/s injected.
 *
 * Under original P2 every epoch takes a round trip. What that is, is measured on the same channel between the same two
 * processes, while no hart runs: the entries of an epoch there, an acknowledgement back, one at a time. Both are medians: on
 * two cores somebody is in the way now and then. A unix socket is what two replicas on one host have; between hosts it is
 * TCP with TLS, here without the network between; and a line of 10 Mbit/s is what theirs had.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { MiB } from '../../src/base/units.ts'
import { type Discipline, epochProtocols } from '../../src/log/discipline.ts'
import type { BootImage, MachineConfig } from '../../src/machine/types.ts'
import { buildKernel } from '../engine/kernels.ts'
import { inTurns } from '../support/turns.ts'
import { cpuPerEpoch } from './cpu-per-epoch.ts'
import {
  type ChannelName,
  type Column,
  cellName,
  columns,
  costName,
  epochReport,
  originalName,
  type SurroundingsKind,
  type Workload,
  workloads,
} from './epoch-report.ts'
import { MeasuredPair, type Surroundings } from './measured-pair.ts'
import type { Part, Session } from './part.ts'

const lengths = [1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 385_000, 1_000_000]
const quickLengths = [1000, 8000, 385_000]
/** With their disk and link: as long as their table goes, and one more. A cell takes a while: its disk is slow. */
const theirLengths = [1000, 2000, 4000, 8000, 32_000]
const quickTheirLengths = [1000, 8000]

const config: MachineConfig = { ramBytes: 64 * MiB, disks: [{ sectors: 4096n, readOnly: false, serial: 'papers' }] }
const surroundings: Readonly<Record<SurroundingsKind, Surroundings>> = {
  fast: { diskMs: 0, channelBitsPerSecond: 0 },
  theirs: { diskMs: 25, channelBitsPerSecond: 10_000_000 },
}
const channels: readonly (Omit<Surroundings, 'diskMs'> & { readonly name: ChannelName })[] = [
  { name: 'unix socket', channelBitsPerSecond: 0 },
  { name: 'TCP with TLS', channelBitsPerSecond: 0, isSecured: true },
  { name: 'line of 10 Mbit/s', channelBitsPerSecond: 10_000_000 },
]
const windowMs: Readonly<Record<SurroundingsKind, number>> = { fast: 1000, theirs: 2000 }
/** From the guest's first instructions until code is hot on both sides, and lag control has found what the backup can follow. */
const warmUpMs = 1000
const pollMs = 10
const roundTripCount = 10_000

/** Each works until it is stopped. What computes is bench:engine's CoreMark-like kernel; theirs was Dhrystone. */
const sources: Readonly<Record<Workload, string>> = {
  cpu: 'mixed.c',
  write: join(import.meta.dirname, 'writes.c'),
  read: join(import.meta.dirname, 'reads.c'),
}

async function buildGuest(folder: string, workload: Workload): Promise<BootImage> {
  const source = sources[workload]
  const path = await buildKernel({ name: `epoch-${workload}`, source, rounds: 0xffff_ffff, contraction: 'off' }, folder)
  return { kind: 'elf', file: readFileSync(path) }
}

interface Speed {
  /** Per second. */
  readonly instructions: number
  readonly operations: number
}

async function speedOf(
  session: Session,
  image: BootImage,
  kind: SurroundingsKind,
  discipline: Discipline | undefined,
): Promise<Speed> {
  const { folder, isQuick } = session
  const pair = await MeasuredPair.start({ config, image, discipline, surroundings: surroundings[kind], folder })
  try {
    while (pair.instructions === 0n) await sleep(pollMs)
    await sleep(warmUpMs)
    const before = { instructions: pair.instructions, operations: pair.operations }
    const startedAt = performance.now()
    await sleep(windowMs[kind] * (isQuick ? 0.6 : 1))
    const seconds = (performance.now() - startedAt) / 1000
    return {
      instructions: Number(pair.instructions - before.instructions) / seconds,
      operations: (pair.operations - before.operations) / seconds,
    }
  } finally {
    await pair.end()
  }
}

async function measureColumn(session: Session, column: Column, image: BootImage, round: number): Promise<void> {
  const { isQuick, samples, say } = session
  const { workload, surroundings: kind } = column
  const all = kind === 'theirs' ? theirLengths : lengths
  const quick = kind === 'theirs' ? quickTheirLengths : quickLengths
  for (const [index, instructions] of (isQuick ? quick : all).entries()) {
    // What they are compared with is measured again beside every other length.
    if (index % 2 === 0)
      samples.add(cellName(column, 'bare', 0), { ...(await speedOf(session, image, kind, undefined)) })
    for (const protocol of inTurns(epochProtocols, round)) {
      const speed = await speedOf(session, image, kind, { kind: 'epoch', protocol, instructions })
      samples.add(cellName(column, protocol, instructions), { ...speed })
      const { instructions: perSecond, operations } = speed
      say(
        `  ${workload}, ${kind}, ${protocol}, ${instructions}: ${(perSecond / 1e6).toFixed(0)} MIPS, ${operations.toFixed(0)} operations/s`,
      )
    }
  }
}

/** Original P2 beside a round trip between the same two processes, on each kind of channel. */
async function measureOriginal({ folder, samples, say }: Session, image: BootImage): Promise<void> {
  const discipline = { kind: 'epoch', protocol: 'original', instructions: lengths[0]! } as const
  for (const { name, ...line } of channels) {
    const options = { config, image, discipline, folder, surroundings: { diskMs: 0, ...line } }
    const { pair, roundTripUs } = await MeasuredPair.startAfterRoundTrips(options, roundTripCount)
    await sleep(warmUpMs)
    const epochUs = await pair.batchTime(windowMs.fast)
    await pair.end()
    samples.add(originalName(name), { roundTripUs, epochUs })
    say(`  ${name}: a round trip ${roundTripUs.toFixed(1)} µs, an epoch by original P2 ${epochUs.toFixed(1)} µs`)
  }
}

export const epochPart: Part = {
  name: 'epoch',
  title: 'Bressoud & Schneider: the epoch discipline',
  async measure(session, round) {
    const { isQuick, samples, folder, say } = session
    const images = await Promise.all(workloads.map((workload) => buildGuest(folder, workload)))
    const cpuUs = cpuPerEpoch(config, images[0]!, isQuick ? 100_000_000n : 300_000_000n)
    samples.add(costName, { cpuUs })
    say(`  CPU per epoch, revised: ${cpuUs.toFixed(2)} µs`)
    await measureOriginal(session, images[0]!)
    for (const column of columns) {
      await measureColumn(session, column, images[workloads.indexOf(column.workload)]!, round)
    }
  },
  report: (samples) => epochReport(samples, lengths),
}
