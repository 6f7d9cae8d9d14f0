/**
 * What protection costs a guest that only computes: the same fixed work in a protected and in an unprotected VM.
 *
 *     npm run bench:protected -- [--seconds 30] [--rounds 3] [--quick] [--json] [--write] [--guest FOLDER] [--wait-minutes M]
 *
 * Both VMs run all the time; while one works the other waits, and an idle VM costs next to nothing. First each works until
 * its code is translated, and says how much work fills a round; both then do the same amount, in turns. A round is timed
 * between two lines on the console, and with it the CPU time of the hart's thread: that of the primary, where there are
 * two. A ratio is unprotected / protected: 1 is free of charge. Both must come to the same result.
 *
 * CPU time says what protection makes the hart itself do, and what the backup beside it takes from caches; wall time has in it
 * what both replicas' threads take from each other, on as many cores as the host has.
 */

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { bringUp, pairStatus, takeDown } from '../src/host/local-pair.ts'
import { freePort, writeRedisVm } from '../src/host/redis-vm.ts'
import { ConsoleProcess } from '../test/system/console-process.ts'
import { liveReplica } from '../test/system/guest-console.ts'
import { launcher } from './engine/contestants.ts'
import { endCleanly } from './support/clean-end.ts'
import { cpuSeconds, threadCpuSeconds } from './support/cpu-time.ts'
import { writeIntoDocument } from './support/document.ts'
import { median } from './support/figures.ts'
import { describeCommit, describeHost, quietLoad, waitUntilQuiet } from './support/host.ts'

const help = `node bench/protected.ts [options]
  --seconds N        length of a round, about (default 30)
  --rounds N         rounds of each VM (default 3)
  --quick            two rounds of 8 s
  --json             the last line is one object: {"cpu_ratio","wall_ratio","rounds","units","seconds":{"unprotected":
                     [{"wall","hart","all"},…],"protected":[…]},"load_at_start","host","commit"}; a ratio is
                     unprotected / protected of the medians; times in seconds: wall, the hart's thread, all threads of
                     the VM's replicas
  --write            put the table into docs/BENCHMARKS.md
  --guest FOLDER     a guest that is built already
  --wait-minutes M   wait so long for a quiet machine`

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string' },
    rounds: { type: 'string' },
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
    guest: { type: 'string' },
    'wait-minutes': { type: 'string', default: '0' },
    help: { type: 'boolean', default: false },
  },
})

const modes = ['unprotected', 'protected'] as const
type Mode = (typeof modes)[number]

/** Seconds. */
interface Timing {
  readonly wall: number
  readonly hart: number
  readonly all: number
  readonly result: string
}

/**
 * A function of the guest's shell: `work N` does N units of work between two lines, half of it in a bytecode machine with
 * arrays and strings (awk), half in a tight loop behind a pipe (sha256sum). Each is one process for the whole round, in
 * memory, so that next to nothing is translated on the way. The lines are put together by printf, so that the echo of
 * this text is none of them.
 */
const guestScript = [
  "work() { printf '@%sbegin\\n' @;",
  "r=$(awk -v n=$1 'BEGIN { for (u = 0; u < n; u++) for (i = 0; i < 4000; i++)",
  "{ x = (x * 31 + i) % 1000003; a[i % 997] += x; s = substr(s x, 1, 40); l += index(s, i % 97) } print x, a[5], l, s }'",
  '| md5sum; head -c $(($1 * 400000)) /dev/zero | sha256sum);',
  'printf \'@%send %s\\n\' @ "$(echo $r)"; }',
].join(' ')

const warmUpUnits = 20
/** Until two pieces of work in a row take about as long, and at most so many pieces. */
const steadyWithin = 0.03
const warmUpPieces = 6

const say = (line: string): void => console.error(line)

class Contestant {
  readonly mode: Mode
  readonly #vm: string
  readonly #console: ConsoleProcess

  private constructor(mode: Mode, vm: string, console: ConsoleProcess) {
    this.mode = mode
    this.#vm = vm
    this.#console = console
  }

  static async start(mode: Mode, folder: string): Promise<Contestant> {
    mkdirSync(folder)
    const vm = await writeRedisVm(folder, `bench-${process.pid}-${mode}`, await freePort(), {
      guestFolder: options.guest,
    })
    await bringUp(vm, { protect: mode === 'protected', onProgress: () => {} })
    const contestant = new Contestant(mode, vm, new ConsoleProcess(launcher, ['console', vm]))
    await contestant.#console.shows(/GUEST-READY[^\r\n]*[\r\n]/)
    contestant.#console.type(guestScript)
    return contestant
  }

