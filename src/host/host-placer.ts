/**
 * Starts backups on spare hosts, for a machine whose replicas are on hosts of their own and whose arbiter is etcd. The live
 * primary chooses a host that offers itself (`understudy host`), has the machine's key and room for it, and no replica of it;
 * asks it; and waits until the new backup is seen, or the host says no, or nothing.
 *
 *   primary                              etcd                              spare host
 *     │ question: run replica c ──────────►│ placements/HOST/NAME ───────────►│ starts `replica` from a file that it writes
 *     │◄──────────────────── answer ───────│◄──────────────────────── answer ─│
 *     │◄═══════════════ logging channel: hello, state transfer ══════════════►│ replica c
 *
 * It decides nothing about safety: whoever comes must have the machine's key, and is a backup like any other.
 */

import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { WorldError } from '../base/assert.ts'
import { MiB } from '../base/units.ts'
import { type HostRecord, type HostRegistry, type Placement, spareOf } from '../etcd/host-registry.ts'
import { type Endpoint, formatAddress } from '../net/address.ts'
import type { BackupStarter, KeeperStatus } from './backup-keeper.ts'
import type { Replica } from './replica.ts'
import type { ReplicaSettings } from './replica-settings.ts'
import { type ReplicaName, replicaNames } from './vm-folder.ts'

export interface HostPlacerOptions {
  readonly replica: Replica
  readonly settings: Pick<ReplicaSettings, 'machine' | 'replica' | 'listen' | 'disk' | 'arbiter' | 'lan' | 'tap'>
  readonly registry: HostRegistry
  /** What the VM's file says of it; undefined: this host has no VM file. */
  readonly isAutomatic: boolean | undefined
  readonly trace: (line: string) => void
}

/** For `status`: who is where. */
const lookEveryMs = 5000
const askAgainMs = 200
/** A host that does not answer within so long, as one that has just died, is passed over for a while. */
const answerWithinMs = 3000
/** … and one whose replica has not said hello within so long: it gets kernel and initrd first. */
const startedWithinMs = 60_000
const passOverMs = 60_000
/** What a replica needs beside its machine's memory: Node, translated code, log buffers. */
const replicaOverheadBytes = 192 * MiB

export class HostPlacer implements BackupStarter {
  readonly #options: HostPlacerOptions
  readonly #ticker: NodeJS.Timeout
  #doing: string | undefined
  #hosts: ReadonlyMap<string, string> = new Map()
  /** As far as is known: it is read again before each attempt. */
  #wantsBackup = true
  /** Hosts that failed, and those that a backup has left, by the time until which others are preferred. */
  readonly #passedOver = new Map<string, number>()
  #hasToldAutomatic = false

  constructor(options: HostPlacerOptions) {
    this.#options = options
    this.#ticker = setInterval(() => void this.#look(), lookEveryMs).unref()
  }

  get wantsBackup(): boolean {
    return this.#wantsBackup
  }

