/**
 * What a VM's replicas need around them, as processes that outlive any of them: disk server, LAN, monitor. `run`, `up` and
 * `repair` start them, the first two anew, the last at the place where the replicas look for a dead one.
 */

import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { WorldError } from '../base/assert.ts'
import { defaultCacheFolder } from '../guest/guest-builder.ts'
import { ensureHostTool } from '../guest/host-tools.ts'
import { makeMissingCopies } from './boot-files.ts'
import type { StartedProcess, StartProcess } from './child-process.ts'
import type { DiskServerSettings } from './disk-process.ts'
import type { LanSettings } from './lan-process.ts'
import type { LanReady } from './processes/lan.ts'
import type { MonitorReady, MonitorSettings } from './processes/monitor.ts'
import type { ReplicaSettings } from './replica-settings.ts'
import type { VmConfig } from './vm-config.ts'
import { isAlive, type RunRecord, type VmFolder } from './vm-folder.ts'

/** The processes around the replicas; 0 where the VM has none. */
export type SurroundingPids = Pick<RunRecord, 'diskServerPid' | 'lanPid' | 'monitorPid'>

export interface Surroundings {
  readonly replica: Omit<ReplicaSettings, 'vmPath' | 'replica' | 'role' | 'listen' | 'primaries'>
  readonly pids: SurroundingPids
}

/** Starts disk server, LAN and monitor of a VM. @throws WorldError of one line; nothing stays behind then */
export async function startSurroundings(
  config: VmConfig,
  folder: VmFolder,
  start: StartProcess,
  onProgress: (text: string) => void,
): Promise<Surroundings> {
  const pids = { diskServerPid: 0, lanPid: 0, monitorPid: 0 }
  try {
    onProgress('disk server')
    pids.diskServerPid = (await startDiskServerProcess(config, folder, start)).pid
    const tap = config.network?.tap
    if (config.network && tap === undefined) {
      onProgress('network')
      pids.lanPid = (await startLanProcess(config, folder, start, onProgress)).pid
    }
    if (config.metrics) {
      onProgress('metrics')
      const settings: MonitorSettings = { folderPath: folder.path, listen: config.metrics.listen }
      pids.monitorPid = (await start<MonitorReady>('monitor', settings, folder.tracePath('monitor'))).pid
    }
    const replica = {
      machine: config.name,
      token: machineToken(folder),
      disk: folder.endpoint('disk'),
      arbiter: folder.endpoint('arbiter'),
      ...(config.etcd ? { etcd: config.etcd } : {}),
      ...(pids.lanPid > 0 ? { lan: folder.endpoint('lan') } : {}),
      ...(tap === undefined ? {} : { tap }),
      folderPath: folder.path,
    }
    return { replica, pids }
  } catch (error) {
    endProcesses(Object.values(pids))
    throw error
  }
}

export async function startDiskServerProcess(
  config: VmConfig,
  folder: VmFolder,
  start: StartProcess,
): Promise<StartedProcess<void>> {
  makeMissingCopies(config)
  const settings: DiskServerSettings = {
    machine: config.name,
    token: machineToken(folder),
    disks: config.disks,
    copies: { a: 'path', b: 'copyPath' },
    recordFolder: folder.file('arbiter'),
    controlPath: folder.controlPath('disk'),
    nbd: folder.endpoint('disk'),
    arbiter: folder.endpoint('arbiter'),
    isDecidedElsewhere: config.etcd !== undefined,
  }
  return await start('disk-server', settings, folder.tracePath('disk'))
}

export async function startLanProcess(
  config: VmConfig,
  folder: VmFolder,
  start: StartProcess,
  onProgress: (text: string) => void,
): Promise<StartedProcess<LanReady>> {
  const passtPath = await ensureHostTool('passt', defaultCacheFolder(), ({ detail }) => onProgress(detail))
  const settings: LanSettings = {
    machine: config.name,
    mac: config.network!.mac,
    token: machineToken(folder),
    replicaListen: folder.endpoint('lan'),
    controlPath: folder.controlPath('lan'),
    gateway: {
      passtPath,
      guestAddress: config.network!.address,
      gatewayAddress: config.network!.gateway,
      forwards: config.forwards,
    },
  }
  const giveUpAt = performance.now() + portFreeWithinMs
  for (;;) {
    try {
      return await start('lan', settings, folder.tracePath('lan'))
    } catch (error) {
      // The gateway of a LAN that was just killed ends by itself, but not in the same instant.
      const isPortInUse = error instanceof WorldError && error.code === 'port-in-use'
      if (!isPortInUse || performance.now() > giveUpAt) throw error
      await sleep(200)
    }
  }
}

const portFreeWithinMs = 2000

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
