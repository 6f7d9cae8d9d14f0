/**
 * Failover time and what a client notices, over many kills of the primary under mixed load, with little RAM and with much
 * (successive-kills.ts). A dead process's memory is freed before its sockets are closed: RAM is part of detection.
 */

import { percentile, round2 } from '../support/figures.ts'
import type { Part, Report } from './part.ts'
import type { Samples } from './samples.ts'
import { type KillTimes, killSuccessively } from './successive-kills.ts'

/** Kills in a round, and in a quick one. */
const sizes = [
  { memory: '256M', title: '256 MiB', kills: 34, quickKills: 6 },
  { memory: '1G', title: '1 GiB', kills: 8, quickKills: 3 },
] as const

const goals: Partial<Record<keyof KillTimes, string>> = {
  failoverMs: '60 / 150',
  stallMs: '100 / 250',
  protectedAgainMs: '– / 5000',
}

const rows: readonly (readonly [name: string, title: string])[] = [
  ['failoverMs', '**failover**: kill to first frame'],
  ['detectionMs', '… the backup has noticed'],
  ['arbitrationMs', '… the arbiter has answered'],
  ['replayMs', '… all that was acknowledged is replayed'],
  ['firstOutputMs', '… the first frame has left'],
  ['stallMs', "**client's stall**: longest wait of those that waited meanwhile"],
  ['copyingStallMs', 'longest wait while the machine is copied for a new backup'],
  ['protectedAgainMs', 'kill to protected again'],
]

const sampleName = (memory: string): string => `failover/${memory}`

function report(samples: Samples): Report | undefined {
  const measured = sizes.filter(({ memory }) => samples.has(sampleName(memory)))
  if (measured.length === 0) return undefined
  const spread = (memory: string, figure: string) => {
    const values = samples.of(sampleName(memory)).map((sample) => sample[figure]!)
    return { median: percentile(values, 0.5), p99: percentile(values, 0.99), most: Math.max(...values) }
  }
  const cells = (figure: string): string =>
    measured
      .map(({ memory }) => {
        const { median, p99, most } = spread(memory, figure)
        return `${[median, p99, most].map((ms) => ms.toFixed(0)).join(' / ')} |`
      })
      .join(' ')
  const counts = measured.map(({ memory, title }) => `${samples.of(sampleName(memory)).length} kills at ${title}`)
  return {
    text: `${counts.join(', ')}: milliseconds, median / p99 / most. Nothing was lost, repeated or reset, no digest differed, the file systems were clean. VMware: "a few seconds" of detection, and the execution lag.

| | ${measured.map(({ title }) => `${title} |`).join(' ')} goal: median / p99 |
|---|${measured.map(() => '---:|').join('')}---:|
${rows.map(([figure, title]) => `| ${title} | ${cells(figure)} ${goals[figure] ?? ''} |`).join('\n')}`,
    figures: Object.fromEntries(
      measured.map(({ memory }) => [
        memory,
        {
          kills: samples.of(sampleName(memory)).length,
          ...Object.fromEntries(
            rows.map(([figure]) => {
              const { median, p99, most } = spread(memory, figure)
              const name = figure.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
              return [name, { median: round2(median), p99: round2(p99), max: round2(most) }]
            }),
          ),
        },
      ]),
    ),
  }
}

export const failoverPart: Part = {
  name: 'failover',
  title: 'Failover',
  async measure({ isQuick, samples, say }) {
    for (const { memory, title, kills, quickKills } of sizes) {
      await killSuccessively(isQuick ? quickKills : kills, memory, say, (times) => {
        samples.add(sampleName(memory), times)
        const { failoverMs, stallMs, protectedAgainMs } = times
        const [failover, stall, again] = [failoverMs, stallMs, protectedAgainMs].map((ms) => ms.toFixed(0))
        say(`  ${title}: failover ${failover} ms, stall ${stall} ms, protected again after ${again} ms`)
      })
    }
  },
  report,
}
