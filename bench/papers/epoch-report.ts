/** Bressoud & Schneider's table, from the samples of epoch.ts: ours beside theirs. */

import { type EpochProtocol, epochProtocols } from '../../src/log/discipline.ts'
import { round2 } from '../support/figures.ts'
import type { Report } from './part.ts'
import type { Samples } from './samples.ts'

export const workloads = ['cpu', 'write', 'read'] as const
export type Workload = (typeof workloads)[number]

/** `fast`: disk and channel as fast as they go; `theirs`: a disk of 25 ms and a channel of 10 Mbit/s. */
export type SurroundingsKind = 'fast' | 'theirs'

export interface Column {
  readonly workload: Workload
  readonly surroundings: SurroundingsKind
  readonly title: string
}

export const columns: readonly Column[] = [
  { workload: 'cpu', surroundings: 'fast', title: 'CPU' },
  { workload: 'write', surroundings: 'fast', title: 'writes, fast disk' },
  { workload: 'read', surroundings: 'fast', title: 'reads, fast disk' },
  { workload: 'write', surroundings: 'theirs', title: 'writes, their disk' },
  { workload: 'read', surroundings: 'theirs', title: 'reads, their disk' },
]

/** What the paper's table says, original → revised; `~` where a secondary source says about so much. */
const theirs: Readonly<Record<number, Readonly<Record<Workload, string>>>> = {
  1000: { cpu: '22.2 → 11.7', write: '1.87 → 1.70', read: '2.32 → 1.92' },
  2000: { cpu: '11.8 → ~6', write: '1.71 → 1.66', read: '2.10 → 1.76' },
  4000: { cpu: '6.50 → 3.21', write: '1.67 → ~1.66', read: '2.03 → 1.72' },
  8000: { cpu: '3.83 → 2.20', write: '1.64 → 1.64', read: '1.98 → 1.70' },
  32000: { cpu: '1.84', write: '', read: '' },
  385000: { cpu: '1.24', write: '', read: '' },
}

/** Goals of our own: CPU per epoch (revised), time per epoch by round trip (original). */
const goalCpuUs = 2
const goalRoundTrips = 1.3

/** Of one cell: `instructions` and `operations` per second. `length` 0 with `bare`. */
export function cellName({ workload, surroundings }: Column, protocol: EpochProtocol | 'bare', length: number): string {
  return `epoch/${workload}/${surroundings}/${protocol}/${length}`
}

export const costName = 'epoch/cost'
export const channelNames = ['unix socket', 'TCP with TLS', 'line of 10 Mbit/s'] as const
export type ChannelName = (typeof channelNames)[number]

/** `roundTripUs`, and `epochUs` by original P2. */
export function originalName(channel: ChannelName): string {
  return `epoch/original/${channel}`
}

interface Original {
  readonly channel: ChannelName
  readonly roundTripUs: number
  readonly epochUs: number
}

function originals(samples: Samples): Original[] {
  return channelNames.flatMap((channel) => {
    const name = originalName(channel)
    const roundTripUs = samples.median(name, 'roundTripUs')
    const epochUs = samples.median(name, 'epochUs')
    return roundTripUs === undefined || epochUs === undefined ? [] : [{ channel, roundTripUs, epochUs }]
  })
}

function originalsTable(all: readonly Original[]): string {
  const lines = all.map(
    ({ channel, roundTripUs, epochUs }) =>
      `| ${channel} | ${roundTripUs.toFixed(1)} | ${epochUs.toFixed(1)} | ${(epochUs / roundTripUs).toFixed(2)} |`,
  )
  return [
    '| channel | round trip, µs | epoch by original P2, µs | round trips per epoch |',
    '|---|---|---|---|',
    ...lines,
  ].join('\n')
}

interface Cell {
  /** Time in epochs / time bare. */
  readonly normalized: number
  readonly mips: number
}

