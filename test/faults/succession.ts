/**
 * One failure after the other on the same guest: each time its redundancy is restored by itself, and then the next one
 * comes. A replica is killed, frozen (and wakes after another has its place), or cut off from the other; which one, and
 * when, is drawn from the seed. The load runs all the time, and every promise is checked at the end; where each replica has
 * its own copy of the disk, the copies are compared after every failure.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { Prng } from '../../src/base/prng.ts'
import type { ReplicaStatus } from '../../src/host/replica-status.ts'
import { isAlive } from '../../src/host/vm-folder.ts'
import { FaultyVm, type FaultyVmOptions } from './faulty-vm.ts'
import { MixedLoad } from './mixed-load.ts'

export interface Spread {
  readonly median: number
  readonly max: number
}

/** The sum, in the words of the command's JSON. */
export interface SuccessionReport {
  readonly failures: number
  readonly lost: number
  readonly duplicated: number
  readonly resets: number
  readonly divergences: number
  readonly two_live: number
  readonly unclean_filesystems: number
  /** Pieces in which the backup's own copy of the disk was not its primary's, after any of the failures. */
  readonly copies_differ?: number
  /** How long the guest stood still when it was copied. */
  readonly pause_ms: Spread
  /** From the moment a primary lacks a backup until the next one is listed. */
  readonly protected_again_ms: Spread
  /** The same from the failure on, as seen from outside: with what it took to notice it. */
  readonly since_failure_ms: Spread
  /** A client's longest wait for an answer, by what had failed; without a spread where nothing failed so. */
  readonly longest_stall_ms: Readonly<Partial<Record<FailureKind, Spread>>>
  /** What went wrong besides. */
  readonly failure?: string
}

const kinds = ['kill', 'pause', 'cut'] as const
type FailureKind = (typeof kinds)[number]
const roles = ['primary', 'backup'] as const
const protectedWithinMs = 60_000
const settleWithinMs = 30_000

export async function runSuccession(
  failures: number,
  seed: number,
  say: (line: string) => void,
  options: FaultyVmOptions = {},
): Promise<SuccessionReport> {
  const prng = new Prng(seed)
  const vm = await FaultyVm.create(say, { ...options, automatic: true })
  const load = new MixedLoad(vm.port, seed, (text) => vm.type(text), say)
  const pauses: number[] = []
  const restored: number[] = []
  const sinceFailures: number[] = []
  const stalls: Record<FailureKind, number[]> = { kill: [], pause: [], cut: [] }
  let done = 0
  let twoLive = 0
  let unclean = 0
  let copiesDiffer: number | undefined
  let failure: string | undefined
  try {
    await vm.ensureProtected()
    await load.adopt()
    await load.start()
    await sleep(1000)
    for (; done < failures; done++) {
      const [kind, role] = [kinds[prng.below(kinds.length)]!, roles[prng.below(roles.length)]!]
      await sleep(200 + prng.below(1500))
      const { pid } = await vm.replicaIn(role)
      const began = vm.restorations().length
      load.startMeasuring()
      const failedAt = performance.now()
      if (kind === 'cut') await vm.fault('backup', { kind: 'cutChannel', direction: 'both' })
      else await vm.signal(role, kind === 'kill' ? 'SIGKILL' : 'SIGSTOP')
      const primary = await protectedAgain(vm, began)
      const sinceFailureMs = performance.now() - failedAt
      const tookMs = vm.restorations().at(-1)!
      restored.push(tookMs)
      sinceFailures.push(sinceFailureMs)
      if (primary.copyPauseMs !== undefined) pauses.push(primary.copyPauseMs)
      if (kind === 'pause') await wakes(vm, pid)
      const stallMs = load.findings.longestStallMs
      stalls[kind].push(stallMs)
      if ((await vm.statuses()).filter((status) => status.role === 'primary').length > 1) twoLive++
      say(
        `${done + 1}: ${kind} ${role}: protected again after ${tookMs} ms (${Math.round(sinceFailureMs)} ms since it failed), the guest stood for ${primary.copyPauseMs?.toFixed(1)} ms, longest stall ${Math.round(stallMs)} ms, generation ${primary.generation}, ${load.acknowledgedIncrements} increments`,
      )
      if (load.findings.resets > 0) throw new Error('a connection ended')
      copiesDiffer = await vm.copiesDiffer()
      if (copiesDiffer) throw new Error('the backup has another disk than its primary')
    }
    const goal = load.acknowledgedIncrements + 20
    for (const until = performance.now() + settleWithinMs; load.acknowledgedIncrements < goal; await sleep(50)) {
      if (performance.now() > until) throw new Error(`nothing was answered for ${settleWithinMs / 1000} s`)
    }
    await load.stop(settleWithinMs)
    await load.verify()
    load.judgeConsole(vm.consoleText())
    const wrong = await vm.powerOffAndCheck()
    if (wrong !== undefined) {
      say(wrong)
      say(`the traces are kept in ${vm.statePath}`)
      unclean = 1
    }
  } catch (error) {
    failure = (error as Error).message
    say((error as Error).stack ?? failure)
    load.closeConnections()
    say(`the traces are kept in ${vm.statePath}`)
  }
  const { lost, duplicated, resets } = load.findings
  const divergences = vm.divergences()
  await vm.remove(failure !== undefined || unclean > 0)
  return {
    failures: done,
    lost,
    duplicated,
    resets,
    divergences,
    two_live: twoLive,
    unclean_filesystems: unclean,
    ...(copiesDiffer === undefined ? {} : { copies_differ: copiesDiffer }),
    pause_ms: spreadOf(pauses),
    protected_again_ms: spreadOf(restored),
    since_failure_ms: spreadOf(sinceFailures),
    longest_stall_ms: Object.fromEntries(
      kinds.flatMap((kind) => (stalls[kind].length > 0 ? [[kind, spreadOf(stalls[kind])]] : [])),
    ),
    ...(failure === undefined ? {} : { failure }),
  }
}

/** @returns the primary, as soon as it has told of one restoration more */
async function protectedAgain(vm: FaultyVm, restorationsBefore: number): Promise<ReplicaStatus> {
  for (const until = performance.now() + protectedWithinMs; ; await sleep(50)) {
    const primary = (await vm.statuses()).find(({ isProtected }) => isProtected)
    if (primary && vm.restorations().length > restorationsBefore) return primary
    if (performance.now() > until) {
      const states = (await vm.statuses()).map(({ name, role, state }) => `${name} ${role} ${state}`).join(', ')
      throw new Error(`not protected again within ${protectedWithinMs / 1000} s: ${states}`)
    }
  }
}

/** A frozen replica whose place another has taken was ended before; one that was not finds out when it wakes, and ends. */
async function wakes(vm: FaultyVm, pid: number): Promise<void> {
  if (isAlive(pid)) process.kill(pid, 'SIGCONT')
  for (const until = performance.now() + settleWithinMs; isAlive(pid); await sleep(20)) {
    if (performance.now() > until) throw new Error(`process ${pid} woke, and did not end: ${vm.statePath}`)
  }
}

function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (index: number): number => Math.round((sorted[index] ?? 0) * 10) / 10
  return { median: at(Math.floor(sorted.length / 2)), max: at(sorted.length - 1) }
}
