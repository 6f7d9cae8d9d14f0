/**
 * One seed, from power-on to verdict: the machine runs under load, the plan's faults happen, everything lasting ends, and what
 * is left must work.
 */

import { Chance } from './chance.ts'
import { type Crash, Faults, planFaults } from './faults.ts'
import type { SituationCounts } from './situations.ts'
import { World } from './world.ts'

export interface SeedResult {
  readonly seed: number
  readonly crash: Crash | undefined
  readonly violations: readonly string[]
  readonly situations: SituationCounts
  readonly entries: number
  readonly faults: number
  readonly answers: number
  /** Boundaries of log entries before the run was to settle. */
  readonly boundaries: number
}

/** No seed ends with a shorter log. */
export const leastEntries = 200
/** When nothing is wrong any more: so much until the machine must be there and answer. */
const patienceMs = 4000
const mostUps = 4
const operatorLooksEveryMs = 100

/** The one command that repeats a seed, and tells what happened. */
export function repeatCommand({ seed, crash }: Pick<SeedResult, 'seed' | 'crash'>): string {
  const of = crash ? ` --crash ${crash.boundary},${crash.victim},${crash.how}` : ''
  return `npm run sim -- --from ${seed} --seeds 1 --trace${of}`
}

export interface SeedOptions {
  readonly trace?: (line: string) => void
  /** In place of what the seed says: one crash, or none (`undefined`), in a short run. */
  readonly exhaustive?: { readonly crash: Crash | undefined }
}

/** How long a short run goes before it is to settle. */
const shortRunMs = 180
/** In every second one a backup is lost early, and another one is given the machine: it goes so much longer. */
const lossMs = 60
const reprotectionMs = 140

export function runSeed(seed: number, options: SeedOptions = {}): SeedResult {
  const world = new World(seed, options.trace)
  const chance = new Chance(seed, 2)
  const { exhaustive } = options
  const plan = exhaustive ? [] : planFaults(chance)
  const faults = new Faults(world, chance)
  const { checkers, timeline } = world
  const failed = (): boolean => checkers.violations.length > 0
  const crash = exhaustive?.crash
  const hasLoss = exhaustive !== undefined && seed % 2 === 0
  let boundaries = 0
  if (crash) {
    checkers.onBoundaryReached = (boundary) => {
      if (boundary === crash.boundary) faults.crash(crash)
    }
  }
  try {
    world.up()
    if (hasLoss) timeline.at(lossMs * 1000, () => faults.loseBackup())
    for (const { kind, atMs } of plan) timeline.at(atMs * 1000, () => faults.happen(kind))
    const lastMs = plan.at(-1)?.atMs ?? 0
    timeline.runUntil((exhaustive ? shortRunMs + (hasLoss ? reprotectionMs : 0) : lastMs + 300) * 1000, failed)
    boundaries = checkers.boundaries
    if (!failed()) faults.healAll()
    for (let ups = 1; !failed() && !settle(world, exhaustive ? 0 : leastEntries); ups++) {
      if (ups > mostUps) throw new Error('the machine does not stay up, although all faults are over')
      // Both are gone: the operator starts the machine again.
      checkers.count('both_replicas_lost')
      world.finishRun(false)
      world.up()
    }
    if (!failed()) world.finishRun(true)
  } catch (error) {
    checkers.violate(`${(error as Error).stack}`)
  }
  const { violations, counts, entries } = checkers
  return {
    seed,
    crash,
    violations,
    situations: counts,
    entries,
    faults: faults.happened,
    answers: world.answers,
    boundaries,
  }
}

/**
 * Waits for a machine that answers, and for a log that is long enough.
 * @returns false: every replica is gone, as may be after two faults
 */
function settle(world: World, entries: number): boolean {
  const { timeline, checkers } = world
  const sinceMs = timeline.nowMs
  const isLost = (): boolean => world.replicas.every(({ isGone, isWaiting }) => isGone || isWaiting)
  const works = (): boolean =>
    world.live.length === 1 &&
    world.live[0]!.primary!.state === 'protected' &&
    world.live[0]!.primary!.status.backups.length === world.backups &&
    world.stations.haveBeenAnsweredSince(sinceMs)
  const failed = (): boolean => checkers.violations.length > 0
  const isDecided = (): boolean => isLost() || failed() || works()
  while (timeline.nowMs < sinceMs + patienceMs && !isDecided()) {
    world.startMissingBackup()
    timeline.runUntil(timeline.nowUs + operatorLooksEveryMs * 1000, isDecided)
  }
  if (isLost()) return false
  if (!works()) {
    const states = world.replicas.map(({ name, isGone, primary, backup, haltReason }) =>
      [name, isGone ? 'gone' : '', primary?.state ?? backup?.state ?? haltReason ?? ''].join(' '),
    )
    checkers.violate(`faults are over for ${patienceMs} ms, and the machine does not answer: ${states.join(', ')}`)
    return true
  }
  while (checkers.entries + Number(checkers.logEnd) < entries && !failed() && !isLost()) {
    timeline.runUntil(timeline.nowUs + 50_000, failed)
  }
  // Nothing new is asked for, and whoever is live stands still, also if that is another one by now; what is on its way arrives.
  world.stations.stop()
  const isCalm = (): boolean =>
    world.live.every(({ primary, disk }) => primary!.status.heldOutputs === 0 && disk.steady.isIdle) &&
    world.areCopiesBeside
  let still: typeof world.live
  do {
    still = world.live
    for (const { hart } of still) hart.hang()
    timeline.runUntil(timeline.nowUs + 100_000, failed)
    timeline.runUntil(timeline.nowUs + patienceMs * 1000, () => failed() || isCalm())
    timeline.runUntil(timeline.nowUs + 100_000, failed)
  } while (!failed() && !world.live.every((replica) => still.includes(replica)))
  if (!isCalm()) checkers.violate('faults are over, and outputs are held, or disk requests wait, for ever')
  return !isLost()
}
