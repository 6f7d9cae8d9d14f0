/**
 * A protected VM as local processes: disk server, LAN, primary and backup. `up` starts them and leaves; everything it
 * needs to find them again is in the VM's folder.
 */

import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { ExitCode, WorldError } from '../base/assert.ts'
import { defaultCacheFolder } from '../guest/guest-builder.ts'
import { ensureHostTool } from '../guest/host-tools.ts'
import { machineConfig, readBootImage } from './boot-files.ts'
import { type StartedProcess, startProcess } from './child-process.ts'
import { ask } from './control.ts'
import type { DiskServerReady, DiskServerSettings } from './processes/disk-server.ts'
import type { LanReady, LanSettings } from './processes/lan.ts'
import type { MonitorReady, MonitorSettings } from './processes/monitor.ts'
import type { ReplicaProcessSettings, ReplicaReady } from './processes/replica.ts'
import type { ReplicaSettings } from './replica.ts'
import type { ReplicaStatus } from './replica-status.ts'
import { readVmConfig, type VmConfig } from './vm-config.ts'
import { isAlive, type ReplicaName, type RunRecord, replicaNames, VmFolder } from './vm-folder.ts'

export type Protection = 'protected' | 'not protected' | 'not running'

export interface PairStatus {
  readonly name: string
  readonly protection: Protection
  readonly replicas: readonly (ReplicaStatus & { readonly detail: string })[]
}

export interface UpOptions {
  readonly protect: boolean
  readonly onProgress: (text: string) => void
}

const protectedWithinMs = 30_000

/** The processes around the replicas; 0 where the VM has none. */
type SurroundingPids = Pick<RunRecord, 'diskServerPid' | 'lanPid' | 'monitorPid'>

function surroundings({ lanPid, diskServerPid, monitorPid }: RunRecord): number[] {
  return [lanPid, diskServerPid, monitorPid]
}

/** Starts disk server, LAN and monitor of a VM; what `run` and `up` have in common. */
export async function startSurroundings(
  config: VmConfig,
  folder: VmFolder,
  onProgress: (text: string) => void,
): Promise<{
  readonly replica: Omit<ReplicaSettings, 'vmPath' | 'replica' | 'role'>
  readonly pids: SurroundingPids
}> {
  const pids = { diskServerPid: 0, lanPid: 0, monitorPid: 0 }
  try {
    const token = machineToken(folder)
    onProgress('disk server')
    const disk = await startProcess<DiskServerReady>(
      'disk-server',
      {
        machine: config.name,
        token,
        disks: config.disks,
        recordFolder: folder.file('arbiter'),
        controlPath: folder.controlPath('disk'),
      } satisfies DiskServerSettings,
      folder.tracePath('disk'),
    )
    pids.diskServerPid = disk.pid
    const lanSocketPath = folder.file('lan.socket')
    if (config.network) {
      onProgress('network')
      const passtPath = await ensureHostTool('passt', defaultCacheFolder(), ({ detail }) => onProgress(detail))
      const lan: StartedProcess<LanReady> = await startProcess(
        'lan',
        {
          machine: config.name,
          mac: config.network.mac,
          token,
          replicaSocketPath: lanSocketPath,
          controlPath: folder.controlPath('lan'),
          gateway: {
            passtPath,
            guestAddress: config.network.address,
            gatewayAddress: config.network.gateway,
            forwards: config.forwards,
          },
        } satisfies LanSettings,
        folder.tracePath('lan'),
      )
      pids.lanPid = lan.pid
    }
    if (config.metrics) {
      onProgress('metrics')
      const settings: MonitorSettings = { folderPath: folder.path, listen: config.metrics.listen }
      pids.monitorPid = (await startProcess<MonitorReady>('monitor', settings, folder.tracePath('monitor'))).pid
    }
    const replica = {
      token,
      runId: randomBytes(8).readBigUInt64LE(),
      nbdPort: disk.ready.nbdPort,
      arbiterPort: disk.ready.arbiterPort,
      ...(config.network ? { lanSocketPath } : {}),
      folderPath: folder.path,
    }
    return { replica, pids }
  } catch (error) {
    endProcesses(Object.values(pids))
    throw error
  }
}

/** The secret that this machine's replicas, disk server and switch share. */
function machineToken(folder: VmFolder): string {
  const path = folder.file('token')
  if (!existsSync(path)) writeFileSync(path, randomBytes(24).toString('base64url'), { mode: 0o600 })
  return readFileSync(path, 'utf8')
}

export function endProcesses(pids: readonly number[]): void {
  for (const pid of pids) {
    if (pid > 0 && isAlive(pid)) process.kill(pid, 'SIGKILL')
  }
}

/** @throws WorldError when the VM runs already; sweeps up after a run whose processes are all gone */
export function requireNotRunning(folder: VmFolder): void {
  const run = folder.readRun()
  if (!run) return
  const pids = [...surroundings(run), ...replicaNames.map((name) => run.replicas[name].pid)]
  const alive = pids.filter((pid) => pid > 0 && isAlive(pid))
  if (alive.length > 0) {
    throw new WorldError(
      'already-running',
      `VM ${folder.name} is running (processes ${alive.join(', ')}): end it with "understudy down"`,
      ExitCode.wrongState,
    )
  }
  folder.clearRun()
}

/**
 * Starts a VM and waits until it is protected (or running, with `protect` false).
 * @throws WorldError with one line; nothing stays behind then
 */
