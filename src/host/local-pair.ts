/**
 * A protected VM as local processes: disk server, LAN, primary and backup. `up` starts them and leaves; everything it
 * needs to find them again is in the VM's folder.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { ExitCode, WorldError } from '../base/assert.ts'
import { describeDiscipline } from '../log/discipline.ts'
import { checkDiskImages, readBootImage } from './boot-files.ts'
import { type StartProcess, startProcess } from './child-process.ts'
import { ask } from './control.ts'
import { CopyStamp } from './copy-stamp.ts'
import type { ReplicaProcessSettings } from './replica-process.ts'
import type { ReplicaSettings } from './replica-settings.ts'
import type { ReplicaStatus } from './replica-status.ts'
import { endProcesses, startDiskServerProcess, startLanProcess, startSurroundings } from './surroundings.ts'
import { findVmFolder } from './vm-argument.ts'
import { readVmConfig, type VmConfig } from './vm-config.ts'
import { isAlive, type ReplicaName, type RunRecord, replicaNames, replicaPids, VmFolder } from './vm-folder.ts'
import { VmSession } from './vm-session.ts'

/** `elsewhere`: this host has disk server or switch of the VM, and no replica. */
export type Protection = 'protected' | 'not protected' | 'not running' | 'elsewhere'

/** A process of the VM that is no replica. */
export interface OtherStatus {
  readonly name: 'disk' | 'lan' | 'monitor'
  readonly pid: number
}

const otherNames: readonly OtherStatus['name'][] = ['disk', 'lan', 'monitor']

export interface PairStatus {
  readonly name: string
  readonly protection: Protection
  readonly replicas: readonly (ReplicaStatus & { readonly detail: string })[]
  /** What else of the VM runs on this host. */
  readonly others: readonly OtherStatus[]
}

export interface UpOptions {
  readonly protect: boolean
  readonly onProgress: (text: string) => void
}

const protectedWithinMs = 30_000

/** Every process of the VM on this host; 0 where there is none. */
export function processesOf(run: RunRecord): number[] {
  return [...surroundings(run), ...replicaPids(run), ...run.former]
}

function surroundings({ lanPid, diskServerPid, monitorPid }: RunRecord): number[] {
  return [lanPid, diskServerPid, monitorPid]
}

/** @throws WorldError when the VM runs already; sweeps up after a run whose processes are all gone */
export function requireNotRunning(folder: VmFolder): void {
  const run = folder.readRun()
  if (!run) return
  const alive = processesOf(run).filter((pid) => pid > 0 && isAlive(pid))
  if (alive.length > 0) {
    throw new WorldError(
      'already-running',
      `VM ${folder.name} is running (processes ${alive.join(', ')}): end it with "understudy down"`,
      ExitCode.wrongState,
    )
  }
  folder.clearRun()
}

/** @throws WorldError when a process that `up` did not start has its place in the folder: `replica`, say */
export async function requireNobodyHere(folder: VmFolder): Promise<void> {
  const { replicas, others } = await statusOf(folder)
  const pids = [...replicas, ...others].map(({ pid }) => pid)
  if (pids.length === 0) return
  throw new WorldError(
    'already-running',
    `processes of VM ${folder.name} run on this host already (${pids.join(', ')}): end them with "understudy down"`,
    ExitCode.wrongState,
  )
}

/**
 * Ends disk server, LAN and monitor of a run whose replicas are both gone, as after a guest's power-off or a double failure: the
 * next start brings its own. Process ids are not trusted here, for another process may have them by now: who answers on
 * the control sockets is asked to end.
 */
async function sweepUp(folder: VmFolder): Promise<void> {
  const run = folder.readRun()
  if (!run) return
  for (const name of replicaNames) if (await ask(folder.controlPath(name), 'status')) return
  const left: number[] = []
  for (const name of ['monitor', 'lan', 'disk'] as const) {
    const status = await ask<{ pid: number }>(folder.controlPath(name), 'status')
    if (!status) continue
    left.push(status.pid)
    await ask(folder.controlPath(name), 'stop')
  }
  await waitForEnd(left)
}

/**
 * Starts a VM and waits until it is protected (or running, with `protect` false).
 * @throws WorldError with one line; nothing stays behind then
 */
