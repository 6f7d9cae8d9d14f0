/**
 * What the Output Rule costs an output, by what it waits for, under a mixed load: clients that ask Redis to count, a shell that
 * computes, another one that writes files and syncs them. Measured by the replica itself (host/output-delays.ts): every frame
 * and disk write, from the instruction that made it to its release.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { summarizeDelays } from '../../src/host/delay-histogram.ts'
import { type DelayCause, delayCauses, type OutputDelayCounts } from '../../src/host/output-delays.ts'
import { runPacedClients } from '../support/paced-clients.ts'
import type { Part, Report } from './part.ts'
import type { Samples } from './samples.ts'

const clients = 8
const goals = { medianUs: 150, p99Ms: 5 }
const spin = 'while :; do :; done & spinner=$!'
const write =
  'while :; do dd if=/dev/zero of=/root/mixed bs=16k count=32 conv=fsync 2>/dev/null; sleep 0.1; done & writer=$!'
const warmUpMs = 2000

const titles: Readonly<Record<DelayCause, string>> = {
  flush: 'flush: until its entry is sent',
  acknowledgement: 'acknowledgement: until the backup has it',
  total: '**total**',
}

function report(samples: Samples): Report | undefined {
  if (!samples.has('delay/total')) return undefined
  const rows = delayCauses.map((cause) => ({
    cause,
    outputs: samples.of(`delay/${cause}`).reduce((sum, { count }) => sum + count!, 0),
    medianUs: samples.median(`delay/${cause}`, 'medianMs')! * 1000,
    p99Ms: samples.median(`delay/${cause}`, 'p99Ms')!,
  }))
  const lines = rows.map(
    ({ cause, outputs, medianUs, p99Ms }) =>
      `| ${titles[cause]} | ${medianUs.toFixed(0)} | ${p99Ms.toFixed(2)} | ${outputs} |`,
  )
  return {
    text: `${clients} clients, a shell that spins, a shell that writes and syncs; medians of ${samples.of('delay/total').length} rounds. Goal: median ≤ ${goals.medianUs} µs, 99 % below ${goals.p99Ms} ms. VMware give no such figures.

| an output waits for | median, µs | p99, ms | outputs |
|---|---:|---:|---:|
${lines.join('\n')}`,
    figures: rows.map(({ cause, outputs, medianUs, p99Ms }) => ({
      cause,
      outputs,
      median_us: medianUs,
      p99_ms: p99Ms,
    })),
  }
}

export const delayPart: Part = {
  name: 'delay',
  title: 'Output delay by cause',
  async measure({ isQuick, samples, say, vms }) {
    const vm = (await vms()).protected
    vm.type(spin)
    vm.type(write)
    await sleep(warmUpMs)
    const before = await vm.ask<OutputDelayCounts>('outputDelays')
    await runPacedClients(vm.port, clients, isQuick ? 8 : 15, 'INCR mixed')
    const after = await vm.ask<OutputDelayCounts>('outputDelays')
    await vm.run('kill $spinner $writer; wait')
    await vm.requireMode()
    for (const cause of delayCauses) {
      const summary = summarizeDelays(after[cause].map((count, bucket) => count - before[cause][bucket]!))
      samples.add(`delay/${cause}`, { ...summary })
      say(`  ${cause}: median ${(summary.medianMs * 1000).toFixed(0)} µs, p99 ${summary.p99Ms.toFixed(2)} ms`)
    }
  },
  report,
}
