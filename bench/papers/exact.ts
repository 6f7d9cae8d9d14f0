/**
 * VMware FT's table 1 on our machine: what a guest does in a second when it is protected, by what it does when it is not, and
 * how many bits a second go to the backup for it. A Debian guest, real processes; both VMs work in turns.
 *
 * Clients are on this host too, and so are both replicas: with fewer cores than the pair and its clients want, the ratio of
 * wall time has in it what they take from each other. Beside it stands what a second of the primary hart's CPU time does.
 *
 * Idle: nobody does anything. CPU: awk and sha256sum in memory. Compile: gcc -O1, source and result in memory; warm: gcc is in
 * the guest's page cache; cold: it was dropped before, so all of it comes from the disk, and goes to the backup, unless the
 * backup reads the disk itself (`protection.backupReads`). Database:
 * redis-benchmark with 32 connections, and with one for the latency that protection adds.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import type { BenchVm } from '../support/bench-vm.ts'
import { modes } from '../support/bench-vm.ts'
import { cpuWorkScript, shortWarmUp, warmUpCpuWork } from '../support/cpu-work.ts'
import { runRedisBenchmark } from '../support/redis-benchmark.ts'
import { inTurns } from '../support/turns.ts'
import { type ExactRow, exactReport, latencyName, rowName } from './exact-report.ts'
import { addCost, costOf, type MeasuredCost } from './measured-cost.ts'
import type { Part, Session } from './part.ts'

const databaseClients = 32
const dropCaches = 'sync; echo 3 >/proc/sys/vm/drop_caches'

const settleMs = 3000

/** How much of each. */
interface Amounts {
  readonly idleSeconds: number
  readonly cpuSeconds: number
  readonly compiles: number
  readonly requests: number
  readonly singleRequests: number
}

const full: Amounts = { idleSeconds: 15, cpuSeconds: 8, compiles: 2, requests: 5000, singleRequests: 500 }
const quick: Amounts = { idleSeconds: 6, cpuSeconds: 3, compiles: 1, requests: 2000, singleRequests: 300 }

/** What a VM is told once: its data is in memory then, and its code translated. */
interface Prepared {
  readonly unitSeconds: number
}

/** Once for each VM: its source is in memory then. */
async function prepareCompiler(vm: BenchVm): Promise<void> {
  if (hasSource.has(vm)) return
  hasSource.add(vm)
  vm.type('sh /work.sh prepare')
  await vm.shows(/@@end prepare ok/)
}

const hasSource = new WeakSet<BenchVm>()
const prepared = new WeakMap<BenchVm, Promise<Prepared>>()

function prepare(vm: BenchVm, { isQuick, say }: Session): Promise<Prepared> {
  const begun = prepared.get(vm)
  if (begun) return begun
  const work = async (): Promise<Prepared> => {
    say(`  ${vm.mode}: preparing`)
    await prepareCompiler(vm)
    vm.type(cpuWorkScript)
    const unitSeconds = await warmUpCpuWork(vm, say, isQuick ? { least: 1, most: 2 } : shortWarmUp)
    await runRedisBenchmark(vm.port, ['set', 'get'], databaseClients, 1000)
    return { unitSeconds }
  }
  const working = work()
  prepared.set(vm, working)
  return working
}

/** So many compilations, each from the state of the caches that `before` leaves. */
async function compile(vm: BenchVm, times: number, before?: string): Promise<MeasuredCost> {
  return await costOf(vm, async () => {
    const total = { wall: 0, hart: 0, all: 0 }
    for (let time = 0; time < times; time++) {
      if (before) await vm.run(before)
      const { wall, hart, all } = await vm.time('sh /work.sh compile')
      total.wall += wall
      total.hart += hart
      total.all += all
    }
    return { amount: times, cost: total }
  })
}

/** What was written before is on the disk by then: a guest's write-back is not idling. */
async function idle(vm: BenchVm, seconds: number): Promise<MeasuredCost> {
  await vm.run('sync')
  await sleep(settleMs)
  return await costOf(vm, async () => {
    await sleep(seconds * 1000)
    return { amount: 1 }
  })
}

async function database(vm: BenchVm, requests: number): Promise<MeasuredCost> {
  return await costOf(vm, async () => {
    const done = await runRedisBenchmark(vm.port, ['set', 'get'], databaseClients, requests)
    return { amount: done.requests, seconds: done.seconds }
  })
}

function note({ samples, say }: Session, { mode }: BenchVm, row: ExactRow, cost: MeasuredCost): void {
  addCost(samples, rowName(row), mode, cost)
  const { wall, hart, sentBytes, channelSeconds } = cost
  const kilobits = (sentBytes * 8) / channelSeconds / 1000
  say(`  ${mode}, ${row}: ${wall.toFixed(2)} s, hart ${hart.toFixed(2)} s, log ${kilobits.toFixed(0)} kbit/s`)
}

async function measureMode(session: Session, vm: BenchVm, amounts: Amounts, cpuUnits: number): Promise<void> {
  const { samples, say } = session
  if (vm.mode === 'protected') {
    note(session, vm, 'idle', await idle(vm, amounts.idleSeconds))
  }
  note(
    session,
    vm,
    'cpu',
    await costOf(vm, async () => ({ amount: cpuUnits, cost: await vm.time(`work ${cpuUnits}`) })),
  )
  note(session, vm, 'compile-warm', await compile(vm, amounts.compiles))
  note(session, vm, 'compile-cold', await compile(vm, amounts.compiles, dropCaches))
  note(session, vm, 'database', await database(vm, amounts.requests))
  const { medianMs } = await runRedisBenchmark(vm.port, ['set'], 1, amounts.singleRequests)
  samples.add(`${latencyName}/${vm.mode}`, { medianMs })
  say(`  ${vm.mode}, one client: ${medianMs.toFixed(2)} ms`)
}

/** The same as `compile-cold`, where the backup reads the disk itself. */
async function measureReading(session: Session, amounts: Amounts): Promise<void> {
  const vm = await session.readingVm()
  await prepareCompiler(vm)
  note(session, vm, 'compile-cold-reading', await compile(vm, amounts.compiles, dropCaches))
}

export const exactPart: Part = {
  name: 'exact',
  title: 'VMware FT, table 1: performance and log bandwidth',
  async measure(session, round) {
    const amounts = session.isQuick ? quick : full
    const vms = await session.vms()
    const { unitSeconds } = await prepare(vms.unprotected, session)
    await prepare(vms.protected, session)
    const cpuUnits = Math.ceil(amounts.cpuSeconds / unitSeconds)
    for (const mode of inTurns(modes, round)) await measureMode(session, vms[mode], amounts, cpuUnits)
    await measureReading(session, amounts)
  },
  report: exactReport,
}