export async function bringUp(vm: string, options: UpOptions): Promise<PairStatus> {
  const { config, path } = readVmConfig(vm)
  checkDiskImages(config)
  readBootImage(config)
  const folder = new VmFolder(config.name)
  folder.create()
  await sweepUp(folder)
  requireNotRunning(folder)
  await requireNobodyHere(folder)
  folder.clearRun()
  const session = new VmSession()
  try {
    return await startPair({ vm, path, config, folder, start: session.start, ...options })
  } finally {
    session.end()
  }
}

interface PairParts extends UpOptions {
  readonly vm: string
  /** Of the VM file. */
  readonly path: string
  readonly config: VmConfig
  readonly folder: VmFolder
  readonly start: StartProcess
}

async function startPair({ vm, path, config, folder, start, protect, onProgress }: PairParts): Promise<PairStatus> {
  const [first, ...others] = inOrderOfCopies(config, folder)
  const { replica, pids } = await startSurroundings(config, folder, start, onProgress)
  const started = Object.values(pids)
  const settings = (name: ReplicaName, role: ReplicaSettings['role']): ReplicaProcessSettings => ({
    ...replica,
    vmPath: path,
    replica: name,
    role,
    listen: folder.channelEndpoint(name),
    ...(role === 'backup' ? { primaries: [folder.channelEndpoint(first)] } : {}),
    holderHasEnded: true,
    controlPath: folder.controlPath(name),
    consolePath: folder.consolePath(name),
  })
  const replicas: Partial<Record<ReplicaName, { pid: number }>> = {}
  const startReplica = async (name: ReplicaName, role: ReplicaSettings['role']): Promise<void> => {
    onProgress(role === 'backup' ? `backup ${name}` : 'primary')
    const { pid } = await start<void>('replica', settings(name, role), folder.tracePath(name))
    started.push(pid)
    replicas[name] = { pid }
  }
  const backups = protect ? config.protection.backups : 0
  try {
    await startReplica(first, backups > 0 ? 'primary' : 'alone')
    for (const name of others.slice(0, backups)) await startReplica(name, 'backup')
    folder.writeRun({
      vmPath: path,
      ...pids,
      replicas,
      former: [],
      wantsBackup: backups > 0 && config.protection.automatic,
    })
    return await waitUntilUp(vm, backups > 0)
  } catch (error) {
    endProcesses(started)
    folder.clearRun()
    throw error
  }
}

/**
 * The replicas' names, the one that begins as the primary first. Of disks that are not shared, who was live last has the
 * good copies; what the arbiter says of that is checked when it starts.
 */
export function inOrderOfCopies({ disks }: VmConfig, folder: VmFolder): readonly [ReplicaName, ...ReplicaName[]] {
  if (!disks.some(({ isOwn }) => isOwn)) return replicaNames
  const liveIn = (name: ReplicaName): number => {
    const state = CopyStamp.of(folder.path, name).read()
    return state?.state === 'live' ? state.generation : 0
  }
  return liveIn('b') > liveIn('a') ? ['b', 'a'] : ['a', 'b']
}

async function waitUntilUp(vm: string, isToBeProtected: boolean): Promise<PairStatus> {
  const wanted: Protection = isToBeProtected ? 'protected' : 'not protected'
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
  return statusOf(findVmFolder(vm))
}

/** How the VM in this folder is doing. A replica that does not answer within `timeoutMs` counts as gone. */
export async function statusOf(folder: VmFolder, timeoutMs = 5000): Promise<PairStatus> {
  const asked = replicaNames.map((name) => ask<ReplicaStatus>(folder.controlPath(name), 'status', {}, timeoutMs))
  const answers = (await Promise.all(asked)).filter((status) => status !== undefined)
  const replicas = answers.map((status) => ({ ...status, detail: describe(status) }))
  const surrounding = otherNames.map(async (name) => {
    const status = await ask<{ pid: number }>(folder.controlPath(name), 'status', {}, timeoutMs)
    return status && { name, pid: status.pid }
  })
  const others = (await Promise.all(surrounding)).filter((other) => other !== undefined)
  return { name: folder.name, protection: protectionOf(folder, replicas, others), replicas, others }
}

/** As far as this host knows: a backup whose primary is on another host knows whether the arbiter lists it. */
function protectionOf(
  folder: VmFolder,
  replicas: readonly ReplicaStatus[],
  others: readonly OtherStatus[],
): Protection {
  const primary = replicas.find(({ role }) => role === 'primary')
  if (primary) return primary.isProtected ? 'protected' : 'not protected'
  // Of `up` all replicas are here.
  if (folder.readRun()) return 'not running'
  const backup = replicas.find(({ role }) => role === 'backup')
  if (backup) return backup.isListed ? 'protected' : 'not protected'
  return others.some(({ name }) => name !== 'monitor') ? 'elsewhere' : 'not running'
}

