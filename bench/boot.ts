/**
 * How long a boot takes, beside QEMU, on the same image with the same RAM: `npm run bench:boot -- --help`.
 *
 * Two goals: the default guest's Redis answers PING through the forwarded port; a full Debian with systemd shows `login:`.
 * Rounds interleave the contestants, each round beginning with another one, so that whatever else the machine does hits
 * all alike. Medians are given, and ratios to QEMU: seconds belong to one machine and one day.
 */

import { mkdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Option } from 'commander'
import { copySparse } from '../src/guest/sparse-file.ts'
import { freePort, type VmOptions, writeRedisVm } from '../src/host/redis-vm.ts'
import { readVmConfig, rootImagePath } from '../src/host/vm-config.ts'
import type { Boot, Contestant, Goal } from './contestant.ts'
import { QemuContestant } from './qemu.ts'
import { type BenchOptions, benchCommand, benchOptions, type Measured, runBench, say } from './support/bench-command.ts'
import { median, round2 } from './support/figures.ts'
import { icountOptions } from './support/qemu-options.ts'
import { RunContestant, UpContestant } from './understudy.ts'

interface Options extends BenchOptions {
  readonly systemdGuest?: string
}

const name = 'bench:boot'
const command = benchCommand(name, 'How long a boot takes, beside QEMU.', [
  benchOptions.rounds('3'),
  benchOptions.only("only this goal: the default guest's Redis answers, or Debian with systemd asks for a login", [
    'redis',
    'login',
  ]),
  benchOptions.guest(),
  new Option('--systemd-guest <FOLDER>', 'a guest with systemd that is built already'),
  benchOptions.waitMinutes(5),
  benchOptions.json(
    '"rounds","results":[{"scenario","rows":[{"contestant","wall_seconds":[…],"median_wall_seconds","ratio_to_qemu",' +
      '"ratio_to_qemu_icount","median_instructions"},…]},…]',
  ),
])

interface Scenario {
  readonly goal: Goal
  readonly title: string
  readonly vm: (options: Options) => VmOptions
  /** The first is what the others are compared with. */
  readonly contestants: readonly Contestant[]
}

const qemu = new QemuContestant('qemu', [])
const qemuIcount = new QemuContestant('qemu -icount shift=0,sleep=off', icountOptions)

const scenarios: readonly Scenario[] = [
  {
    goal: 'redis',
    title: 'default guest (256 MiB) to Redis PONG through the forwarded port',
    vm: ({ guest }) => ({ guestFolder: guest }),
    contestants: [
      qemu,
      qemuIcount,
      new UpContestant('understudy up --unprotected', ['--unprotected']),
      new UpContestant('understudy up', []),
    ],
  },
  {
    goal: 'login',
    title: 'Debian with systemd (512 MiB) to login: on the console',
    vm: ({ systemdGuest }) => ({ flavour: 'systemd', memory: '512M', guestFolder: systemdGuest }),
    contestants: [qemu, qemuIcount, new RunContestant()],
  },
]

interface Row {
  readonly contestant: string
  readonly wall_seconds: readonly number[]
  readonly median_wall_seconds: number
  readonly ratio_to_qemu: number
  readonly ratio_to_qemu_icount: number
  readonly median_instructions: number | null
}

async function measureBoots(scenario: Scenario, rounds: number, options: Options, folder: string): Promise<Row[]> {
  const { contestants } = scenario
  const port = await freePort()
  const vmPath = await writeRedisVm(folder, `bench-${process.pid}`, port, scenario.vm(options))
  const { config } = readVmConfig(vmPath)
  const disk = rootImagePath(config)!
  const pristine = `${disk}.pristine`
  renameSync(disk, pristine)
  const boots = new Map<Contestant, Boot[]>(contestants.map((contestant) => [contestant, []]))
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < contestants.length; turn++) {
      const contestant = contestants[(round + turn) % contestants.length]!
      rmSync(disk, { force: true })
      await copySparse(pristine, disk)
      const boot = await contestant.boot({ goal: scenario.goal, vmPath, config })
      boots.get(contestant)!.push(boot)
      say(`round ${round + 1}: ${contestant.name}: ${boot.wallSeconds.toFixed(1)} s`)
    }
  }
  const walls = (contestant: Contestant): number[] => boots.get(contestant)!.map(({ wallSeconds }) => wallSeconds)
  return contestants.map((contestant) => {
    const counts = boots.get(contestant)!.flatMap(({ instructions }) => instructions ?? [])
    const wall = median(walls(contestant))
    return {
      contestant: contestant.name,
      wall_seconds: walls(contestant).map((seconds) => round2(seconds)),
      median_wall_seconds: round2(wall),
      ratio_to_qemu: round2(wall / median(walls(qemu))),
      ratio_to_qemu_icount: round2(wall / median(walls(qemuIcount))),
      median_instructions: counts.length === 0 ? null : Math.round(median(counts)),
    }
  })
}

function table({ title }: Scenario, rows: readonly Row[]): string {
  const instructions = ({ median_instructions: count }: Row): string =>
    count === null ? '–' : `${(count / 1e9).toFixed(2)} G`
  const lines = rows.map(
    (row) =>
      `| \`${row.contestant}\` | ${row.median_wall_seconds.toFixed(1)} | ${row.ratio_to_qemu.toFixed(2)} ` +
      `| ${row.ratio_to_qemu_icount.toFixed(2)} | ${instructions(row)} |`,
  )
  const head = '| | wall seconds | × QEMU | × QEMU icount | instructions |\n|---|---:|---:|---:|---:|'
  return `**${title}**\n\n${head}\n${lines.join('\n')}\n`
}

async function measure(options: Options, folder: string): Promise<Measured> {
  const rounds = options.rounds ?? 3
  const results: { scenario: string; rows: Row[] }[] = []
  const tables: string[] = []
  for (const scenario of scenarios.filter(({ goal }) => options.only?.includes(goal) ?? true)) {
    const own = join(folder, scenario.goal)
    mkdirSync(own)
    const rows = await measureBoots(scenario, rounds, options, own)
    results.push({ scenario: scenario.title, rows })
    tables.push(table(scenario, rows))
  }
  return { details: `${rounds} rounds`, text: tables.join('\n'), figures: { rounds, results } }
}

await runBench<Options>(name, command, measure)
