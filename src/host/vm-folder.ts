/**
 * Where a running VM keeps what its processes share: sockets, traces, tokens, and `run.json`, which names the processes.
 * `$XDG_STATE_HOME/understudy/NAME`, by default `~/.local/state/understudy/NAME`.
 */

import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { ExitCode, WorldError } from '../base/assert.ts'
import { type Endpoint, maxSocketPathBytes } from '../net/address.ts'

/** A machine has at most so many replicas; `up` starts the first as its primary. */
export const replicaNames = ['a', 'b', 'c', 'd', 'e'] as const
export type ReplicaName = (typeof replicaNames)[number]

/** The processes of a VM, by the names of their sockets and traces. */
export const processTraces = [...replicaNames, 'disk', 'lan', 'monitor'] as const
export type ProcessTrace = (typeof processTraces)[number]

/** Sockets between the processes of a VM on one host: disk, arbiter, the switch's replica port. */
const localSockets = ['disk', 'arbiter', 'lan'] as const
export type LocalSocket = (typeof localSockets)[number]

/** As `arbiter.socket` and `monitor.control`, with the slash before it. */
const longestSocketNameBytes = 16

/** What `up` started. */
export interface RunRecord {
  readonly vmPath: string
  readonly diskServerPid: number
  /** 0: the VM has no network. */
  readonly lanPid: number
  /** 0: the VM's file asks for no metrics. */
  readonly monitorPid: number
  readonly replicas: Readonly<Partial<Record<ReplicaName, { readonly pid: number }>>>
  /** Processes that were replicas before, and may live: frozen ones, whose place another has taken. */
  readonly former: readonly number[]
  /** A primary that is alone shall start a backup. */
  readonly wantsBackup: boolean
}

/** The processes of the replicas that `up` started. */
export function replicaPids({ replicas }: RunRecord): number[] {
  return Object.values(replicas).map(({ pid }) => pid)
}

export class VmFolder {
  readonly path: string
  readonly name: string

  constructor(name: string, stateFolder = defaultStateFolder(), folderName = name) {
    this.name = name
    this.path = join(stateFolder, folderName)
  }

  /** The folder `path`, of the VM `name`; by default the folder has the VM's name. */
  static at(path: string, name = basename(path)): VmFolder {
    return new VmFolder(name, dirname(path), basename(path))
  }

  /** @throws WorldError `path-too-long` */
  create(): void {
    if (Buffer.byteLength(this.path) > maxSocketPathBytes - longestSocketNameBytes) {
      throw new WorldError(
        'path-too-long',
        `the folder ${this.path} is too long for the sockets in it (at most ${maxSocketPathBytes - longestSocketNameBytes} bytes): set XDG_STATE_HOME to a shorter one, or choose a shorter name for the VM`,
        ExitCode.badConfiguration,
      )
    }
    mkdirSync(this.path, { recursive: true })
    chmodSync(this.path, 0o700)
  }

  file(name: string): string {
    return join(this.path, name)
  }

  controlPath(process: ProcessTrace): string {
    return this.file(`${process}.control`)
  }

  /** Where viewers of the console connect to a replica. */
  consolePath(replica: ReplicaName): string {
    return this.file(`${replica}.console`)
  }

  /** The unix socket for `purpose`, at the same place for every process that comes and goes. */
  endpoint(purpose: LocalSocket): Endpoint {
    return { address: { path: this.file(`${purpose}.socket`) } }
  }

  /** Where a replica listens for the others. */
  channelEndpoint(replica: ReplicaName): Endpoint {
    return { address: { path: this.file(`${replica}.channel`) } }
  }

  tracePath(process: ProcessTrace): string {
    return this.file(`${process}.trace`)
  }

  readRun(): RunRecord | undefined {
    const path = this.file('run.json')
    return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as RunRecord) : undefined
  }

  /** @throws WorldError `not-running` */
  requireRun(): RunRecord {
    const run = this.readRun()
    if (!run) {
      throw new WorldError(
        'not-running',
        `VM ${this.name} is not running: start it with "understudy up"`,
        ExitCode.wrongState,
      )
    }
    return run
  }

  writeRun(run: RunRecord): void {
    const path = this.file('run.json')
    writeFileSync(`${path}.new`, JSON.stringify(run, undefined, 2))
    renameSync(`${path}.new`, path)
  }

  /** Everything, the arbiter's record included: for machines that will never be again. */
  remove(): void {
    rmSync(this.path, { recursive: true, force: true })
  }

  /** Forgets the run; the arbiter's record and the traces stay. */
  clearRun(): void {
    const controls = processTraces.map((name) => `${name}.control`)
    const ofReplicas = replicaNames.flatMap((name) => [`${name}.console`, `${name}.channel`])
    const sockets = [...controls, ...ofReplicas, ...localSockets.map((name) => `${name}.socket`)]
    for (const name of ['run.json', ...sockets]) rmSync(this.file(name), { force: true })
  }
}

export function defaultStateFolder(): string {
  return join(process.env.XDG_STATE_HOME ?? join(homedir(), '.local/state'), 'understudy')
}

/** Whether this process runs or stands still. 0 is none, and one that has ended is over, whether its parent has heard so or not. */
export function isAlive(pid: number): boolean {
  if (pid <= 0) return false
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false
  }
  return !isZombie(pid)
}

/**
 * Our processes outlive who started them, so the init process is to hear of their end: in a container it may take seconds,
 * or never listen.
 */
function isZombie(pid: number): boolean {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    return false
  }
  // After the name in parentheses, which may hold anything: state, and 17 fields later the threads that are left (proc(5)).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields[0] === 'Z' && Number(fields[17]) <= 1
}
