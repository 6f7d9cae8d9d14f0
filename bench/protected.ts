/**
 * What protection costs a guest that only computes: the same fixed work with and without a backup.
 * `npm run bench:protected -- --help`.
 *
 * Two VMs run all the time, one protected and one not; while one works the other waits, and an idle VM costs next to nothing. At
 * half-time they change: the protected one loses its backup, the other one gets one, and the primaries go on. So
 * each primary is compared with itself. That matters: where V8 puts the code of a process makes one a few per cent faster than the
 * next, which is more than what is measured here.
 *
 * Both work until their code is translated, and say how much work fills a round; then all do the same amount, in turns. A
 * round is timed between two lines on the console, and with it the CPU time of the hart's thread: that of the primary, where
 * there are two. A ratio is unprotected / protected of one VM, the mean of both: 1 is free of charge. All must come to the same result.
 *
 * CPU time says what protection makes the hart itself do, and what the backup beside it takes from caches; wall time has in it
 * what both replicas' threads take from each other, on as many cores as the host has.
 */

import { Option } from 'commander'
import { numberFrom } from '../src/cli/count-argument.ts'
import { readyGuest } from '../src/host/redis-vm.ts'
import { type BenchOptions, benchCommand, benchOptions, type Measured, runBench, say } from './support/bench-command.ts'
import { type BenchVm, type Cost, type Mode, modes, startBenchVms, type Timing } from './support/bench-vm.ts'
import { cpuWorkScript, shortWarmUp, type WarmUp, warmUpCpuWork } from './support/cpu-work.ts'
import { geometricMean, median, round3 } from './support/figures.ts'
import { inTurns } from './support/turns.ts'

interface Options extends BenchOptions {
  readonly seconds?: number
}

const name = 'bench:protected'
const command = benchCommand(name, 'What protection costs a guest that only computes.', [
  new Option('--seconds <N>', 'length of a round, about (default: 33; with --quick 8)').argParser(numberFrom(1)),
  benchOptions.rounds('2 of each VM in each half; with --quick 1'),
  benchOptions.quick('rounds of 8 s, and one of each VM in each half'),
  benchOptions.guest(),
  benchOptions.waitMinutes(),
  benchOptions.write(),
  benchOptions.json(
    '"cpu_ratio","wall_ratio","rounds","units","vms":[{"unprotected":[{"wall","hart","all"},…],"protected":[…]},…]',
    "a ratio is unprotected / protected of a VM's medians, the geometric mean of both VMs; times in seconds: wall, the hart's thread, all threads of the VM's replicas",
  ),
])

/** V8 compiles for a new backup for half a minute. */
const longWarmUp: WarmUp = { least: 12, most: 16 }

type VmTimings = Readonly<Record<Mode, Timing[]>>

interface Rounds {
  readonly units: number
  readonly vms: readonly VmTimings[]
}

async function measureRounds(
  vms: readonly BenchVm[],
  { rounds, seconds, warmUp }: { rounds: number; seconds: number; warmUp: WarmUp },
): Promise<Rounds> {
  for (const vm of vms) vm.type(cpuWorkScript)
  const timings = vms.map((): VmTimings => ({ unprotected: [], protected: [] }))
  let units: number | undefined
  for (const half of [1, 2]) {
    if (half === 2) for (const vm of vms) await vm.become(otherMode(vm.mode))
    const unitSeconds: number[] = []
    for (const vm of vms) unitSeconds.push(await warmUpCpuWork(vm, say, warmUp))
    units ??= Math.ceil(seconds / Math.min(...unitSeconds))
    for (let round = 0; round < rounds; round++) {
      for (const [index, vm] of inTurns([...vms.entries()], round)) {
        const timing = await vm.time(`work ${units}`)
        await vm.requireMode()
        timings[index]![vm.mode].push(timing)
        const { wall, hart, all } = timing
        const which = `half ${half}, round ${round + 1}, VM ${index + 1} ${vm.mode}`
        say(`  ${which}: ${wall.toFixed(2)} s, hart ${hart.toFixed(2)} s, all ${all.toFixed(2)} s`)
      }
    }
  }
  const results = new Set(timings.flatMap((vm) => modes.flatMap((mode) => vm[mode].map(({ result }) => result))))
  if (results.size !== 1) throw new Error(`the rounds do not agree on the result: ${[...results].join(', ')}`)
  return { units: units!, vms: timings }
}

const otherMode = (mode: Mode): Mode => (mode === 'protected' ? 'unprotected' : 'protected')

const medianOfMode = (vm: VmTimings, mode: Mode, what: keyof Cost): number =>
  median(vm[mode].map((timing) => timing[what]))

const ratioOfVm = (vm: VmTimings, what: keyof Cost): number =>
  medianOfMode(vm, 'unprotected', what) / medianOfMode(vm, 'protected', what)

function ratioOf({ vms }: Rounds, what: keyof Cost): number {
  return round3(geometricMean(vms.map((vm) => ratioOfVm(vm, what))))
}

function table(rounds: Rounds): string {
  const seconds = (vm: VmTimings, mode: Mode, what: keyof Cost): string =>
    `${medianOfMode(vm, mode, what).toFixed(2)} (${vm[mode].map((timing) => timing[what].toFixed(2)).join(', ')})`
  const rows = rounds.vms.flatMap((vm, index) => [
    ...modes.map((mode) => {
      const [wall, hart, all] = (['wall', 'hart', 'all'] as const).map((what) => seconds(vm, mode, what))
      return `| VM ${index + 1}, ${mode} | ${wall} | ${hart} | ${all} |`
    }),
    `| unprotected / protected | ${ratioOfVm(vm, 'wall').toFixed(3)} | ${ratioOfVm(vm, 'hart').toFixed(3)} | |`,
  ])
  return `| | wall, s: median (rounds) | hart's thread, s | all threads of the replicas, s |
|---|---:|---:|---:|
${rows.join('\n')}
| **mean of both** | **${ratioOf(rounds, 'wall').toFixed(3)}** | **${ratioOf(rounds, 'hart').toFixed(3)}** | |`
}

async function measure({ quick, guest, ...options }: Options, folder: string): Promise<Measured> {
  const perHalf = options.rounds ?? (quick ? 1 : 2)
  const seconds = options.seconds ?? (quick ? 8 : 33)
  const vms = await startBenchVms(await readyGuest({ guestFolder: guest }, 'test-guest'), folder)
  try {
    const rounds = await measureRounds([vms.unprotected, vms.protected], {
      rounds: perHalf,
      seconds,
      warmUp: quick ? shortWarmUp : longWarmUp,
    })
    return {
      details: `${perHalf} rounds of ${rounds.units} units in each half`,
      text: table(rounds),
      figures: figuresOf(rounds, perHalf),
    }
  } finally {
    await vms.end()
  }
}

function figuresOf(rounds: Rounds, perHalf: number): object {
  const rounded = ({ wall, hart, all }: Timing) => ({ wall: round3(wall), hart: round3(hart), all: round3(all) })
  return {
    cpu_ratio: ratioOf(rounds, 'hart'),
    wall_ratio: ratioOf(rounds, 'wall'),
    rounds: perHalf,
    units: rounds.units,
    vms: rounds.vms.map((vm) => ({
      unprotected: vm.unprotected.map(rounded),
      protected: vm.protected.map(rounded),
    })),
  }
}

await runBench<Options>(name, command, measure)