export async function bringUp(vm: string, options: UpOptions): Promise<PairStatus> {
  const { config, path } = readVmConfig(vm)
  machineConfig(config)
  readBootImage(config)
  const folder = new VmFolder(config.name)
  folder.create()
  requireNotRunning(folder)
  folder.clearRun()
  const { replica, pids } = await startSurroundings(config, folder, options.onProgress)
  const started = Object.values(pids)
  const settings = (name: ReplicaName, role: ReplicaSettings['role']): ReplicaProcessSettings => ({
    ...replica,
    vmPath: path,
    replica: name,
    role,
    controlPath: folder.controlPath(name),
    consolePath: folder.consolePath(name),
  })
  try {
    options.onProgress('primary')
    const primary = await startProcess<ReplicaReady>(
      'replica',
      settings('a', options.protect ? 'primary' : 'alone'),
      folder.tracePath('a'),
    )
    started.push(primary.pid)
    let backupPid = 0
    if (options.protect) {
      options.onProgress('backup')
      const backup = { ...settings('b', 'backup'), primaryPort: primary.ready.channelPort! }
      backupPid = (await startProcess<ReplicaReady>('replica', backup, folder.tracePath('b'))).pid
      started.push(backupPid)
    }
    folder.writeRun({
      vmPath: path,
      ...pids,
      replicas: { a: { pid: primary.pid }, b: { pid: backupPid } },
    })
    return await waitUntilUp(vm, options)
  } catch (error) {
    endProcesses(started)
    folder.clearRun()
    throw error
  }
}

async function waitUntilUp(vm: string, options: UpOptions): Promise<PairStatus> {
  const wanted: Protection = options.protect ? 'protected' : 'not protected'
  const deadline = performance.now() + protectedWithinMs
  for (;;) {
    const status = await pairStatus(vm)
    if (status.protection === wanted && status.replicas.some(({ instructions }) => instructions > 0)) return status
    if (performance.now() > deadline || status.protection === 'not running') {
      throw new WorldError(
        'not-protected',
        `VM ${status.name} did not become ${wanted} within ${protectedWithinMs / 1000} s; see its traces`,
        ExitCode.timedOut,
      )
    }
    await sleep(20)
  }
}

/** @throws WorldError `no-such-vm` */
export async function pairStatus(vm: string): Promise<PairStatus> {
  const { config } = readVmConfig(vm)
  return statusOf(new VmFolder(config.name))
}

/** How the VM in this folder is doing. A replica that does not answer within `timeoutMs` counts as gone. */
export async function statusOf(folder: VmFolder, timeoutMs = 5000): Promise<PairStatus> {
  const asked = replicaNames.map((name) => ask<ReplicaStatus>(folder.controlPath(name), 'status', {}, timeoutMs))
  const answers = (await Promise.all(asked)).filter((status) => status !== undefined)
  const replicas = answers.map((status) => ({ ...status, detail: describe(status) }))
  const primary = replicas.find(({ role }) => role === 'primary')
  const protection = !primary ? 'not running' : primary.isProtected ? 'protected' : 'not protected'
  return { name: folder.name, protection, replicas }
}

function describe(status: ReplicaStatus): string {
  const parts = [`generation ${status.generation}`, `${(status.instructions / 1e6).toFixed(0)} M instructions`]
  if (status.lagMs !== undefined) parts.push(`lag ${status.lagMs.toFixed(0)} ms`)
  if (status.isOff) parts.push('guest is off')
  if (status.haltReason) parts.push(status.haltReason)
  return parts.join(', ')
}

/**
 * SIGKILL to the replica in that role.
 * @throws WorldError when there is none
 */
export async function failReplica(vm: string, role: 'primary' | 'backup'): Promise<ReplicaStatus> {
  const { config } = readVmConfig(vm)
  new VmFolder(config.name).requireRun()
  const victim = (await pairStatus(vm)).replicas.find((replica) => replica.role === role)
  if (!victim) throw new WorldError('no-such-replica', `VM ${config.name} has no ${role} now`, ExitCode.wrongState)
  process.kill(victim.pid, 'SIGKILL')
  return victim
}

/** Ends every process of a VM: the primary first, whose goodbye ends the backup too, then LAN and disk. */
export async function takeDown(vm: string): Promise<void> {
  const { config } = readVmConfig(vm)
  const folder = new VmFolder(config.name)
  const run: RunRecord = folder.requireRun()
  const { replicas } = await pairStatus(vm)
  const primaryFirst = [...replicas].sort((x, y) => Number(y.role === 'primary') - Number(x.role === 'primary'))
  for (const { name } of primaryFirst) await ask(folder.controlPath(name), 'stop')
  await waitForEnd(replicaNames.map((name) => run.replicas[name].pid))
  await endSurroundings(folder)
  await waitForEnd(surroundings(run))
}

/** Ends what stands around the replicas, after the last of them: `down` does, and a guest that powers itself off. */
export async function endSurroundings(folder: VmFolder): Promise<void> {
  await ask(folder.controlPath('monitor'), 'stop')
  await ask(folder.controlPath('lan'), 'stop')
  await ask(folder.controlPath('disk'), 'stop')
  folder.clearRun()
}

const orderlyEndMs = 5000

/** Waits until these processes have ended; kills those that do not. */
export async function waitForEnd(pids: readonly number[]): Promise<void> {
  const running = (): number[] => pids.filter((pid) => pid > 0 && isAlive(pid))
  const deadline = performance.now() + orderlyEndMs
  while (running().length > 0 && performance.now() < deadline) await sleep(20)
  endProcesses(running())
}