  get status(): KeeperStatus {
    return { doing: this.#doing, hosts: Object.fromEntries(this.#hosts) }
  }

  /** The operator's word. It stands in etcd, so that the next primary keeps to it. @throws EtcdError */
  async setWantsBackup(wantsBackup: boolean): Promise<void> {
    await this.#options.registry.setWantsBackup(this.#options.settings.machine, wantsBackup)
    this.#hasToldAutomatic = true
    this.#wantsBackup = wantsBackup
    if (!wantsBackup) this.#passOverPresentHosts()
  }

  async start(): Promise<void> {
    const { registry, trace } = this.#options
    if (!(await this.#readWish())) return
    const host = await this.#chooseHost()
    const placement = this.#placement()
    this.#tell(`asking host ${host.name} to run replica ${placement.replica}`)
    trace(this.#doing!)
    const question = registry.place(host.name, placement)
    try {
      await this.#awaitBackup(host, placement)
      this.#tell(undefined)
    } catch (error) {
      this.#passedOver.set(host.name, performance.now() + passOverMs)
      this.#tell(`host ${host.name} did not become the backup's: ${(error as Error).message}`)
      throw error
    } finally {
      await question.close()
    }
  }

  onProtected(): void {
    this.#tell(undefined)
    void this.#look()
  }

  close(): void {
    clearInterval(this.#ticker)
  }

  /** Who is where. */
  async #look(): Promise<void> {
    const { registry, settings, replica } = this.#options
    if (!replica.protection) return
    const hosts = await registry.replicaHosts(settings.machine).catch(() => undefined)
    if (hosts) this.#hosts = hosts
  }

  /** What the operator wants, by the file that the machine was started with, or by his last word. @throws EtcdError */
  async #readWish(): Promise<boolean> {
    const { registry, settings, isAutomatic } = this.#options
    // Those that are primary after this one have no file, and know only what stands in etcd.
    if (isAutomatic === false && !this.#hasToldAutomatic) await registry.setWantsBackup(settings.machine, false)
    this.#hasToldAutomatic = true
    this.#wantsBackup = await registry.wantsBackup(settings.machine)
    return this.#wantsBackup
  }

  /** @throws WorldError `no-spare-host` */
  async #chooseHost(): Promise<HostRecord> {
    const { registry, settings, replica } = this.#options
    const { machine } = settings
    const { memoryBytes, hasOwnDisks } = replica.needs
    if (hasOwnDisks) throw this.#noSpareHost('its disks are not shared: a new host would need a copy of its own')
    const hosts = await registry.hosts()
    this.#hosts = await registry.replicaHosts(machine)
    const taken = [...this.#hosts.values()]
    const spare = spareOf(hosts, { machine, memoryBytes: memoryBytes + replicaOverheadBytes, taken })
    const nowMs = performance.now()
    const isPreferred = ({ name }: HostRecord): boolean => (this.#passedOver.get(name) ?? 0) < nowMs
    const host = spare.find(isPreferred) ?? spare[0]
    if (host) return host
    const others = hosts.filter(({ name }) => !taken.includes(name))
    if (others.length === 0) throw this.#noSpareHost('no other host offers itself: start "understudy host" on one')
    const withKey = others.filter(({ machines }) => machines.includes(machine))
    const why = withKey.length === 0 ? 'has its key' : `has ${(memoryBytes + replicaOverheadBytes) / MiB} MiB free`
    throw this.#noSpareHost(`none of the hosts ${others.map(({ name }) => name).join(', ')} ${why}`)
  }

  #noSpareHost(why: string): WorldError {
    this.#tell(`no spare host: ${why}`)
    return new WorldError('no-spare-host', `no spare host: ${why}`)
  }

  #placement(): Placement {
    const { settings } = this.#options
    const { machine, listen, disk, arbiter, lan, tap } = settings
    const network = lan ? { switch: addressFor(lan, 'the switch') } : tap === undefined ? undefined : 'tap'
    return {
      id: randomUUID(),
      machine,
      replica: this.#freeName(),
      primary: addressFor(listen, 'this replica'),
      disk: { nbd: addressFor(disk, 'the disk server'), arbiter: addressFor(arbiter, 'the arbiter') },
      ...(network === undefined ? {} : { network }),
    }
  }

  /** One that nobody has, and that nobody had lately: its process may be frozen, on a host that is out of reach. */
  #freeName(): ReplicaName {
    const { replica, settings } = this.#options
    const taken = [settings.replica, ...replica.status().backups.map(({ name }) => name)]
    const free = replicaNames.filter((name) => !taken.includes(name))
    return free.find((name) => !this.#hosts.has(name)) ?? free[0]!
  }

  /** @throws WorldError the host refused, or nothing came of it */
  async #awaitBackup(host: HostRecord, placement: Placement): Promise<void> {
    const { registry } = this.#options
    let deadline = performance.now() + answerWithinMs
    let hasAnswered = false
    while (performance.now() < deadline) {
      const { transfer, backups, role } = this.#options.replica.status()
      if (role !== 'primary') return
      if (transfer?.replica === placement.replica || backups.some(({ name }) => name === placement.replica)) return
      const answer = await registry.answerOf(host.name, placement).catch(() => undefined)
      if (answer?.state === 'failed') throw new WorldError('placement-failed', answer.detail)
      if (answer && !hasAnswered) {
        hasAnswered = true
        deadline = performance.now() + startedWithinMs
        this.#tell(`replica ${placement.replica} starts on host ${host.name}`)
      }
      await sleep(askAgainMs)
    }
    const what = hasAnswered ? 'its replica was not seen' : 'it did not answer'
    throw new WorldError(
      'placement-failed',
      `${what} within ${(hasAnswered ? startedWithinMs : answerWithinMs) / 1000} s`,
    )
  }

  /** A backup that is moved goes to another host, if there is one. */
  #passOverPresentHosts(): void {
    const { replica } = this.#options
    for (const { name } of replica.status().backups) {
      const host = this.#hosts.get(name)
      if (host !== undefined) this.#passedOver.set(host, performance.now() + passOverMs)
    }
  }

  #tell(doing: string | undefined): void {
    this.#doing = doing
  }
}

/** As other hosts write it. @throws WorldError: it is of this host only */
function addressFor(endpoint: Endpoint | undefined, whose: string): string {
  if (endpoint && endpoint.address.path === undefined) return formatAddress(endpoint.address)
  const why = endpoint ? `is a unix socket, ${endpoint.address.path}` : 'is not in its file (channel.listen)'
  throw new WorldError('no-spare-host', `no backup on another host could reach ${whose}: its address ${why}`)
}
