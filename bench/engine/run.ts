/**
 * How fast the engine is, beside QEMU's translator:
 *
 *     npm run bench:engine -- [--quick] [--json] [--write] [--only NAME,…] [--rounds N] [--guest FOLDER] [--wait-minutes M] [--continue FILE]
 *
 * Bare-metal kernels and work in a Linux guest, each in three machines: ours unprotected, QEMU plain, QEMU with `-icount
 * shift=0,sleep=off`. Rounds interleave the contestants. A ratio is QEMU's median time by ours: above 1 we are faster.
 * Every contestant must come to the same results, or the run fails.
 *
 * --quick: two rounds of some rows, at most five minutes on a quiet machine; otherwise five rounds of all. --only takes
 * row names and the groups `bare` and `linux`. --continue adds this run's rounds to those that FILE has, keeps all of them there
 * and reports on all: a long measurement in several pieces (the file must be of the same commit). --write puts the table into docs/BENCHMARKS.md. --json: the last line is an object.
 */

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { findProgram } from '../../src/guest/command.ts'
import type { ReadyGuest } from '../../src/host/redis-vm.ts'
import { conclude, conditions, inBenchFolder } from '../support/conclusion.ts'
import { describeCommit, waitUntilQuiet } from '../support/host.ts'
import { type Contestant, contestants, turnsOf } from './contestants.ts'
import { benchGuest, bootWork, GuestSession, guestWorks } from './guest-work.ts'
import { buildKernel, canCompile, compilerPackage, type Kernel, kernels, timeKernel } from './kernels.ts'
import { report } from './report.ts'
import { Measurement, summarize, type Timings, type Work } from './rows.ts'

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
    only: { type: 'string' },
    rounds: { type: 'string' },
    guest: { type: 'string' },
    'wait-minutes': { type: 'string', default: '0' },
    continue: { type: 'string' },
  },
})

const say = (line: string): void => console.error(line)

function isChosen({ group, name, isQuick }: Work): boolean {
  if (options.only === undefined) return isQuick || !options.quick
  const chosen = options.only.split(',')
  return chosen.includes(name) || chosen.includes(group)
}

function note(measurement: Measurement, contestant: Contestant, timing: Parameters<Measurement['add']>[1]): void {
  measurement.add(contestant, timing)
  say(`  ${measurement.work.name}: ${contestant} ${timing.seconds.toFixed(2)} s`)
}

async function measureKernels(chosen: readonly Kernel[], rounds: number, folder: string): Promise<Measurement[]> {
  const built = await Promise.all(
    chosen.map(async (kernel) => ({ path: await buildKernel(kernel, folder), measurement: measurementOf(kernel) })),
  )
  for (let round = 0; round < rounds; round++) {
    say(`bare metal, round ${round + 1} of ${rounds}`)
    for (const { path, measurement } of built) {
      for (const contestant of turnsOf(round)) note(measurement, contestant, await timeKernel(contestant, path))
    }
  }
  return built.map(({ measurement }) => measurement)
}

async function measureGuests(chosen: readonly Work[], rounds: number, folder: string): Promise<Measurement[]> {
  const guest = await benchGuest(folder, options.guest, say)
  const measurements = chosen.map(measurementOf)
  for (let round = 0; round < rounds; round++) {
    say(`Linux guest, round ${round + 1} of ${rounds}`)
    const own = join(folder, `round-${round}`)
    mkdirSync(own)
    await measureRound(measurements, guest, turnsOf(round), own)
    rmSync(own, { recursive: true })
  }
  return measurements
}

/** Boots all, then lets them do each piece of work in turn. */
async function measureRound(
  measurements: readonly Measurement[],
  guest: ReadyGuest,
  turns: readonly Contestant[],
  folder: string,
): Promise<void> {
  const sessions = new Map<Contestant, GuestSession>()
  const works = measurements.filter(({ work }) => work !== bootWork)
  try {
    for (const contestant of turns) {
      const { session, timing } = await GuestSession.boot(contestant, guest, join(folder, contestant))
      sessions.set(contestant, session)
      for (const measurement of measurements) {
        if (measurement.work === bootWork) note(measurement, contestant, timing)
      }
      if (works.length > 0) await session.prepare()
      session.standBy()
    }
    for (const measurement of works) {
      for (const contestant of turns) {
        const session = sessions.get(contestant)!
        session.goOn()
        note(measurement, contestant, await session.time(measurement.work))
        session.standBy()
      }
    }
  } finally {
    for (const session of sessions.values()) await session.end()
  }
}

/** What FILE of --continue has, by the names of rows. */
interface Kept {
  readonly commit: string
  readonly timings: Record<string, Timings>
}

let kept: Kept | undefined

function readKept(path: string): Kept {
  const now = { commit: describeCommit(), timings: {} }
  const found = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Kept) : now
  if (found.commit !== now.commit) throw new Error(`${path} is of commit ${found.commit}, this is ${now.commit}`)
  return found
}

function measurementOf(work: Work): Measurement {
  return new Measurement(work, kept?.timings[work.name])
}

/** Writes all rounds to FILE; returns the measurements of all rows that have any, in the usual order. */
function keep(path: string, measured: readonly Measurement[]): Measurement[] {
  const all = [...kernels, bootWork, ...guestWorks]
    .map((work) => measured.find((measurement) => measurement.work === work) ?? measurementOf(work))
    .filter(({ rounds }) => rounds > 0)
  const timings = Object.fromEntries(all.map((measurement) => [measurement.work.name, measurement.timings]))
  writeFileSync(path, JSON.stringify({ commit: describeCommit(), timings } satisfies Kept))
  return all
}

async function main(folder: string): Promise<void> {
  const rounds = Number(options.rounds ?? (options.quick ? 2 : 5))
  const chosenKernels = kernels.filter(isChosen)
  const chosenWorks = [bootWork, ...guestWorks].filter(isChosen)
  if (!Number.isSafeInteger(rounds) || rounds < 1) throw new Error('--rounds takes a count')
  if (chosenKernels.length + chosenWorks.length === 0) {
    const names = [...kernels, bootWork, ...guestWorks].map(({ name }) => name)
    throw new Error(`--only takes bare, linux, ${names.join(', ')}`)
  }
  if (!findProgram('qemu-system-riscv64')) {
    throw new Error('qemu-system-riscv64 is missing: install the Debian package qemu-system-misc')
  }
  const load = await waitUntilQuiet(Number(options['wait-minutes']) * 60_000, (now) =>
    say(`waiting for a quiet machine (load ${now.toFixed(1)})`),
  )
  if (options.continue) kept = readKept(options.continue)
  let measurements: Measurement[] = []
  if (chosenKernels.length > 0) {
    if (canCompile()) measurements.push(...(await measureKernels(chosenKernels, rounds, folder)))
    else say(`bare-metal kernels are skipped: they need the Debian package ${compilerPackage}`)
  }
  if (chosenWorks.length > 0) measurements.push(...(await measureGuests(chosenWorks, rounds, folder)))

  if (options.continue) measurements = keep(options.continue, measurements)
  const fewest = Math.min(...measurements.map((measurement) => measurement.rounds))
  const rows = measurements.map((measurement) => measurement.row())
  const text = report(rows, conditions(load, `${fewest} rounds of ${contestants.length} contestants`))
  const summary = { bare: summarize(rows, 'bare'), linux: summarize(rows, 'linux') }
  conclude({ name: 'bench:engine', text, figures: { ...summary, rows, rounds: fewest }, load }, options)
}

await inBenchFolder(main)
