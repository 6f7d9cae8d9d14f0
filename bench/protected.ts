/**
 * What protection costs a guest that only computes: the same fixed work in a protected and in an unprotected VM.
 * `npm run bench:protected -- --help`.
 *
 * Both VMs run all the time; while one works the other waits, and an idle VM costs next to nothing. First each works until
 * its code is translated, and says how much work fills a round; both then do the same amount, in turns. A round is timed
 * between two lines on the console, and with it the CPU time of the hart's thread: that of the primary, where there are
 * two. A ratio is unprotected / protected: 1 is free of charge. Both must come to the same result.
 *
 * CPU time says what protection makes the hart itself do, and what the backup beside it takes from caches; wall time has in it
 * what both replicas' threads take from each other, on as many cores as the host has.
 */

import { Option } from 'commander'
import { numberFrom } from '../src/cli/count-argument.ts'
import { readyGuest } from '../src/host/redis-vm.ts'
import { type BenchOptions, benchCommand, benchOptions, type Measured, runBench, say } from './support/bench-command.ts'
import { type BenchVms, type Mode, modes, modesOf, startBenchVms, type Timing } from './support/bench-vm.ts'
import { cpuWorkScript, warmUpCpuWork } from './support/cpu-work.ts'
import { median } from './support/figures.ts'

interface Options extends BenchOptions {
  readonly seconds?: number
}

const name = 'bench:protected'
const command = benchCommand(name, 'What protection costs a guest that only computes.', [
  new Option('--seconds <N>', 'length of a round, about (default: 30; with --quick 8)').argParser(numberFrom(1)),
  benchOptions.rounds('3 of each VM; with --quick 2'),
  benchOptions.quick('two rounds of 8 s'),
  benchOptions.guest(),
  benchOptions.waitMinutes(),
  benchOptions.write(),
  benchOptions.json(
    '"cpu_ratio","wall_ratio","rounds","units","seconds":{"unprotected":[{"wall","hart","all"},…],"protected":[…]}',
    "a ratio is unprotected / protected of the medians; times in seconds: wall, the hart's thread, all threads of the VM's replicas",
  ),
])

async function measureRounds(contestants: BenchVms, rounds: number, seconds: number) {
  const unitSeconds: number[] = []
  for (const mode of modes) {
    contestants[mode].type(cpuWorkScript)
    unitSeconds.push(await warmUpCpuWork(contestants[mode], say))
  }
  const units = Math.ceil(seconds / Math.min(...unitSeconds))
  const timings: Record<Mode, Timing[]> = { unprotected: [], protected: [] }
  for (let round = 0; round < rounds; round++) {
    for (const mode of modesOf(round)) {
      const timing = await contestants[mode].time(`work ${units}`)
      await contestants[mode].requireMode()
      timings[mode].push(timing)
      const { wall, hart, all } = timing
      say(`  round ${round + 1}, ${mode}: ${wall.toFixed(2)} s, hart ${hart.toFixed(2)} s, all ${all.toFixed(2)} s`)
    }
  }
  const results = new Set(Object.values(timings).flatMap((all) => all.map(({ result }) => result)))
  if (results.size !== 1) throw new Error(`the rounds do not agree on the result: ${[...results].join(', ')}`)
  return { units, timings }
}

function ratioOf(timings: Record<Mode, readonly Timing[]>, what: 'wall' | 'hart'): number {
  const of = (mode: Mode): number => median(timings[mode].map((timing) => timing[what]))
  return Math.round((of('unprotected') / of('protected')) * 1000) / 1000
}

function table(timings: Record<Mode, readonly Timing[]>): string {
  const seconds = (mode: Mode, what: 'wall' | 'hart' | 'all'): string => {
    const all = timings[mode].map((timing) => timing[what])
    return `${median(all).toFixed(2)} (${all.map((one) => one.toFixed(2)).join(', ')})`
  }
  const row = (mode: Mode): string =>
    `| ${mode} | ${seconds(mode, 'wall')} | ${seconds(mode, 'hart')} | ${seconds(mode, 'all')} |`
  return `| | wall, s: median (rounds) | hart's thread, s | all threads of the replicas, s |
|---|---:|---:|---:|
${modes.map(row).join('\n')}
| **unprotected / protected** | **${ratioOf(timings, 'wall').toFixed(3)}** | **${ratioOf(timings, 'hart').toFixed(3)}** | |`
}

async function measure(options: Options, folder: string): Promise<Measured> {
  const rounds = options.rounds ?? (options.quick ? 2 : 3)
  const seconds = options.seconds ?? (options.quick ? 8 : 30)
  const guest = await readyGuest({ guestFolder: options.guest }, 'test-guest')
  const contestants = await startBenchVms(guest, folder)
  try {
    const { units, timings } = await measureRounds(contestants, rounds, seconds)
    return {
      details: `${rounds} rounds of ${units} units`,
      text: table(timings),
      figures: figuresOf(timings, rounds, units),
    }
  } finally {
    await contestants.end()
  }
}

function figuresOf(timings: Record<Mode, readonly Timing[]>, rounds: number, units: number): object {
  const round3 = (value: number): number => Math.round(value * 1000) / 1000
  const of = (mode: Mode) =>
    timings[mode].map(({ wall, hart, all }) => ({ wall: round3(wall), hart: round3(hart), all: round3(all) }))
  return {
    cpu_ratio: ratioOf(timings, 'hart'),
    wall_ratio: ratioOf(timings, 'wall'),
    rounds,
    units,
    seconds: { unprotected: of('unprotected'), protected: of('protected') },
  }
}

await runBench<Options>(name, command, measure)
