/**
 * How fast the engine is, beside QEMU's translator: `npm run bench:engine -- --help`.
 *
 * Bare-metal kernels and work in a Linux guest, each in three machines: ours unprotected, QEMU plain, QEMU with `-icount
 * shift=0,sleep=off`. Rounds interleave the contestants. A ratio is QEMU's median time by ours: above 1 we are faster.
 * Every contestant must come to the same results, or the run fails.
 */

import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { WorldError } from '../../src/base/assert.ts'
import { findProgram } from '../../src/guest/command.ts'
import type { ReadyGuest } from '../../src/host/redis-vm.ts'
import {
  type BenchOptions,
  benchCommand,
  benchOptions,
  type Measured,
  runBench,
  say,
} from '../support/bench-command.ts'
import { readKept, writeKept } from '../support/kept-file.ts'
import { inTurns } from '../support/turns.ts'
import { type Contestant, contestants } from './contestants.ts'
import { benchGuest, bootWork, GuestSession, guestWorks } from './guest-work.ts'
import { buildKernel, canCompile, compilerPackage, type Kernel, kernels, timeKernel } from './kernels.ts'
import { report } from './report.ts'
import { Measurement, summarize, type Timings, type Work } from './rows.ts'

const allWorks: readonly Work[] = [...kernels, bootWork, ...guestWorks]
const name = 'bench:engine'
const command = benchCommand(name, 'The engine beside QEMU: bare-metal kernels and work in a Linux guest.', [
  benchOptions.quick('two rounds of some rows, at most five minutes on a quiet machine'),
  benchOptions.rounds('5; with --quick 2'),
  benchOptions.only('only these rows or groups', ['bare', 'linux', ...allWorks.map((work) => work.name)]),
  benchOptions.guest(),
  benchOptions.waitMinutes(),
  benchOptions.continue(),
  benchOptions.write(),
  benchOptions.json('"bare","linux","rows","rounds"'),
])

function isChosen({ only, quick }: BenchOptions, { group, name, isQuick }: Work): boolean {
  return only ? only.includes(name) || only.includes(group) : isQuick || !quick
}

function note(measurement: Measurement, contestant: Contestant, timing: Parameters<Measurement['add']>[1]): void {
  measurement.add(contestant, timing)
  say(`  ${measurement.work.name}: ${contestant} ${timing.seconds.toFixed(2)} s`)
}

async function measureKernels(
  measurements: readonly Measurement<Kernel>[],
  rounds: number,
  folder: string,
): Promise<void> {
  const built = await Promise.all(
    measurements.map(async (measurement) => ({ path: await buildKernel(measurement.work, folder), measurement })),
  )
  for (let round = 0; round < rounds; round++) {
    say(`bare metal, round ${round + 1} of ${rounds}`)
    for (const { path, measurement } of built) {
      for (const contestant of inTurns(contestants, round))
        note(measurement, contestant, await timeKernel(contestant, path))
    }
  }
}

async function measureGuests(
  measurements: readonly Measurement[],
  rounds: number,
  guest: ReadyGuest,
  folder: string,
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    say(`Linux guest, round ${round + 1} of ${rounds}`)
    const own = join(folder, `round-${round}`)
    mkdirSync(own)
    await measureRound(measurements, guest, inTurns(contestants, round), own)
    rmSync(own, { recursive: true })
  }
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

function requireQemu(): void {
  if (findProgram('qemu-system-riscv64')) return
  throw new WorldError('no-qemu', 'qemu-system-riscv64 is missing: install the Debian package qemu-system-misc')
}

async function measure(options: BenchOptions, folder: string): Promise<Measured> {
  const rounds = options.rounds ?? (options.quick ? 2 : 5)
  const kept = options.continue ? readKept<{ timings: Record<string, Timings> }>(options.continue) : undefined
  const newMeasurement = <W extends Work>(work: W) => new Measurement(work, kept?.timings[work.name])
  const ofKernels = kernels.map(newMeasurement)
  const ofGuest = [bootWork, ...guestWorks].map(newMeasurement)
  const isToDo = ({ work }: Measurement): boolean => isChosen(options, work)

  if (ofKernels.some(isToDo)) {
    if (canCompile()) await measureKernels(ofKernels.filter(isToDo), rounds, folder)
    else say(`bare-metal kernels are skipped: they need the Debian package ${compilerPackage}`)
  }
  if (ofGuest.some(isToDo)) {
    const guest = await benchGuest(folder, options.guest, say)
    await measureGuests(ofGuest.filter(isToDo), rounds, guest, folder)
  }

  // Without --continue there are those of this run alone.
  const measured = [...ofKernels, ...ofGuest].filter((measurement) => measurement.rounds > 0)
  if (options.continue) {
    const timings = Object.fromEntries(measured.map(({ work, timings }) => [work.name, timings]))
    writeKept(options.continue, { timings })
  }
  const fewest = Math.min(...measured.map((measurement) => measurement.rounds))
  const rows = measured.map((measurement) => measurement.row())
  return {
    details: `${fewest} rounds of ${contestants.length} contestants`,
    text: report(rows),
    figures: { bare: summarize(rows, 'bare'), linux: summarize(rows, 'linux'), rows, rounds: fewest },
  }
}

await runBench(name, command, measure, requireQemu)
