/**
 * Fault trials as a command:
 *
 *   npm run faults -- --kills N [--seed S] [--kind KIND] [--backups B] [--json]
 *   npm run faults -- --successive N [--seed S] [--backups B] [--json]
 *   both: [--discipline epoch [--protocol original] [--epoch INSTRUCTIONS]] [--scsi] [--own-disks] [--memory 256M]
 *
 * Trial i has the seed S + i, which alone decides what it does; twenty in a row are one of every kind. `--kind` takes only
 * the seeds from S on that are of this kind. A trial that fails prints the command that repeats it.
 *
 * `--successive`: N failures one after the other on the same guest, whose redundancy is restored by itself after each.
 *
 * Exit code 0 only if every promise held.
 */

import { parseArgs } from 'node:util'
import { chooseDiscipline } from '../../src/host/discipline-choice.ts'
import { runCampaign } from './campaign.ts'
import { faultKinds } from './fault-kinds.ts'
import type { FaultyVmOptions } from './faulty-vm.ts'
import { runSuccession } from './succession.ts'
import { kindOfSeed } from './trial.ts'

const { values } = parseArgs({
  options: {
    kills: { type: 'string' },
    successive: { type: 'string' },
    seed: { type: 'string', default: '1' },
    kind: { type: 'string' },
    backups: { type: 'string', default: '1' },
    json: { type: 'boolean' },
    discipline: { type: 'string' },
    protocol: { type: 'string' },
    epoch: { type: 'string' },
    scsi: { type: 'boolean' },
    'own-disks': { type: 'boolean' },
    memory: { type: 'string' },
  },
})
const trials = Number(values.successive ?? values.kills)
const firstSeed = Number(values.seed)
const backups = Number(values.backups)
const isCount = Number.isSafeInteger(backups) && backups >= 1 && backups <= 4
const isKnown =
  values.kind === undefined ||
  faultKinds.some(({ name, isOfPair }) => name === values.kind && !(isOfPair && backups > 1))
if (
  !Number.isSafeInteger(trials) ||
  trials < 1 ||
  !Number.isSafeInteger(firstSeed) ||
  firstSeed < 1 ||
  !isKnown ||
  !isCount
) {
  console.error(
    'usage: npm run faults -- --kills N [--seed S] [--kind KIND] [--backups B] [--json]   (N and S from 1, B 1 to 4)',
  )
  console.error('       npm run faults -- --successive N [--seed S] [--backups B] [--json]')
  console.error('       both: [--discipline epoch [--protocol P] [--epoch N]] [--scsi] [--own-disks] [--memory 256M]')
  console.error(`kinds: ${faultKinds.map(({ name }) => name).join(' ')}`)
  process.exit(2)
}
const say = (line: string): void => console.error(line)

const choices: FaultyVmOptions = {
  discipline: chooseDiscipline(values),
  backups,
  ...(values.scsi && { bus: 'scsi' }),
  ...(values['own-disks'] && { ownDisks: true }),
  ...(values.memory !== undefined && { memory: values.memory }),
}

function print(totals: object): void {
  if (values.json) console.log(JSON.stringify(totals))
  else for (const [name, value] of Object.entries(totals)) console.log(`${inWords(name)} ${inWords(value)}`)
}

function inWords(value: unknown): string {
  return typeof value === 'string' ? value.replaceAll('_', ' ').padEnd(20) : JSON.stringify(value)
}

if (values.successive !== undefined) {
  const report = await runSuccession(trials, firstSeed, say, choices)
  print(report)
  const { lost, duplicated, resets, divergences, two_live, unclean_filesystems, copies_differ = 0, failure } = report
  const wrong = lost + duplicated + resets + divergences + two_live + unclean_filesystems + copies_differ
  process.exitCode = wrong === 0 && failure === undefined ? 0 : 1
} else {
  const seeds: number[] = []
  for (let seed = firstSeed; seeds.length < trials; seed++) {
    const kind = kindOfSeed(seed)
    if (backups > 1 && kind.isOfPair) continue
    if (values.kind === undefined || kind.name === values.kind) seeds.push(seed)
  }
  const { totals, reports } = await runCampaign(seeds, say, choices)
  print(totals)
  process.exitCode = reports.every(({ holds }) => holds) ? 0 : 1
}