  async work(units: number): Promise<Timing> {
    const { pid } = await liveReplica(this.#vm)
    const pids = (await pairStatus(this.#vm)).replicas.map((replica) => replica.pid)
    const all = (): number => pids.reduce((sum, one) => sum + cpuSeconds(one), 0)
    this.#console.type(`work ${units}`)
    await this.#console.shows(/@@begin[\r\n]/)
    const before = { wall: performance.now() / 1000, hart: threadCpuSeconds(pid, 'hart'), all: all() }
    const [, result] = await this.#console.shows(/@@end ([^\r\n]*)[\r\n]/)
    return {
      wall: performance.now() / 1000 - before.wall,
      hart: threadCpuSeconds(pid, 'hart') - before.hart,
      all: all() - before.all,
      result: result!.trim(),
    }
  }

  /** @returns seconds of a unit, once its code is translated */
  async warmUp(): Promise<number> {
    let last = Number.POSITIVE_INFINITY
    for (let piece = 0; piece < warmUpPieces; piece++) {
      const { hart } = await this.work(warmUpUnits)
      const isSteady = Math.abs(hart / last - 1) < steadyWithin
      last = hart
      say(`  ${this.mode}, warming up: ${warmUpUnits} units in ${hart.toFixed(2)} s`)
      if (isSteady) break
    }
    return last / warmUpUnits
  }

  /** A pair that lost its protection meanwhile measured something else. */
  async requireMode(): Promise<void> {
    const { protection } = await pairStatus(this.#vm)
    const wanted = this.mode === 'protected' ? 'protected' : 'not protected'
    if (protection !== wanted) throw new Error(`the ${this.mode} VM is ${protection} at the end of a round`)
  }

  async end(): Promise<void> {
    this.#console.process.kill('SIGTERM')
    await takeDown(this.#vm)
  }
}

async function measure(contestants: readonly Contestant[], rounds: number, seconds: number) {
  const unitSeconds: number[] = []
  for (const contestant of contestants) unitSeconds.push(await contestant.warmUp())
  const units = Math.ceil(seconds / Math.min(...unitSeconds))
  const timings: Record<Mode, Timing[]> = { unprotected: [], protected: [] }
  for (let round = 0; round < rounds; round++) {
    // Another one first in each round: whatever else the machine does hits both alike.
    const turns = round % 2 === 0 ? contestants : [...contestants].reverse()
    for (const contestant of turns) {
      const timing = await contestant.work(units)
      await contestant.requireMode()
      timings[contestant.mode].push(timing)
      const { wall, hart, all } = timing
      say(
        `  round ${round + 1}, ${contestant.mode}: ${wall.toFixed(2)} s, hart ${hart.toFixed(2)} s, all ${all.toFixed(2)} s`,
      )
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

async function main(folder: string): Promise<void> {
  const rounds = Number(options.rounds ?? (options.quick ? 2 : 3))
  const seconds = Number(options.seconds ?? (options.quick ? 8 : 30))
  if (!Number.isSafeInteger(rounds) || rounds < 1 || !(seconds >= 1)) {
    throw new Error('--rounds and --seconds take a count')
  }
  const load = await waitUntilQuiet(Number(options['wait-minutes']) * 60_000, (now) =>
    say(`waiting for a quiet machine (load ${now.toFixed(1)})`),
  )
  const contestants: Contestant[] = []
  const endAll = async (): Promise<void> => {
    for (const contestant of contestants.splice(0)) await contestant.end()
  }
  endCleanly(endAll)
  try {
    for (const mode of modes) contestants.push(await Contestant.start(mode, join(folder, mode)))
    const { units, timings } = await measure(contestants, rounds, seconds)
    const quiet = load < quietLoad ? '' : ' (NOT quiet)'
    const conditions = `Commit ${describeCommit()}; ${describeHost()}; ${rounds} rounds of ${units} units; load at the start ${load.toFixed(1)}${quiet}`
    const text = `${conditions}\n\n${table(timings)}`
    if (options.write) writeIntoDocument('bench:protected', text)
    console.log(text)
    if (options.json) {
      const round3 = (value: number): number => Math.round(value * 1000) / 1000
      const figures = (mode: Mode) =>
        timings[mode].map(({ wall, hart, all }) => ({ wall: round3(wall), hart: round3(hart), all: round3(all) }))
      console.log(
        JSON.stringify({
          cpu_ratio: ratioOf(timings, 'hart'),
          wall_ratio: ratioOf(timings, 'wall'),
          rounds,
          units,
          seconds: { unprotected: figures('unprotected'), protected: figures('protected') },
          load_at_start: load,
          host: describeHost(),
          commit: describeCommit(),
        }),
      )
    }
  } finally {
    await endAll()
  }
}

if (options.help) {
  console.log(help)
} else {
  const folder = mkdtempSync(join(tmpdir(), 'understudy-bench-'))
  process.env.XDG_STATE_HOME = join(folder, 'state')
  try {
    await main(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
