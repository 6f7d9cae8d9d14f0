/**
 * The VM of the fault trials: a Debian guest with Redis that syncs every write, brought up protected, hurt on purpose, and
 * looked at from outside: processes, the arbiter's record, traces, the disk image after a power-off.
 */

import { deepEqual } from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { WorldError } from '../../src/base/assert.ts'
import { ArbiterClient } from '../../src/disk/arbiter-client.ts'
import type { ArbiterRecordFields } from '../../src/disk/arbiter-record.ts'
import { consoleLogName } from '../../src/host/console-log.ts'
import { ask } from '../../src/host/control.ts'
import { bringUp, inOrderOfCopies, processesOf, repairVm, takeDown } from '../../src/host/local-pair.ts'
import { waitForRedis } from '../../src/host/redis-load.ts'
import { freePort, type ReadyGuest, readyGuest, writeVmOf } from '../../src/host/redis-vm.ts'
import type { ReplicaFault } from '../../src/host/replica-settings.ts'
import type { ReplicaStatus } from '../../src/host/replica-status.ts'
import { readVmConfig } from '../../src/host/vm-config.ts'
import { isAlive, type ReplicaName, replicaNames, replicaPids, VmFolder } from '../../src/host/vm-folder.ts'
import { type Discipline, exactDiscipline } from '../../src/log/discipline.ts'
import type { DiskBus } from '../../src/machine/types.ts'
import { isSameReach, type Reach } from '../../src/replication/reach.ts'
import { endWithThisProcess } from '../support/reaper.ts'
import { differingPieces } from './copy-comparison.ts'

const bootWithinMs = 240_000
const mostBoots = 3
const powerOffWithinMs = 90_000

export interface FaultyVmOptions {
  /** Default: the test guest, or the one in UNDERSTUDY_TEST_GUEST. It has Redis. */
  readonly guest?: ReadyGuest
  /** More ports than Redis's, as the VM file has them. */
  readonly forward?: readonly string[]
  /** Whether lost backups are replaced by themselves. Default: not, so that a trial has one failure. */
  readonly automatic?: boolean
  /** Default 1. */
  readonly backups?: number
  /** Default: exact. */
  readonly discipline?: Discipline
  /** What its disk is on; default: virtio-blk. */
  readonly bus?: DiskBus
  /** Each replica has its own copy of the disk; default: one for both. Of a pair only. */
  readonly ownDisks?: boolean
  /** As the VM file has it; default 256M. */
  readonly memory?: string
}

export class FaultyVm {
  readonly port: number
  readonly folder: VmFolder
  readonly #path: string
  readonly #scratch: string
  readonly #trace: (line: string) => void
  readonly #hasOwnDisks: boolean
  readonly #discipline: Discipline
  /** Length of each trace when the present run began. */
  #traceStarts: ReadonlyMap<ReplicaName, number> = new Map()

  private constructor(
    path: string,
    port: number,
    scratch: string,
    name: string,
    trace: (line: string) => void,
    { ownDisks = false, discipline = exactDiscipline }: FaultyVmOptions,
  ) {
    this.#path = path
    this.#hasOwnDisks = ownDisks
    this.#discipline = discipline
    this.port = port
    this.#scratch = scratch
    this.#trace = trace
    this.folder = new VmFolder(name)
  }

  /** Sets the environment of this process and its children: a state folder of its own, faults allowed. */
  static async create(trace: (line: string) => void, options: FaultyVmOptions = {}): Promise<FaultyVm> {
    endWithThisProcess()
    const scratch = mkdtempSync(join(tmpdir(), 'understudy-faults-'))
    process.env.XDG_STATE_HOME = join(scratch, 'state')
    process.env.UNDERSTUDY_FAULTS = '1'
    const name = `faults-${process.pid}`
    const port = await freePort()
    const guestFolder = process.env.UNDERSTUDY_TEST_GUEST
    const guest = options.guest ?? (await readyGuest({ guestFolder }, 'test-guest'))
    const append = 'quiet redis.appendfsync=always'
    const { guest: _, ...choices } = options
    const path = await writeVmOf(guest, scratch, name, port, { ...choices, append })
    return new FaultyVm(path, port, scratch, name, trace, options)
  }

  get statePath(): string {
    return this.folder.path
  }

