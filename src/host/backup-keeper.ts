/**
 * Keeps a machine protected whose replicas are processes of this host: whenever this replica is the primary, and has
 * fewer backups than are wanted, it starts a process that becomes one. After a failover the new primary does the same, so the
 * machine survives one failure after the other.
 *
 *   alone ──► start a replica process ──► it fetches the machine ──► state transfer ──► protected
 *     ▲                                        │ it fails: wait, twice as long each time
 *     └────────────────────────────────────────┘
 *
 * Whether one is wanted stands in the VM's `run.json`, because the operator may say so while another replica is live.
 */

import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { entryFile, startProcess } from './child-process.ts'
import type { Replica } from './replica.ts'
import type { ReplicaProcessSettings } from './replica-process.ts'
import { isAlive, type ReplicaName, replicaNames, type VmFolder } from './vm-folder.ts'

export interface BackupKeeperOptions {
  readonly replica: Replica
  /** Of this replica's process: the new one gets the same surroundings. */
  readonly settings: Omit<ReplicaProcessSettings, 'role'>
  readonly folder: VmFolder
  readonly trace: (line: string) => void
}

/** A process that was started has said hello; so much later its primary has seen it, or it has gone again. */
const seenWithinMs = 1000
const firstDelayMs = 500
const longestDelayMs = 30_000
/** Protected for so long: the attempt was a good one, and the next loss is another story. */
const steadyMs = 1000

export class BackupKeeper {
  readonly #options: BackupKeeperOptions
  #isStarting = false
  #delayMs = firstDelayMs
  #notBeforeMs = 0
  #protectedSinceMs: number | undefined
  /** It lacks a backup since then. */
  #lackingSinceMs: number | undefined

  constructor(options: BackupKeeperOptions) {
    this.#options = options
  }

  /** Call when the replica's backups may have changed, and at every tick of it. */
  look(nowMs: number): void {
    const protection = this.#options.replica.protection
    if (!protection) return
    const { state, isComplete, hasTransfer } = protection
    if (state === 'protected' && isComplete) this.#onProtected(nowMs)
    else this.#protectedSinceMs = undefined
    if (isComplete || (state !== 'alone' && state !== 'protected')) return
    this.#lackingSinceMs ??= nowMs
    if (hasTransfer || this.#isStarting || nowMs < this.#notBeforeMs) return
    const run = this.#options.folder.readRun()
    if (!run?.wantsBackup) return
    this.#isStarting = true
    const isFirst = this.#delayMs === firstDelayMs
    void this.#start(isFirst ? run.vmPath : undefined).finally(() => {
      this.#isStarting = false
      this.#notBeforeMs = performance.now() + Math.max(seenWithinMs, this.#delayMs)
      this.#delayMs = Math.min(2 * this.#delayMs, longestDelayMs)
    })
  }

  #onProtected(nowMs: number): void {
    if (this.#lackingSinceMs !== undefined) {
      this.#options.trace(`protected again after ${Math.round(nowMs - this.#lackingSinceMs)} ms`)
      this.#lackingSinceMs = undefined
    }
    this.#protectedSinceMs ??= nowMs
    if (nowMs - this.#protectedSinceMs < steadyMs) return
    this.#delayMs = firstDelayMs
    this.#notBeforeMs = 0
  }

  async #start(vmPath: string | undefined): Promise<void> {
    const { folder, trace } = this.#options
    const name = this.#freeName()
    trace(`starting replica ${name} as a backup`)
    try {
      await endFormer(folder.readRun()?.replicas[name]?.pid ?? 0)
      const { pid } = await startProcess<void>('replica', this.#settingsOf(name, vmPath), folder.tracePath(name))
      noteReplica(folder, name, pid)
    } catch (error) {
      trace(`replica ${name} did not become a backup: ${(error as Error).message}`)
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
