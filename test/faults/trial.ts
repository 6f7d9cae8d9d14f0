/**
 * One trial: a protected VM under mixed load, one fault at a moment drawn from the seed, and then every promise checked.
 * A trial is made by its seed alone: the seed names the kind of fault, the moment, and the load's choices.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { Prng } from '../../src/base/prng.ts'
import { type FaultKind, faultKinds } from './fault-kinds.ts'
import type { FaultyVm } from './faulty-vm.ts'
import { MixedLoad } from './mixed-load.ts'

export interface TrialReport {
  readonly seed: number
  readonly kind: string
  readonly lost: number
  readonly duplicated: number
  /** Ended connections that should have lived. */
  readonly resets: number
  /** Ended connections that end with what was killed. */
  readonly expectedResets: number
  readonly divergences: number
  readonly twoLive: number
  /** 0 or 1; stays 0 while the VM goes on into the next trial. */
  readonly uncleanFilesystems: number
  readonly answers: number
  readonly consoleLines: number
  readonly stallMs: number
  /** Until the VM was protected and busy; then until every promise was checked but that of its disk; then until the end. */
  readonly phasesMs: readonly [number, number, number]
  /** What went wrong besides: nobody went on, the guest hung, the harness itself failed. */
  readonly failure: string | undefined
}

/** Seeds that follow each other go through every kind. */
export function kindOfSeed(seed: number): FaultKind {
  return faultKinds[(seed - 1) % faultKinds.length]!
}

const settleWithinMs = 30_000
/** The load must have come so much further after the fault. */
const progressAfter = 20

/** @param last the VM is powered off and its disk checked even if it is still protected */
export async function runTrial(
  vm: FaultyVm,
  seed: number,
  last: boolean,
  trace: (line: string) => void,
): Promise<TrialReport> {
  const kind = kindOfSeed(seed)
  const prng = new Prng(seed)
  const load = new MixedLoad(vm.port, seed, (text) => vm.type(text), trace)
  let twoLive = 0
  const startedAt = performance.now()
  let busyAt: number | undefined
  let judgedAt: number | undefined
  let divergences = 0
  let unclean = 0
  let failure: string | undefined
  try {
    await vm.ensureProtected()
    await load.adopt()
    await load.start()
    await sleep(1000 + prng.below(2000))
    load.startMeasuring()
    busyAt = performance.now()
    const { generation } = vm.record()
    const before = vm.livingReplicas().length
    await kind.inject(vm, prng)
    if (kind.resetsConnections) await load.stop(1)
    if (kind.survivors === 'none') {
      await vm.ensureProtected()
    } else {
      twoLive = await judgeSurvivors(vm, kind.survivors === 'both' ? before : before - 1, before, generation)
    }
    if (kind.resetsConnections) {
      await vm.redisAnswers(settleWithinMs)
      await load.verify()
      await load.start()
    }
    await waitForProgress(load)
    await load.stop(settleWithinMs)
    await load.verify()
    load.judgeConsole(vm.consoleText())
    divergences = vm.divergences()
    judgedAt = performance.now()
    if (last || kind.survivors !== 'both') {
      const wrong = await vm.powerOffAndCheck()
      if (wrong !== undefined) {
        trace(wrong)
        unclean = 1
      }
    }
  } catch (error) {
    failure = (error as Error).message
    trace((error as Error).stack ?? failure)
    load.closeConnections()
  }
  const endedAt = performance.now()
  const phasesMs = [
    (busyAt ?? endedAt) - startedAt,
    (judgedAt ?? endedAt) - (busyAt ?? endedAt),
    endedAt - (judgedAt ?? endedAt),
  ] as const
  const { lost, duplicated, resets, answers, consoleLines, longestStallMs } = load.findings
  return {
    seed,
    kind: kind.name,
    lost,
    duplicated,
    resets: kind.resetsConnections ? 0 : resets,
    expectedResets: kind.resetsConnections ? resets : 0,
    divergences,
    twoLive,
    uncleanFilesystems: unclean,
    phasesMs,
    answers,
    consoleLines,
    stallMs: Math.round(longestStallMs),
    failure,
  }
}

async function waitForProgress(load: MixedLoad): Promise<void> {
  const goal = load.acknowledgedIncrements + progressAfter
  const deadline = performance.now() + settleWithinMs
  while (load.acknowledgedIncrements < goal) {
    if (performance.now() > deadline) throw new Error(`nothing was answered for ${settleWithinMs / 1000} s`)
    if (load.findings.resets > 0 && load.isIdle) throw new Error('every connection ended')
    await sleep(50)
  }
}

/**
 * Waits until the pair has settled, and compares it with the arbiter's record.
 * @returns 1 if two replicas go on as the machine
 * @throws when nobody does, or somebody whom the record does not name
 */
async function judgeSurvivors(
  vm: FaultyVm,
  expected: number,
  before: number,
  generationBefore: number,
): Promise<number> {
  const deadline = performance.now() + settleWithinMs
  for (;;) {
    const living = vm.livingReplicas()
    const statuses = await vm.statuses()
    const primaries = statuses.filter(({ role }) => role === 'primary')
    const record = vm.record()
    const isSettled =
      living.length === expected &&
      primaries.length === 1 &&
      primaries[0]!.state === (expected > 1 ? 'protected' : 'alone') &&
      record.eligible.length === expected - 1 &&
      primaries[0]!.name === record.holder &&
      primaries[0]!.generation === record.generation
    if (isSettled) {
      if (expected === before || record.generation > generationBefore) return 0
      throw new Error(`the replicas changed, but the record is still in generation ${record.generation}`)
    }
    if (living.length === 0) throw new Error('no replica lives')
    if (performance.now() > deadline) {
      if (primaries.length > 1) return 1
      const states = statuses.map(({ name, role, state }) => `${name} ${role} ${state}`).join(', ')
      throw new Error(`did not settle: processes ${living.join(' ')}; ${states}; record ${JSON.stringify(record)}`)
    }
    await sleep(100)
  }
}
