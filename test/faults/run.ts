/**
 * Fault trials as a command:
 *
 *   npm run faults -- --kills N [--seed S] [--kind KIND] [--json]
 *
 * Trial i has the seed S + i, which alone decides what it does; twenty in a row are one of every kind. `--kind` takes only
 * the seeds from S on that are of this kind. A trial that fails prints the command that repeats it. Exit code 0 only if every promise held in every trial.
 */

import { parseArgs } from 'node:util'
import { runCampaign } from './campaign.ts'
import { faultKinds } from './fault-kinds.ts'
import { kindOfSeed } from './trial.ts'

const { values } = parseArgs({
  options: {
    kills: { type: 'string' },
    seed: { type: 'string', default: '1' },
    kind: { type: 'string' },
    json: { type: 'boolean' },
  },
})
const trials = Number(values.kills)
const firstSeed = Number(values.seed)
const isKnown = values.kind === undefined || faultKinds.some(({ name }) => name === values.kind)
if (!Number.isSafeInteger(trials) || trials < 1 || !Number.isSafeInteger(firstSeed) || firstSeed < 1 || !isKnown) {
  console.error('usage: npm run faults -- --kills N [--seed S] [--kind KIND] [--json]   (N and S from 1)')
  console.error(`kinds: ${faultKinds.map(({ name }) => name).join(' ')}`)
  process.exit(2)
}
const seeds: number[] = []
for (let seed = firstSeed; seeds.length < trials; seed++) {
  if (values.kind === undefined || kindOfSeed(seed).name === values.kind) seeds.push(seed)
}
const say = (line: string): void => console.error(line)
const { totals, reports } = await runCampaign(seeds, say)
if (values.json) {
  console.log(JSON.stringify(totals))
} else {
  for (const [name, count] of Object.entries(totals)) console.log(`${name.replaceAll('_', ' ').padEnd(20)} ${count}`)
}
process.exitCode = reports.every(({ holds }) => holds) ? 0 : 1
