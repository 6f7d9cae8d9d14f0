/** The engine's figures for people: a table per group. */

import { type Group, type Row, summarize } from './rows.ts'

const groupTitles: Readonly<Record<Group, string>> = {
  bare: 'Bare metal',
  linux: 'Linux guest (512 MiB)',
}

function table(rows: readonly Row[], group: Group): string {
  const summary = summarize(rows, group)
  if (!summary) return ''
  const lines = rows
    .filter((row) => row.group === group)
    .map(
      ({ title, seconds, vs_qemu, vs_icount, cpu_vs_qemu, cpu_vs_icount }) =>
        `| ${title} | ${seconds.understudy.toFixed(2)} | ${seconds.qemu.toFixed(2)} | ${seconds.icount.toFixed(2)} ` +
        `| ${vs_qemu.toFixed(2)} | ${vs_icount.toFixed(2)} | ${cpu_vs_qemu.toFixed(2)} | ${cpu_vs_icount.toFixed(2)} |`,
    )
  const ratios = [summary.vs_qemu, summary.vs_icount, summary.cpu_vs_qemu, summary.cpu_vs_icount]
  return `**${groupTitles[group]}**

| | ours, s | qemu, s | icount, s | qemu / ours | icount / ours | CPU: qemu / ours | CPU: icount / ours |
|---|---:|---:|---:|---:|---:|---:|---:|
${lines.join('\n')}
| **geometric mean** | | | | ${ratios.map(({ geomean }) => `**${geomean.toFixed(2)}**`).join(' | ')} |
| least | | | | ${ratios.map(({ min }) => min.toFixed(2)).join(' | ')} |
`
}

/** Markdown that a terminal shows well, too. */
export function report(rows: readonly Row[]): string {
  const tables = (['bare', 'linux'] as const).map((group) => table(rows, group)).filter((text) => text !== '')
  return tables.join('\n')
}