  /** Its disk, or the copy of it that a machine would be started from. To be touched only while it is off. */
  get imagePath(): string {
    const [first] = inOrderOfCopies(readVmConfig(this.#path).config, this.folder)
    return this.#copyOf(this.#hasOwnDisks ? first : 'a')
  }

  #copyOf(replica: ReplicaName): string {
    return join(this.#scratch, replica === 'b' ? 'root-b.ext4' : 'root.ext4')
  }

  /**
   * Of a protected VM whose replicas have copies of their own. The primary may stand still for a moment.
   * @returns in how many pieces of 64 KiB the copies differ at the same place of the log; undefined: there is one disk
   */
  async copiesDiffer(): Promise<number | undefined> {
    if (!this.#hasOwnDisks) return undefined
    const pid = await this.pidOf('primary')
    const brake = { stop: () => process.kill(pid, 'SIGSTOP'), goOn: () => process.kill(pid, 'SIGCONT') }
    const pieces = await differingPieces([this.#copyOf('a'), this.#copyOf('b')], brake)
    if (pieces.length > 0) this.#trace(`the copies differ in pieces ${pieces.join(' ')}`)
    return pieces.length
  }

  /**
   * Starts the VM protected and waits for Redis, unless it runs so already. A host that is busy with other things may
   * stop a backup for so long that the pair parts while it boots: that is no fault of ours, and it is started again.
   */
  async ensureProtected(): Promise<void> {
    for (let attempt = 0; !(await this.#isProtected()); attempt++) {
      if (attempt === mostBoots) throw new Error(`the pair did not stay together through ${mostBoots} boots`)
      if (this.livingReplicas().length > 0) {
        this.#trace('the pair parted by itself')
        await this.powerOffAndCheck()
      }
      this.#trace('up')
      this.#traceStarts = new Map(replicaNames.map((name) => [name, this.#traceOf(name).length]))
      await bringUp(this.#path, { protect: true, onProgress: () => {} })
      await this.redisAnswers(bootWithinMs)
      for (const { discipline } of await this.statuses()) deepEqual(discipline, this.#discipline, 'status says so')
    }
  }

  async #isProtected(): Promise<boolean> {
    return (await this.statuses()).some(({ isProtected }) => isProtected)
  }

  async redisAnswers(withinMs: number): Promise<void> {
    await waitForRedis(this.port, withinMs, async () => (await this.statuses()).length > 0)
  }

  /** What the living replicas say; one that stands still says nothing. */
  async statuses(): Promise<ReplicaStatus[]> {
    const found = await Promise.all(
      replicaNames.map((name) => ask<ReplicaStatus>(this.folder.controlPath(name), 'status', {}, 1000)),
    )
    return found.filter((status) => status !== undefined)
  }

  /** Replica processes that exist, whatever they say. */
  livingReplicas(): ReplicaName[] {
    const run = this.folder.readRun()
    return replicaNames.filter((name) => {
      const pid = run?.replicas[name]?.pid
      return pid !== undefined && isAlive(pid)
    })
  }

  async type(text: string): Promise<void> {
    for (const { name, role } of await this.statuses()) {
      if (role === 'primary') await ask(this.folder.controlPath(name), 'consoleInput', { text }, 500).catch(() => {})
    }
  }

  record(): ArbiterRecordFields {
    const path = join(this.folder.file('arbiter'), `${this.folder.name}.json`)
    return JSON.parse(readFileSync(path, 'utf8')) as ArbiterRecordFields
  }

  /** What the traces of this run say about divergences. */
  divergences(): number {
    return replicaNames.filter((name) => /diverge/i.test(this.traceOfRun(name))).length
  }

  /** How long each restoration of the redundancy took in this run, in milliseconds, as the primaries tell; by time. */
  restorations(): number[] {
    const lines = replicaNames.flatMap((name) => this.traceOfRun(name).split('\n'))
    return lines.sort().flatMap((line) => {
      const took = /protected again after (\d+) ms/.exec(line)?.[1]
      return took === undefined ? [] : [Number(took)]
    })
  }

  /** What the guest printed, also before its last power-on; the end of it. */
  consoleText(): string {
    return readFileSync(this.folder.file(consoleLogName), 'latin1')
  }

  traceOfRun(name: ReplicaName): string {
    return this.#traceOf(name).slice(this.#traceStarts.get(name) ?? 0)
  }

  // ---- faults --------------------------------------------------------------------------------------------------------

  async signal(role: 'primary' | 'backup', signal: NodeJS.Signals): Promise<number> {
    const { pid } = await this.replicaIn(role)
    process.kill(pid, signal)
    return pid
  }

  async killBoth(): Promise<void> {
    for (const pid of replicaPids(this.folder.requireRun())) process.kill(pid, 'SIGKILL')
    while (this.livingReplicas().length > 0) await sleep(10)
  }

  /** Replicas, disk server and LAN: all that a host that crashes takes along, but its page cache. */
  async killAll(): Promise<void> {
    const pids = this.#pids()
    for (const pid of pids) process.kill(pid, 'SIGKILL')
    while (pids.some(isAlive)) await sleep(10)
  }

  async fault(role: 'primary' | 'backup', fault: ReplicaFault): Promise<void> {
    await ask(this.folder.controlPath((await this.replicaIn(role)).name), 'fault', fault)
  }

  async signalSurrounding(what: 'disk' | 'lan', signal: NodeJS.Signals): Promise<number> {
    const run = this.folder.requireRun()
    const pid = what === 'disk' ? run.diskServerPid : run.lanPid
    process.kill(pid, signal)
    return pid
  }

  async killSurrounding(what: 'disk' | 'lan'): Promise<void> {
    const pid = await this.signalSurrounding(what, 'SIGKILL')
    while (isAlive(pid)) await sleep(5)
  }

  async repair(): Promise<void> {
    await repairVm(this.#path)
  }

  // ---- what must be true while a fault lasts -------------------------------------------------------------------------

  /** Its holder lives: nobody else may start the machine, neither before the arbiter has heard of it again nor after. */
  async mustRefuseStart(): Promise<void> {
    const holder = this.record().holder as ReplicaName
    await this.#refusesStart()
    await within(10_000, 'the holder does not come back to the arbiter', () =>
      this.traceOfRun(holder).includes('arbiter: the session is back'),
    )
    await this.#refusesStart()
  }

  async #refusesStart(): Promise<void> {
    const arbiter = new ArbiterClient({
      ...this.folder.endpoint('arbiter'),
      machine: this.folder.name,
      replica: 'stranger',
      token: readFileSync(this.folder.file('token'), 'utf8'),
    })
    const answer = await arbiter.start(5000).finally(() => arbiter.close())
    if (answer.granted) throw new Error('the arbiter let a second machine start')
  }

  /** The replica in this role says so of its reach. */
  async mustReach(role: 'primary' | 'backup', expected: Partial<Reach>): Promise<void> {
    await within(15_000, `the ${role} does not say that it reaches ${JSON.stringify(expected)}`, async () => {
      const status = (await this.statuses()).find((status) => status.role === role)
      return status !== undefined && isSameReach(status.reach, { ...status.reach, ...expected })
    })
  }

  /** The backup asks the arbiter, `questions` times, and holds the machine then. */
  async mustTakeOver(questions = 1): Promise<void> {
    await within(20_000, 'no backup has taken over', () => this.record().takenBy === 'testAndSet')
    const holder = this.record().holder as ReplicaName
    await within(20_000, `${holder} did not go live`, () => this.traceOfRun(holder).includes('live in generation'))
    const asked = this.traceOfRun(holder).split('test-and-set of generation').length - 1
    if (asked < questions) throw new Error(`${holder} asked the arbiter ${asked} times`)
  }

  /** Both replicas ask the arbiter, and for `durationMs` neither goes on. */
  async mustBothWait(durationMs: number): Promise<void> {
    const { generation } = this.record()
    const bothAsk = async (): Promise<boolean> => {
      const states = (await this.statuses()).map(({ state }) => state)
      return states.length === 2 && states.every((state) => state === 'asking')
    }
    await within(15_000, 'the two do not both ask', bothAsk)
    for (const until = performance.now() + durationMs; performance.now() < until; await sleep(200)) {
      if (!(await bothAsk()) || this.record().generation !== generation)
        throw new Error('one went on without the arbiter')
    }
  }

  async pidOf(role: 'primary' | 'backup'): Promise<number> {
    return (await this.replicaIn(role)).pid
  }

  async replicaIn(role: 'primary' | 'backup'): Promise<ReplicaStatus> {
    const found = (await this.statuses()).find((status) => status.role === role)
    if (!found) throw new Error(`there is no ${role}`)
    return found
  }

  // ---- the end -------------------------------------------------------------------------------------------------------

  /** The guest powers itself off; its disk is then checked. @returns what e2fsck found wrong, undefined if nothing */
  async powerOffAndCheck(): Promise<string | undefined> {
    const pids = this.#pids()
    await this.type('\npoweroff\n')
    const deadline = performance.now() + powerOffWithinMs
    while (pids.some(isAlive)) {
      if (performance.now() > deadline) throw new Error('the guest did not power off')
      await sleep(100)
    }
    const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` }
    const { status, stdout, error } = spawnSync('e2fsck', ['-fn', this.imagePath], { encoding: 'utf8', env })
    if (error) throw error
    return status === 0 ? undefined : stdout
  }

  /** Ends whatever is left. */
  async remove(keep: boolean): Promise<void> {
    if (this.folder.readRun()) {
      // A stopped process would not hear that it is to end.
      for (const pid of this.#pids()) if (isAlive(pid)) process.kill(pid, 'SIGCONT')
      await takeDown(this.#path).catch((error: unknown) => {
        if (!(error instanceof WorldError)) throw error
      })
    }
    if (!keep) rmSync(this.#scratch, { recursive: true, force: true })
  }

  /** Of every process of the run. */
  #pids(): number[] {
    return processesOf(this.folder.requireRun()).filter((pid) => pid > 0)
  }

  #traceOf(name: ReplicaName): string {
    const path = this.folder.tracePath(name)
    return existsSync(path) ? readFileSync(path, 'utf8') : ''
  }
}

/** Waits for a condition. @throws with these words when it does not come true in time */
async function within(ms: number, otherwise: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + ms
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(otherwise)
    await sleep(50)
  }
}
