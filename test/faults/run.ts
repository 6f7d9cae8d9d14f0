/**
 * Fault trials as a command:
 *
 *   npm run faults -- --kills N [--seed S] [--json]
 *
 * Trial i has the seed S + i, which alone decides what it does; sixteen in a row are one of every kind. A trial that fails
 * prints the command that repeats it. Exit code 0 only if every promise held in every trial.
 */

import { parseArgs } from 'node:util'
import { runCampaign } from './campaign.ts'

const { values } = parseArgs({
  options: { kills: { type: 'string' }, seed: { type: 'string', default: '1' }, json: { type: 'boolean' } },
})
const trials = Number(values.kills)
const seed = Number(values.seed)
if (!Number.isSafeInteger(trials) || trials < 1 || !Number.isSafeInteger(seed) || seed < 1) {
  console.error('usage: npm run faults -- --kills N [--seed S] [--json]   (N and S from 1)')
  process.exit(2)
}
const seeds = Array.from({ length: trials }, (_, index) => seed + index)
const say = (line: string): void => console.error(line)
const { totals, reports } = await runCampaign(seeds, say)
if (values.json) {
  console.log(JSON.stringify(totals))
} else {
  for (const [name, count] of Object.entries(totals)) console.log(`${name.replaceAll('_', ' ').padEnd(20)} ${count}`)
}
process.exitCode = reports.every(({ holds }) => holds) ? 0 : 1
