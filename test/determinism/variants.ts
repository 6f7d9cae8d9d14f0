/**
 * The long form of variants.system.ts: `npm run determinism -- --help`.
 *
 * The first round runs the recorded boot in every variant with every drive (with --quick: 300 million instructions of
 * it), and every round runs new random programs and worlds in every variant. It ends after the rounds, or after the first
 * one that found a difference, and then says what to run to see it again.
 *
 * That is hours of one core. With --results it may be done in parts: what is done is kept in the file, nothing new begins
 * after so many minutes, and the next run with this file goes on there. What is compared is all that was done so far.
 */

import { countFrom, numberFrom } from '../../src/cli/count-argument.ts'
import { developerCommand, runDeveloperCommand } from '../support/developer-command.ts'
import { recordedBoot } from '../support/recorded-boot.ts'
import { bootDrives } from './digest-work.ts'
import { compareRows, engineVariants, runVariants, type VariantRows } from './engine-variants.ts'
import { KeptResults, type VariantJob } from './kept-results.ts'

/** Of a round and variant, each in a process of its own, with so many programs and one world. */
const programJobsARound = 5
const programsAJob = 4
const quickMillions = 300

interface Options {
  readonly rounds: number
  readonly seed: number
  readonly atOnce: number
  readonly quick?: boolean
  readonly results?: string
  readonly minutes?: number
}

const command = developerCommand(
  'npm run determinism --',
  'The engine in two Nodes, with each of V8’s compilers, at every threshold: one digest at every position of a boot and of random programs.',
)
  .option('--rounds <N>', 'of random programs and worlds; the first one boots as well', countFrom(1), 1)
  .option('--seed <S>', 'of the first round', countFrom(0), 1)
  .option('--at-once <N>', 'processes side by side', countFrom(1), 2)
  .option('--quick', `only ${quickMillions} million instructions of the boot`)
  .option('--results <FILE>', 'keep there what is done, and go on with what is there')
  .option('--minutes <M>', 'begin nothing new after that (default: until all is done)', numberFrom(0))

/** Threshold 1 takes ten times as long as the other drives: last. */
function bootJobs(driveSeed: number, isQuick: boolean): VariantJob[] {
  const length = isQuick ? { millions: quickMillions } : {}
  const drives = [...bootDrives.filter((drive) => drive !== 'threshold 1'), 'threshold 1'] as const
  return drives.flatMap((drive) =>
    engineVariants.map((variant) => ({ variant, job: { boot: { drives: [drive], ...length }, driveSeed } })),
  )
}

function programJobs(seed: number): VariantJob[] {
  return Array.from({ length: programJobsARound }, (_, part) => seed * programJobsARound + part).flatMap((part) =>
    engineVariants.map((variant, index) => ({
      variant,
      job: {
        programs: { firstSeed: part * programsAJob, seeds: programsAJob },
        worlds: { firstSeed: part, seeds: 1 },
        driveSeed: seed + 1000 * index,
      },
    })),
  )
}

function describe({ variant, rows }: VariantRows): string {
  const { subject, drive } = rows[0]!
  return `${variant}: ${subject === 'boot' ? `boot, ${drive}` : `${rows.length} runs of programs and worlds`}`
}

async function main({
  rounds,
  seed: first,
  atOnce,
  quick = false,
  results,
  minutes = Infinity,
}: Options): Promise<void> {
  const startedMs = performance.now()
  const sinceStart = (): string => `${((performance.now() - startedMs) / 1000).toFixed(0)} s`
  await recordedBoot()
  const kept = new KeptResults(results)
  let [digests, runs, left] = [0, 0, 0]
  for (let seed = first; seed < first + rounds; seed++) {
    const jobs = seed === first ? [...programJobs(seed), ...bootJobs(seed, quick)] : programJobs(seed)
    const isTimeLeft = (): boolean => performance.now() - startedMs < minutes * 60_000
    const toDo = jobs.filter((job) => !kept.of(job))
    await runVariants(
      toDo,
      atOnce,
      (result, job) => {
        kept.add(job, result)
        console.log(`${sinceStart()}: ${describe(result)}`)
      },
      isTimeLeft,
    )
    const done = jobs.flatMap((job) => kept.of(job) ?? [])
    left += jobs.length - done.length
    const { differences, compared } = compareRows(done)
    digests += compared
    runs += done.reduce((sum, { rows }) => sum + rows.length, 0)
    if (differences.length > 0) {
      console.log(differences.join('\n'))
      console.log(`again: npm run determinism -- --seed ${seed}${quick ? ' --quick' : ''}`)
      process.exitCode = 1
      break
    }
  }
  console.log(`${engineVariants.length} variants, ${runs} runs, ${digests} digests compared, ${sinceStart()}`)
  if (left > 0) console.log(`${left} processes' work is left: go on with the same --results`)
}

await runDeveloperCommand(command, main)