function cell(samples: Samples, column: Column, protocol: EpochProtocol, length: number): Cell | undefined {
  const figure = column.workload === 'cpu' ? 'instructions' : 'operations'
  const bare = samples.median(cellName(column, 'bare', 0), figure)
  const name = cellName(column, protocol, length)
  const ours = samples.median(name, figure)
  if (bare === undefined || ours === undefined) return undefined
  return { normalized: bare / ours, mips: samples.median(name, 'instructions')! / 1e6 }
}

/** Digits that say something: their table has three. */
function figureText(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
}

function pairText(cells: readonly (Cell | undefined)[], text: (cell: Cell) => string): string {
  return cells.some((one) => one === undefined) ? '' : cells.map((one) => text(one!)).join(' → ')
}

function table(samples: Samples, lengths: readonly number[]): string {
  const lines = lengths.map((length) => {
    const cells = columns.map((column) => epochProtocols.map((protocol) => cell(samples, column, protocol, length)))
    const ours = cells.map((pair) => pairText(pair, ({ normalized }) => figureText(normalized)))
    const mips = pairText(cells[0]!, (one) => one.mips.toFixed(0))
    const of = (workload: Workload): string => theirs[length]?.[workload] ?? ''
    const [cpu, write, read, theirWrite, theirRead] = ours
    return `| ${[length, mips, cpu, of('cpu'), write, read, theirWrite, of('write'), theirRead, of('read')].join(' | ')} |`
  })
  const [cpu, write, read, theirWrite, theirRead] = columns.map(({ title }) => title)
  return [
    `| epoch (instructions) | MIPS | ${[cpu, '*paper*', write, read, theirWrite, '*paper*', theirRead, '*paper*'].join(' | ')} |`,
    `|---:|---:|${'---:|'.repeat(columns.length + workloads.length)}`,
    ...lines,
  ].join('\n')
}

export function epochReport(samples: Samples, knownLengths: readonly number[]): Report | undefined {
  const lengths = knownLengths.filter((length) =>
    columns.some((column) => epochProtocols.some((protocol) => samples.has(cellName(column, protocol, length)))),
  )
  const [shortest] = lengths
  if (shortest === undefined) return undefined
  const cpuUs = samples.median(costName, 'cpuUs')!
  const original = originals(samples)
  const [cpuColumn] = columns
  const bareMips = samples.median(cellName(cpuColumn!, 'bare', 0), 'instructions')! / 1e6
  const rounds = samples.of(cellName(cpuColumn!, 'original', shortest)).length
  const text = `Normalized performance, time in epochs / time bare, original → revised P2; medians of ${rounds} rounds. Bare: ${bareMips.toFixed(0)} MIPS.

${table(samples, lengths)}

- Revised: an epoch costs the primary's hart **${cpuUs.toFixed(2)} µs** of CPU beside its instructions (goal: ${goalCpuUs}).

Original, epochs of ${shortest} instructions (goal: ${goalRoundTrips} round trips per epoch). A round trip: the entries of an epoch there, an acknowledgement back, between the main threads of the same two processes on the same channel; medians.

${originalsTable(original)}`
  const rows = lengths.flatMap((length) =>
    columns.flatMap((column) =>
      epochProtocols.flatMap((protocol) => {
        const one = cell(samples, column, protocol, length)
        if (!one) return []
        const { workload, surroundings } = column
        const paper = theirs[length]?.[workload].split(' → ')[epochProtocols.indexOf(protocol)]
        const figures = { normalized: round2(one.normalized), mips: Math.round(one.mips) }
        return [{ epoch_instructions: length, protocol, workload, surroundings, ...figures, paper: paper ?? null }]
      }),
    ),
  )
  return {
    text,
    figures: {
      cpu_us_per_epoch: round2(cpuUs),
      original: original.map(({ channel, roundTripUs, epochUs }) => ({
        channel,
        round_trip_us: round2(roundTripUs),
        us_per_epoch: round2(epochUs),
        round_trips_per_epoch: round2(epochUs / roundTripUs),
      })),
      bare_mips: Math.round(bareMips),
      rounds,
      rows,
    },
  }
}