function describe(status: ReplicaStatus): string {
  const parts = [`generation ${status.generation}`, `${(status.instructions / 1e6).toFixed(0)} M instructions`]
  if (status.discipline?.kind === 'epoch') parts.push(describeDiscipline(status.discipline))
  if (status.backups.length > 1) parts.push(`${status.backups.filter(({ isListed }) => isListed).length} backups`)
  if (status.lagMs !== undefined) parts.push(`lag ${status.lagMs.toFixed(0)} ms`)
  if (!status.reach.disk) parts.push('does not reach the disk server')
  if (!status.reach.lan) parts.push('does not reach the LAN')
  if (status.transfer) parts.push(`replica ${status.transfer.replica} gets the machine`)
  else if (status.role === 'primary' && status.keeper?.doing !== undefined) parts.push(status.keeper.doing)
  if (status.isOff) parts.push('guest is off')
  if (status.haltReason) parts.push(status.haltReason)
  return parts.join(', ')
}

/**
 * SIGKILL to the replica in that role.
 * @throws WorldError when there is none
 */
export async function failReplica(vm: string, role: 'primary' | 'backup'): Promise<ReplicaStatus> {
  const folder = findVmFolder(vm)
  await requireRunning(folder)
  const victim = (await statusOf(folder)).replicas.find((replica) => replica.role === role)
  if (!victim) {
    throw new WorldError('no-such-replica', `VM ${folder.name} has no ${role} on this host now`, ExitCode.wrongState)
  }
  process.kill(victim.pid, 'SIGKILL')
  return victim
}

export interface Repair {
  readonly diskServer: boolean
  readonly lan: boolean
}

/**
 * Starts disk server and LAN again if they have died, at the same place and with the same settings: the replicas, which
 * have been looking for them, go on. Connections through a LAN that died are gone; the guest's disk was only slow.
 * @returns what it started
 */
export async function repairVm(vm: string): Promise<Repair> {
  const { config } = readVmConfig(vm)
  const folder = new VmFolder(config.name)
  let run = folder.requireRun()
  const diskServer = await hasEnded(folder.controlPath('disk'), run.diskServerPid)
  if (diskServer) {
    const { pid } = await startDiskServerProcess(config, folder, startProcess)
    run = { ...run, diskServerPid: pid }
    folder.writeRun(run)
  }
  const lan = run.lanPid > 0 && (await hasEnded(folder.controlPath('lan'), run.lanPid))
  if (lan) folder.writeRun({ ...run, lanPid: (await startLanProcess(config, folder, startProcess, () => {})).pid })
  return { diskServer, lan }
}

/** A killed process is there for a moment longer, but answers nothing: it is waited for. A frozen one has not ended. */
async function hasEnded(controlPath: string, pid: number): Promise<boolean> {
  const deadline = performance.now() + orderlyEndMs
  while (isAlive(pid)) {
    if (performance.now() > deadline || (await ask(controlPath, 'status', {}, orderlyEndMs))) return false
    await sleep(20)
  }
  return true
}

/**
 * Ends every process that a VM has on this host: the primary first, whose goodbye ends the backup too, wherever that is,
 * then LAN and disk.
 */
export async function takeDown(vm: string): Promise<void> {
  const folder = findVmFolder(vm)
  await requireRunning(folder)
  const run = folder.readRun()
  // Nobody starts another backup now.
  if (run) folder.writeRun({ ...run, wantsBackup: false })
  const { replicas, others } = await statusOf(folder)
  const primaryFirst = [...replicas].sort((x, y) => Number(y.role === 'primary') - Number(x.role === 'primary'))
  for (const { name } of primaryFirst) await ask(folder.controlPath(name), 'stop')
  const recorded = run ? [...replicaPids(run), ...run.former] : []
  await waitForEnd([...replicas.map(({ pid }) => pid), ...recorded])
  await endSurroundings(folder)
  await waitForEnd([...others.map(({ pid }) => pid), ...(run ? surroundings(run) : [])])
}

/** @throws WorldError `not-running`: `up` started nothing, and nobody answers */
export async function requireRunning(folder: VmFolder): Promise<void> {
  if (folder.readRun()) return
  const { replicas, others } = await statusOf(folder)
  if (replicas.length + others.length === 0) folder.requireRun()
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
