/**
 * Starts backups as processes of this host, for a VM of `up` or `run`: all its replicas are here, and share disk server and
 * LAN. Whether one is wanted stands in the VM's `run.json`, because the operator may say so while another replica is live.
 */

import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { WorldError } from '../base/assert.ts'
import type { BackupStarter, KeeperStatus } from './backup-keeper.ts'
import { entryFile, startProcess } from './child-process.ts'
import type { Replica } from './replica.ts'
import type { ReplicaProcessSettings } from './replica-process.ts'
import { isAlive, type ReplicaName, replicaNames, type VmFolder } from './vm-folder.ts'

export interface SiblingStarterOptions {
  readonly replica: Replica
  /** Of this replica's process: the new one gets the same surroundings. */
  readonly settings: Omit<ReplicaProcessSettings, 'role'>
  readonly folder: VmFolder
  readonly trace: (line: string) => void
}

export class SiblingStarter implements BackupStarter {
  readonly #options: SiblingStarterOptions
  #doing: string | undefined

  constructor(options: SiblingStarterOptions) {
    this.#options = options
  }

  get wantsBackup(): boolean {
    return this.#options.folder.readRun()?.wantsBackup ?? false
  }

  setWantsBackup(wantsBackup: boolean): void {
    const run = this.#options.folder.readRun()
    if (run) this.#options.folder.writeRun({ ...run, wantsBackup })
  }

  get status(): KeeperStatus {
    return { doing: this.#doing, hosts: {} }
  }

  async start(isFirst: boolean): Promise<void> {
    const { folder, trace } = this.#options
    const name = this.#freeName()
    this.#doing = `starting replica ${name} as a backup`
    trace(this.#doing)
    try {
      const run = folder.readRun()
      await endFormer(run?.replicas[name]?.pid ?? 0)
      const settings = this.#settingsOf(name, isFirst ? run?.vmPath : undefined)
      const { pid } = await startProcess<void>('replica', settings, folder.tracePath(name))
      noteReplica(folder, name, pid)
    } catch (error) {
      if (!(error instanceof WorldError)) throw error
      throw new WorldError(error.code, `replica ${name} did not become one: ${error.message}`)
    } finally {
      this.#doing = undefined
    }
  }

  /** One that no process has; else one whose process is not with us: it may be frozen. */
  #freeName(): ReplicaName {
    const { replica, settings, folder } = this.#options
    const { backups, wantedBackups } = replica.status()
    const taken: readonly string[] = [settings.replica, ...backups.map(({ name }) => name)]
    const free = replicaNames.slice(0, wantedBackups + 1).filter((name) => !taken.includes(name))
    const run = folder.readRun()
    return free.find((name) => !isAlive(run?.replicas[name]?.pid ?? 0)) ?? free[0]!
  }

  /**
   * It reads the VM's files, which is quickest. They may have changed since the machine was started: then its primary refuses
   * it, and the next one asks its primary for the machine.
   */
  #settingsOf(name: ReplicaName, vmPath: string | undefined): ReplicaProcessSettings {
    const { settings, folder } = this.#options
    const { vmPath: _, holderHasEnded: __, isProfiled: ___, ...shared } = settings
    return {
      ...shared,
      ...(vmPath === undefined ? {} : { vmPath }),
      replica: name,
      role: 'backup',
      listen: folder.channelEndpoint(name),
      primaries: [folder.channelEndpoint(settings.replica)],
      controlPath: folder.controlPath(name),
      consolePath: folder.consolePath(name),
      takesPlace: true,
    }
  }
}

/**
 * A process that had this name may live: a frozen one, which the record has dropped. It is ended before another one gets its
 * name: the arbiter knows replicas by their names, and the old one, when it wakes, must not be taken for the new one.
 */
async function endFormer(pid: number): Promise<void> {
  if (pid <= 0 || !isReplicaProcess(pid)) return
  process.kill(pid, 'SIGKILL')
  while (isReplicaProcess(pid)) await sleep(5)
}

/** Process ids are used again: this one must still be a replica. A killed one that nobody has waited for has no arguments. */
function isReplicaProcess(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(entryFile('replica'))
  } catch {
    return false
  }
}

/** A process has taken the place of an earlier one, which may live: a frozen one finds out when it wakes. */
function noteReplica(folder: VmFolder, name: ReplicaName, pid: number): void {
  const run = folder.readRun()
  if (!run) return
  const former = [...run.former, run.replicas[name]?.pid ?? 0].filter(isAlive)
  folder.writeRun({ ...run, former, replicas: { ...run.replicas, [name]: { pid } } })
}
