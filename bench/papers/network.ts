/**
 * VMware FT's table 2 on our machine: bulk data into and out of a guest, protected and not. Theirs is netperf over a gigabit
 * network, which was the limit (940 Mbit/s); ours is a connection through our own gateway and switch, and what limits it is
 * the guest's hart.
 *
 * All that a guest receives is an input and goes to the backup; of what it transmits only markers do.
 */

import { modes } from '../support/bench-vm.ts'
import { type Direction, runBulkTransfer } from '../support/bulk-transfer.ts'
import { inTurns } from '../support/turns.ts'
import { bitsText, ratioText } from './exact-report.ts'
import { addCost, costOf, costRow } from './measured-cost.ts'
import type { Part, Report } from './part.ts'
import type { Samples } from './samples.ts'

const directions: readonly Direction[] = ['receive', 'transmit']

/** Mbit/s, base 940 both ways, with a log of 1 and of 10 Gbit/s. */
const theirs: Readonly<Record<Direction, string>> = {
  receive: '604 (0.64), 860 (0.91)',
  transmit: '855 (0.91), 935 (0.99)',
}

function report(samples: Samples): Report | undefined {
  if (!samples.has('network/receive/protected')) return undefined
  const rows = directions.map((direction) => ({ direction, cost: costRow(samples, `network/${direction}`) }))
  const lines = rows.map(({ direction, cost }) => {
    const rates = [cost.rates.unprotected, cost.rates.protected].map((bytes) => bitsText(bytes! * 8))
    const ratios = `${ratioText(cost.ratio)} | ${ratioText(cost.cpuRatio)}`
    return `| ${direction} | ${rates.join(' | ')} | ${ratios} | ${bitsText(cost.logBitsPerSecond)} | ${theirs[direction]} |`
  })
  return {
    text: `Bulk data on one connection; medians of ${rows[0]!.cost.rounds} rounds. Theirs: Mbit/s of 940 without FT, log on 1 and on 10 Gbit/s.

| | unprotected | protected | ratio | CPU ratio | log | *paper* |
|---|---:|---:|---:|---:|---:|---|
${lines.join('\n')}`,
    figures: rows.map(({ direction, cost }) => ({
      direction,
      unprotected_bits_per_second: Math.round(cost.rates.unprotected! * 8),
      protected_bits_per_second: Math.round(cost.rates.protected! * 8),
      ratio: cost.ratio,
      cpu_ratio: cost.cpuRatio,
      log_bits_per_second: Math.round(cost.logBitsPerSecond!),
      rounds: cost.rounds,
    })),
  }
}

export const networkPart: Part = {
  name: 'network',
  title: 'VMware FT, table 2: network',
  async measure({ isQuick, samples, say, vms }, round) {
    const both = await vms()
    for (const direction of directions) {
      for (const mode of inTurns(modes, round)) {
        const cost = await costOf(both[mode], async () => {
          const { bytes, seconds } = await runBulkTransfer(both[mode].port, direction, isQuick ? 3 : 6)
          return { amount: bytes, seconds }
        })
        addCost(samples, `network/${direction}`, mode, cost)
        say(`  ${mode}, ${direction}: ${bitsText((cost.amount * 8) / cost.wall)}`)
      }
    }
  },
  report,
}
