/**
 * The long form of variants.system.ts: `npm run determinism -- [--rounds N] [--seed S] [--quick]`.
 *
 * The first round runs the recorded boot in every variant with every drive (with --quick: 300 million instructions of
 * it), and every round runs new random programs and worlds in every variant. It ends after the rounds, or after the first
 * one that found a difference, and then says what to run to see it again.
 */

import { parseArgs } from 'node:util'
import { recordedBoot } from '../support/recorded-boot.ts'
import { bootDrives, type DigestJob } from './digest-work.ts'
import { compareRows, type EngineVariant, engineVariants, runVariants } from './engine-variants.ts'

const programsARound = 20
const worldsARound = 5
const quickMillions = 300

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    'at-once': { type: 'string', default: '2' },
    quick: { type: 'boolean', default: false },
  },
})

interface Job {
  readonly variant: EngineVariant
  readonly job: DigestJob
}

function bootJobs(driveSeed: number): Job[] {
  const length = values.quick ? { millions: quickMillions } : {}
  return engineVariants.flatMap((variant) =>
    bootDrives.map((drive) => ({ variant, job: { boot: { drives: [drive], ...length }, driveSeed } })),
  )
}

function programJobs(seed: number): Job[] {
  return engineVariants.map((variant, index) => ({
    variant,
    job: {
      programs: { firstSeed: seed * programsARound, seeds: programsARound },
      worlds: { firstSeed: seed * worldsARound, seeds: worldsARound },
      driveSeed: seed + 1000 * index,
    },
  }))
}

const startedMs = performance.now()
const sinceStart = (): string => `${((performance.now() - startedMs) / 1000).toFixed(0)} s`
await recordedBoot()
const first = Number(values.seed)
let [digests, runs] = [0, 0]
for (let seed = first; seed < first + Number(values.rounds); seed++) {
  const jobs = seed === first ? [...bootJobs(seed), ...programJobs(seed)] : programJobs(seed)
  const results = await runVariants(jobs, Number(values['at-once']), ({ variant, rows }) => {
    const kind = rows[0]!.subject === 'boot' ? `boot, ${rows[0]!.drive}` : `${rows.length} runs of programs and worlds`
    console.log(`${sinceStart()}: ${variant}: ${kind}`)
  })
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
