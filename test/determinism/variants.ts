/**
 * The long form of variants.system.ts: `npm run determinism -- [--rounds N] [--seed S] [--quick] [--at-once N]
 * [--results FILE [--minutes M]]`.
 *
 * The first round runs the recorded boot in every variant with every drive (with --quick: 300 million instructions of
 * it), and every round runs new random programs and worlds in every variant. It ends after the rounds, or after the first
 * one that found a difference, and then says what to run to see it again.
 *
 * That is hours of one core. With --results it may be done in parts: what is done is kept in the file, nothing new begins
 * after so many minutes, and the next run with this file goes on there. What is compared is all that was done so far.
 */

import { parseArgs } from 'node:util'
import { recordedBoot } from '../support/recorded-boot.ts'
import { bootDrives } from './digest-work.ts'
import { compareRows, engineVariants, runVariants, type VariantRows } from './engine-variants.ts'
import { KeptResults, type VariantJob } from './kept-results.ts'

/** Of a round and variant, each in a process of its own, with so many programs and one world. */
const programJobsARound = 5
const programsAJob = 4
const quickMillions = 300

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    'at-once': { type: 'string', default: '2' },
    quick: { type: 'boolean', default: false },
    results: { type: 'string' },
    minutes: { type: 'string', default: 'Infinity' },
  },
})

/** Threshold 1 takes ten times as long as the other drives: last. */
function bootJobs(driveSeed: number): VariantJob[] {
  const length = values.quick ? { millions: quickMillions } : {}
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

const startedMs = performance.now()
const sinceStart = (): string => `${((performance.now() - startedMs) / 1000).toFixed(0)} s`
await recordedBoot()
const first = Number(values.seed)
const kept = new KeptResults(values.results)
let [digests, runs, left] = [0, 0, 0]
for (let seed = first; seed < first + Number(values.rounds); seed++) {
  const jobs = seed === first ? [...programJobs(seed), ...bootJobs(seed)] : programJobs(seed)
  const isTimeLeft = (): boolean => performance.now() - startedMs < Number(values.minutes) * 60_000
  const toDo = jobs.filter((job) => !kept.of(job))
  await runVariants(
    toDo,
    Number(values['at-once']),
    (result, job) => {
      kept.add(job, result)
      console.log(`${sinceStart()}: ${describe(result)}`)
    },
    isTimeLeft,
  )
  const results = jobs.flatMap((job) => kept.of(job) ?? [])
  left += jobs.length - results.length
  const { differences, compared } = compareRows(results)
  digests += compared
  runs += results.reduce((sum, { rows }) => sum + rows.length, 0)
  if (differences.length > 0) {
    console.log(differences.join('\n'))
    console.log(`again: npm run determinism -- --seed ${seed}${values.quick ? ' --quick' : ''}`)
    process.exitCode = 1
    break
  }
}
console.log(`${engineVariants.length} variants, ${runs} runs, ${digests} digests compared, ${sinceStart()}`)
if (left > 0) console.log(`${left} processes' work is left: go on with the same --results`)
