/**
 * `understudy demo`: a Debian guest with Redis outlives its primary, shown and measured. Builds the guest, starts the
 * pair, keeps one client connection busy, kills the primary at a random moment, and checks that the client could not tell.
 */

import { randomInt } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ExitCode, WorldError } from '../base/assert.ts'
import type { GuestProgress } from '../guest/guest-progress.ts'
import type { Discipline } from '../log/discipline.ts'
import type { BytesByCause } from '../log/entry.ts'
import type { DiskBus } from '../machine/types.ts'
import { bringUp, failReplica, pairStatus, takeDown } from './local-pair.ts'
import { IncrementLoad, RedisConnection, waitForRedis } from './redis-load.ts'
import { freePort, readyGuest, writeVmOf } from './redis-vm.ts'
import { nowMs } from './replica-status.ts'
import { VmFolder } from './vm-folder.ts'

export interface DemoOptions {
  /** A guest that is already built; by default one is built (or found in the cache). */
  readonly guestFolder?: string
  /** Default: exact. */
  readonly discipline?: Discipline
  /** What the root disk is on; default: virtio-blk. */
  readonly bus?: DiskBus
  readonly onStep: (text: string) => void
  readonly onGuestProgress: (progress: GuestProgress) => void
}

/** The longest pause of the client that the demo accepts. */
const longestStallMs = 1000

export interface DemoReport {
  readonly connections_reset: number
  readonly acknowledged: number
  readonly acknowledged_before_kill: number
  readonly lost: number
  readonly duplicated: number
  readonly stall_ms: number
  readonly failover_ms: number
  readonly failover: {
    readonly detection_ms: number
    readonly arbitration_ms: number
    readonly replay_ms: number
    readonly first_output_ms: number
  }
  readonly divergences: number
  readonly digest_checks: number
  readonly boot_ms: number
  readonly log_bytes_by_cause: BytesByCause
}

const bootWithinMs = 180_000
const demoName = `demo-${process.pid}`
const demoKey = 'understudy-demo'

export async function runDemo(options: DemoOptions): Promise<DemoReport> {
  const { onStep } = options
  const folder = mkdtempSync(join(tmpdir(), 'understudy-demo-'))
  try {
    const guest = await readyGuest(options, 'demo-guest', options.onGuestProgress)
    const port = await freePort()
    const { discipline, bus } = options
    const choices = { ...(discipline && { discipline }), ...(bus && { bus }) }
    const vm = await writeVmOf(guest, folder, demoName, port, choices)
    onStep('starting disk server, LAN, primary and backup')
    const startedAt = performance.now()
    await bringUp(vm, { protect: true, onProgress: () => {} })
    try {
      onStep('booting Debian on both replicas')
      await waitForRedis(port, bootWithinMs, async () => (await pairStatus(vm)).protection !== 'not running')
      const bootMs = performance.now() - startedAt
      onStep(`Redis answers after ${(bootMs / 1000).toFixed(1)} s; one connection starts to INCR`)
      return await failUnderLoad(vm, port, bootMs, onStep)
    } finally {
      await takeDown(vm)
      new VmFolder(demoName).remove()
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

async function failUnderLoad(
  vm: string,
  port: number,
  bootMs: number,
  onStep: (text: string) => void,
): Promise<DemoReport> {
  const load = await IncrementLoad.start(port, demoKey)
  await sleep(2000 + randomInt(2000))
  const before = await pairStatus(vm)
  load.startMeasuring()
  const acknowledgedBeforeKill = load.acknowledged
  const killedAt = nowMs()
  const victim = await failReplica(vm, 'primary')
  onStep(`killed the primary (pid ${victim.pid}) after ${acknowledgedBeforeKill} acknowledged INCRs`)
  await sleep(3000)
  const report = await load.stop(5000)
  const after = await pairStatus(vm)
  const survivor = after.replicas.find(({ role }) => role === 'primary')
  if (!survivor?.failover) {
    throw new WorldError('no-failover', 'the backup did not take over: see its trace', ExitCode.failure)
  }
  const final = await readCounter(port)
  const { failover } = survivor
  const firstOutputAt = failover.firstOutputAt ?? Number.NaN
  return {
    connections_reset: report.connectionsReset,
    acknowledged: report.acknowledged,
    acknowledged_before_kill: acknowledgedBeforeKill,
    lost: report.wentBack + Math.max(0, report.acknowledged - final),
    duplicated: report.skipped + Math.max(0, final - report.acknowledged),
    stall_ms: round(report.longestStallMs),
    failover_ms: round(firstOutputAt - killedAt),
    failover: {
      detection_ms: round(failover.detectedAt - killedAt),
      arbitration_ms: round(failover.arbitratedAt - failover.detectedAt),
      replay_ms: round(failover.replayedAt - failover.arbitratedAt),
      first_output_ms: round(firstOutputAt - failover.replayedAt),
    },
    divergences: Math.max(...[...before.replicas, ...after.replicas].map(({ divergences }) => divergences)),
    digest_checks: survivor.digestChecks,
    boot_ms: round(bootMs),
    log_bytes_by_cause: before.replicas.find(({ role }) => role === 'primary')!.logBytesByCause,
  }
}

async function readCounter(port: number): Promise<number> {
  const connection = await RedisConnection.connect(port)
  try {
    // INCRBY 0 answers the value on one line.
    const answer = await connection.command(`INCRBY ${demoKey} 0`)
    return Number(answer?.slice(1))
  } finally {
    connection.close()
  }
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10
}

/** The client of the killed primary noticed nothing but a pause. */
export function isUndisturbed(report: DemoReport): boolean {
  return (
    report.connections_reset === 0 &&
    report.lost === 0 &&
    report.duplicated === 0 &&
    report.divergences === 0 &&
    report.digest_checks > 0 &&
    report.acknowledged > report.acknowledged_before_kill &&
    report.acknowledged_before_kill > 0 &&
    Number.isFinite(report.failover_ms)
  )
}

/** What the demo promises: exit code 0 only if all of it holds, and the pause was short. */
export function demoHolds(report: DemoReport): boolean {
  return isUndisturbed(report) && report.stall_ms <= longestStallMs
}
