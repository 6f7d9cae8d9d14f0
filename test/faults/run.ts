/**
 * Fault trials as a command: `npm run faults -- --help`.
 *
 * Trial i has the seed S + i, which alone decides what it does; twenty in a row are one of every kind. A trial that fails prints
 * the command that repeats it.
 *
 * Exit code 0 only if every promise held.
 */

import { Option } from 'commander'
import { countFrom } from '../../src/cli/count-argument.ts'
import { addDisciplineOptions } from '../../src/cli/discipline-options.ts'
import { chooseDiscipline, type DisciplineWords } from '../../src/host/discipline-choice.ts'
import { developerCommand, runDeveloperCommand } from '../support/developer-command.ts'
import { runCampaign } from './campaign.ts'
import { faultKinds } from './fault-kinds.ts'
import type { FaultyVmOptions } from './faulty-vm.ts'
import { runSuccession } from './succession.ts'
import { kindOfSeed } from './trial.ts'

interface Options extends DisciplineWords {
  readonly kills?: number
  readonly successive?: number
  readonly seed: number
  readonly kind?: string
  readonly backups: number
  readonly json?: boolean
  readonly scsi?: boolean
  readonly ownDisks?: boolean
  readonly memory?: string
}

const command = developerCommand('npm run faults --', 'Faults on a protected VM under mixed load.')
  .addOption(
    new Option('--kills <N>', 'so many trials, one fault each').argParser(countFrom(1)).conflicts('successive'),
  )
  .option(
    '--successive <N>',
    'so many failures one after the other on the same guest, whose redundancy is restored by itself after each',
    countFrom(1),
  )
  .option('--seed <S>', 'of the first trial', countFrom(1), 1)
  .addOption(
    new Option('--kind <KIND>', 'of --kills, only seeds of this kind').choices(faultKinds.map(({ name }) => name)),
  )
  .option('--backups <B>', 'of the VM', countFrom(1, 4), 1)
  .option('--own-disks', 'each replica has its own copy of the disk')
  .option('--memory <SIZE>', 'of the guest: 256M')
  .option(
    '--json',
    'the last line is one object: {"trials", "lost", "duplicated", "resets", "divergences", "two_live", "unclean_filesystems"}, with "failed" if any ' +
      'trial did not come to its end; of --successive {"failures", in place of "trials", with own disks "copies_differ", and "pause_ms", "protected_again_ms", "since_failure_ms", "longest_stall_ms"}',
  )
addDisciplineOptions(command)

const say = (line: string): void => console.error(line)

function inWords(value: unknown): string {
  return typeof value === 'string' ? value.replaceAll('_', ' ').padEnd(20) : JSON.stringify(value)
}

function print(totals: object, json: boolean | undefined): void {
  if (json) console.log(JSON.stringify(totals))
  else for (const [name, value] of Object.entries(totals)) console.log(`${inWords(name)} ${inWords(value)}`)
}

/** The seeds of so many trials: those from the first on that fit. */
function seedsOf(trials: number, { seed: first, kind: wanted, backups }: Options): number[] {
  const seeds: number[] = []
  for (let seed = first; seeds.length < trials; seed++) {
    const kind = kindOfSeed(seed)
    if (backups > 1 && kind.isOfPair) continue
    if (wanted === undefined || kind.name === wanted) seeds.push(seed)
  }
  return seeds
}

async function main(options: Options): Promise<void> {
  const { kills, successive, seed, kind, backups, json } = options
  if (backups > 1 && faultKinds.some(({ name, isOfPair }) => name === kind && isOfPair)) {
    command.error(`--kind ${kind} is of a pair: it goes with one backup`)
  }
  const choices: FaultyVmOptions = {
    discipline: chooseDiscipline(options),
    backups,
    ...(options.scsi && { bus: 'scsi' }),
    ...(options.ownDisks && { ownDisks: true }),
    ...(options.memory !== undefined && { memory: options.memory }),
  }
  if (successive !== undefined) {
    const report = await runSuccession(successive, seed, say, choices)
    print(report, json)
    const { lost, duplicated, resets, divergences, two_live, unclean_filesystems, copies_differ = 0, failure } = report
    const wrong = lost + duplicated + resets + divergences + two_live + unclean_filesystems + copies_differ
    process.exitCode = wrong === 0 && failure === undefined ? 0 : 1
  } else if (kills !== undefined) {
    const { totals, reports } = await runCampaign(seedsOf(kills, options), say, choices)
    print(totals, json)
    process.exitCode = reports.every(({ holds }) => holds) ? 0 : 1
  } else command.error('name how many: --kills N or --successive N')
}

await runDeveloperCommand(command, main)
