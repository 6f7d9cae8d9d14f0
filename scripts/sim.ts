/**
 * The simulator (src/sim/, docs/SIMULATOR.md): `npm run sim -- --help`.
 *
 * Seeds that ever failed are run first. Progress is shown; a failing seed prints what is wrong and the one command that
 * repeats it; the last line of `--json` is the report. Exits with 1 if a seed failed.
 */

import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { InvalidArgumentError, Option } from 'commander'
import { countFrom } from '../src/cli/count-argument.ts'
import { Campaign, type CampaignResult, sumOf } from '../src/sim/campaign.ts'
import { type Crash, victims } from '../src/sim/faults.ts'
import { knownSeeds } from '../src/sim/known-seeds.ts'
import { repeatCommand, runSeed } from '../src/sim/simulation.ts'
import { developerCommand, runDeveloperCommand } from '../test/support/developer-command.ts'

/** Seeds between two signs of life. */
const chunk = 25

interface Share {
  readonly from: number
  readonly step: number
  readonly end: number
  readonly isUntilFailure: boolean
  readonly isExhaustive: boolean
}

/** Runs every `step`th seed from `from` on below `end`, and tells after each chunk how far it is. */
function runShare(
  { from, step, end, isUntilFailure, isExhaustive }: Share,
  onProgress: (result: CampaignResult) => void,
): void {
  const campaign = new Campaign()
  let done = 0
  for (let seed = from; seed < end; seed += step) {
    if (isExhaustive) campaign.runExhaustively(seed)
    else campaign.run(seed)
    if (isExhaustive || ++done % chunk === 0) onProgress(campaign.result)
    if (isUntilFailure && campaign.result.failed.length > 0) break
  }
  onProgress(campaign.result)
}

function runInWorker(share: Share, onProgress: (result: CampaignResult) => void): Promise<void> {
  const worker = new Worker(new URL(import.meta.url), { workerData: share })
  worker.on('message', onProgress)
  return new Promise((resolve, reject) => {
    worker.once('error', reject)
    worker.once('exit', () => resolve())
  })
}

function report(total: CampaignResult, seconds: number) {
  return {
    seeds: total.seeds,
    violations: total.failed.length,
    first_failed: total.failed[0]?.seed ?? null,
    seeds_per_second: Number((total.seeds / seconds).toFixed(1)),
    entries: total.entries,
    least_entries: total.leastEntries,
    least_faults: total.leastFaults,
    situations: total.situations,
  }
}

/** As `--crash` says it: boundary, victim, how. */
function parseCrash(text: string): Crash {
  const [, boundary, name, how] = /^(\d+),(\w+),(process|host)$/.exec(text) ?? []
  const victim = victims.find((known) => known === name)
  if (victim === undefined) {
    throw new InvalidArgumentError(`write BOUNDARY,VICTIM,HOW: a count, one of ${victims.join(' ')}, process or host`)
  }
  return { boundary: Number(boundary), victim, how: how as Crash['how'] }
}

function traceOne(seed: number, crash: Crash | undefined): void {
  const trace = (line: string): void => console.log(line)
  const options = crash ? { trace, exhaustive: { crash } } : { trace }
  const { violations, situations, ...rest } = runSeed(seed, options)
  const met = Object.entries(situations).filter(([, times]) => times > 0)
  console.log({ ...rest, situations: Object.fromEntries(met) })
  for (const violation of violations) console.log(`VIOLATION ${violation}`)
  process.exitCode = violations.length > 0 ? 1 : 0
}

interface Options {
  readonly seeds: number
  readonly from: number
  readonly jobs: number
  readonly json?: boolean
  readonly trace?: boolean
  readonly crash?: Crash
  readonly exhaustive?: boolean
  readonly untilFailure?: boolean
}

const command = developerCommand('npm run sim --', 'The protocol in a fake world where everything goes wrong, by seed.')
  .option('--seeds <N>', 'how many, after those that ever failed', countFrom(0), 500)
  .option('--from <SEED>', 'the first', countFrom(0), 1)
  .option('--jobs <N>', 'side by side, in so many threads', countFrom(1), 1)
  .option('--until-failure', 'end with the first that fails; those that ever failed are not run before')
  .option('--exhaustive', 'every process dies at every boundary of log entries of a short run of each seed')
  .option('--trace', 'tell the first seed as a story, and run no other')
  .addOption(
    new Option('--crash <CRASH>', 'with --trace: the one crash of a short run, as BOUNDARY,VICTIM,HOW').argParser(
      parseCrash,
    ),
  )
  .option(
    '--json',
    'the last line is one object: {"seeds", "violations", "first_failed", "seeds_per_second", "entries", "least_entries", "least_faults", "situations":{…}}',
  )

async function main(options: Options): Promise<void> {
  const { seeds, from, jobs, json, trace, crash, exhaustive = false, untilFailure = false } = options
  if (trace) return traceOne(from, crash)
  if (crash) command.error('--crash goes with --trace')
  const startedMs = performance.now()
  const known = new Campaign()
  // A broken product is to be found by the seeds that are asked for.
  if (!untilFailure) for (const { seed } of knownSeeds) known.run(seed)
  const results = [known.result, ...Array.from({ length: jobs }, () => new Campaign().result)]
  const told = new Set<string>()
  const say = (line: string): void => (json ? console.error(line) : console.log(line))
  let saidAtMs = startedMs
  const onProgress = (job: number, result: CampaignResult): void => {
    results[job] = result
    for (const failure of sumOf(results).failed) {
      const repeat = repeatCommand(failure)
      if (told.has(repeat)) continue
      told.add(repeat)
      say(`seed ${failure.seed}: ${failure.violations.join('\n  ')}\n  repeat: ${repeat}`)
    }
    const nowMs = performance.now()
    if (nowMs - saidAtMs < 5000) return
    saidAtMs = nowMs
    const { seeds: done, failed } = sumOf(results)
    const rate = (done / ((nowMs - startedMs) / 1000)).toFixed(0)
    say(`${done} runs, ${failed.length} failed, ${rate} a second`)
  }
  onProgress(0, known.result)
  const shares = Array.from({ length: jobs }, (_, job) => ({
    from: from + job,
    step: jobs,
    end: from + seeds,
    isUntilFailure: untilFailure,
    isExhaustive: exhaustive,
  }))
  if (jobs === 1) runShare(shares[0]!, (result) => onProgress(1, result))
  else await Promise.all(shares.map((share, job) => runInWorker(share, (result) => onProgress(job + 1, result))))
  const total = report(sumOf(results), (performance.now() - startedMs) / 1000)
  if (json) console.log(JSON.stringify(total))
  else console.log(total)
  process.exitCode = total.violations > 0 ? 1 : 0
}

if (isMainThread) await runDeveloperCommand(command, main)
else runShare(workerData as Share, (result) => parentPort!.postMessage(result))
