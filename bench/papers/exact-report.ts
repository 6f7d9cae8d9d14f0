/** VMware FT's table 1, from the samples of exact.ts: ours beside theirs. */

import { type CostRow, costRow } from './measured-cost.ts'
import type { Report } from './part.ts'
import type { Samples } from './samples.ts'

export const exactRows = ['idle', 'cpu', 'compile-warm', 'compile-cold', 'compile-cold-reading', 'database'] as const
export type ExactRow = (typeof exactRows)[number]

export function rowName(row: ExactRow): string {
  return `exact/${row}`
}

/** Samples: `medianMs` of one closed-loop client, per mode. */
export const latencyName = 'exact/one-client'

interface Described {
  readonly title: string
  readonly paper: string
  readonly goal: string
}

const described: Readonly<Record<ExactRow, Described>> = {
  idle: { title: 'idle', paper: '0.5–1.5 Mbit/s', goal: '≤ 50 kbit/s' },
  cpu: { title: 'CPU-bound (awk, sha256sum)', paper: 'SPECjbb2005: 0.98, 1.5 Mbit/s', goal: '' },
  'compile-warm': { title: 'gcc, warm cache', paper: 'kernel compile: 0.95, 3.0 Mbit/s', goal: '≤ 0.5 Mbit/s' },
  'compile-cold': { title: 'gcc, cold cache', paper: '', goal: '' },
  'compile-cold-reading': {
    title: 'gcc, cold cache, backup reads the disk',
    paper: 'reads on the backup: log 12 → 3 and 18 → 8 Mbit/s',
    goal: '',
  },
  database: {
    title: 'Redis, 32 connections, SET and GET',
    paper: 'Swingbench: 0.99, 12 Mbit/s; DVD Store: 0.94, 18 Mbit/s',
    goal: 'ratio ≥ 0.95',
  },
}

/** Whom a row is compared with: where the backup reads is the protected side's business. */
function unprotectedOf(row: ExactRow): ExactRow {
  return row === 'compile-cold-reading' ? 'compile-cold' : row
}

export function ratioText(ratio: number | undefined): string {
  return ratio === undefined ? '' : ratio.toFixed(2)
}

export function bitsText(bitsPerSecond: number | undefined): string {
  if (bitsPerSecond === undefined) return ''
  return bitsPerSecond < 1e6
    ? `${(bitsPerSecond / 1e3).toFixed(0)} kbit/s`
    : `${(bitsPerSecond / 1e6).toFixed(2)} Mbit/s`
}

function line(row: ExactRow, cost: CostRow): string {
  const { title, paper, goal } = described[row]
  // An idle guest does nothing that could take longer.
  const [ratio, cpuRatio] = [ratioText(cost.ratio), ratioText(cost.cpuRatio)]
  return `| ${title} | ${ratio} | ${cpuRatio} | ${bitsText(cost.logBitsPerSecond)} | ${goal} | ${paper} |`
}

export function exactReport(samples: Samples): Report | undefined {
  const rows = exactRows.filter((row) => samples.has(`${rowName(row)}/protected`))
  if (rows.length === 0) return undefined
  const costs = rows.map((row) => ({ row, cost: costRow(samples, rowName(row), rowName(unprotectedOf(row))) }))
  const without = samples.median(`${latencyName}/unprotected`, 'medianMs')!
  const with_ = samples.median(`${latencyName}/protected`, 'medianMs')!
  const text = `Medians of ${costs[0]!.cost.rounds} rounds. Ratio: protected / unprotected, of work done in a second; CPU ratio: the same of a second of the primary hart's CPU time. Log: bits to the backup.

| | ratio | CPU ratio | log | goal | *paper* |
|---|---:|---:|---:|---|---|
${costs.map(({ row, cost }) => line(row, cost)).join('\n')}

One closed-loop client (SET): median ${without.toFixed(2)} ms unprotected, ${with_.toFixed(2)} ms protected: **${(with_ - without).toFixed(2)} ms** added.`
  const figures = costs.map(({ row, cost }) => ({
    row,
    ratio: cost.ratio ?? null,
    cpu_ratio: cost.cpuRatio ?? null,
    log_bits_per_second: Math.round(cost.logBitsPerSecond!),
    back_bits_per_second: Math.round(cost.backBitsPerSecond!),
    rounds: cost.rounds,
  }))
  return {
    text,
    figures: { rows: figures, one_client_ms: { unprotected: without, protected: with_, added: with_ - without } },
  }
}
