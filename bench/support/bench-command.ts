/**
 * The frame around every benchmark: its options, of which each takes those that mean something for it; a quiet machine; a folder
 * of its own for all it writes; and at the end its figures for people and, if asked for, in docs/BENCHMARKS.md and as one object
 * on the last line.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { countFrom, numberFrom } from '../../src/cli/count-argument.ts'
import { developerCommand, runDeveloperCommand } from '../../test/support/developer-command.ts'
import { endWithThisProcess } from '../../test/support/reaper.ts'
import { writeIntoDocument } from './document.ts'
import { describeCommit, describeHost, quietLoad, waitUntilQuiet } from './host.ts'

/** As `benchOptions` reads them. */
export interface BenchOptions {
  readonly quick?: boolean
  readonly rounds?: number
  readonly guest?: string
  readonly only?: readonly string[]
  readonly continue?: string
  readonly waitMinutes?: number
  readonly json?: boolean
  readonly write?: boolean
}

export interface Measured {
  /** How much was measured: `3 rounds of 50 units`. */
  readonly details: string
  /** Markdown that a terminal shows well, too. */
  readonly text: string
  /** What the last line holds, besides where and when it was measured. */
  readonly figures: object
}

/** Options that several benchmarks have, and mean the same by. */
export const benchOptions = {
  quick: (what: string) => new Option('--quick', what),
  /** @param standard how many there are otherwise */
  rounds: (standard: string) => new Option('--rounds <N>', `rounds (default: ${standard})`).argParser(countFrom(1)),
  guest: () => new Option('--guest <FOLDER>', 'a guest that is built already'),
  only: (what: string, names: readonly string[]) =>
    new Option('--only <NAMES>', `${what}; some of ${names.join(', ')}, apart by commas`).argParser((text) => {
      const chosen = text.split(',')
      const strange = chosen.find((name) => !names.includes(name))
      if (strange !== undefined) throw new InvalidArgumentError(`"${strange}" is none of ${names.join(', ')}`)
      return chosen
    }),
  waitMinutes: (standard = 0) =>
    new Option('--wait-minutes <M>', 'wait so long for a quiet machine').argParser(numberFrom(0)).default(standard),
  continue: () =>
    new Option(
      '--continue <FILE>',
      'add what this run measures to what FILE has, keep all of it there, and report on all: a long measurement in pieces (FILE must be of the same commit)',
    ),
  /** @param figures the object's keys, without where and when */
  json: (figures: string, meaning?: string) => {
    const keys = `${figures},"load_at_start","host","commit"`
    const form = `the last line is one object: {${keys.replaceAll(',', ', ')}}`
    return new Option('--json', meaning === undefined ? form : `${form}; ${meaning}`)
  },
  write: () => new Option('--write', 'put the tables into docs/BENCHMARKS.md'),
}

/** @param name of the npm script, as `bench:engine` */
export function benchCommand(name: string, description: string, options: readonly Option[]): Command {
  const command = developerCommand(`npm run ${name} --`, description)
  for (const option of options) command.addOption(option)
  return command
}

/**
 * Runs a benchmark, when the machine is quiet, in a folder that is gone afterwards; its VMs have their state there too, and end
 * with it. `check`: what has to be there, before anybody waits.
 */
export async function runBench<Options extends BenchOptions = BenchOptions>(
  name: string,
  command: Command,
  measure: (options: Options, folder: string) => Promise<Measured>,
  check: () => void = () => {},
): Promise<void> {
  await runDeveloperCommand<Options>(command, async (options) => {
    check()
    endWithThisProcess()
    const folder = mkdtempSync(join(tmpdir(), 'understudy-bench-'))
    process.env.XDG_STATE_HOME = join(folder, 'state')
    try {
      const load = await waitUntilQuiet((options.waitMinutes ?? 0) * 60_000, (now) =>
        say(`waiting for a quiet machine (load ${now.toFixed(1)})`),
      )
      conclude(name, await measure(options, folder), load, options)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })
}

/** How it goes on: to standard error. */
export function say(line: string): void {
  console.error(line)
}

/** @param load when it began */
function conclude(name: string, { details, text, figures }: Measured, load: number, options: BenchOptions): void {
  const quiet = load < quietLoad ? '' : ' (NOT quiet)'
  const conditions = `Commit ${describeCommit()}; ${describeHost()}; ${details}; load at the start ${load.toFixed(1)}${quiet}`
  const whole = `${conditions}\n\n${text}`
  if (options.write) writeIntoDocument(name, whole)
  console.log(whole)
  if (!options.json) return
  const where = { load_at_start: load, host: describeHost(), commit: describeCommit() }
  console.log(JSON.stringify({ ...figures, ...where }))
}
