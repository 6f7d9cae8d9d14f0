/**
 * Which hosts could take a replica of a machine: a backup is placed on a spare one. A host is spare for a machine if it has
 * room for it, and none of the machine's replicas is there.
 *
 * Two kinds: the hosts that a configuration file lists, which are taken to be there; and those that register themselves in
 * etcd under a lease, so that a host that dies is gone from the list when its lease ends:
 *
 *   PREFIXhosts/NAME   {"version":1,"name":"c","address":"192.0.2.3:7101","freeMemoryBytes":…}
 *
 * It chooses; it starts nothing, and is asked for no safety: who may go live is the arbiter's word alone.
 */

import { z } from 'zod'
import { EtcdClient, EtcdError } from './etcd-client.ts'
import type { EtcdSettings } from './etcd-settings.ts'

const hostSchema = z.strictObject({
  name: z.string().min(1).max(63),
  /** Where a replica there would be reached: HOST:PORT. */
  address: z.string().max(255),
  freeMemoryBytes: z.int().nonnegative(),
})

export type HostRecord = z.infer<typeof hostSchema>

/** What a machine needs of a host. */
export interface Placement {
  readonly memoryBytes: number
  /** Names of hosts that have a replica of it. */
  readonly taken: readonly string[]
}

export interface HostRegistry {
  /** The host offers itself, until `close`, or until it dies. */
  register(host: HostRecord): Promise<void>
  /** Hosts with room, the one with the most first. */
  spareHosts(placement: Placement): Promise<readonly HostRecord[]>
  close(): void
}

export class StaticHostRegistry implements HostRegistry {
  readonly #hosts: readonly HostRecord[]

  constructor(hosts: readonly HostRecord[]) {
    this.#hosts = hosts
  }

  /** The file lists it, or it does not. */
  async register(): Promise<void> {}

  async spareHosts(placement: Placement): Promise<readonly HostRecord[]> {
    return spareOf(this.#hosts, placement)
  }

  close(): void {}
}

const leaseSeconds = 5
const keepIntervalMs = 1000
const timeoutMs = 2000
const recordSchema = hostSchema.extend({ version: z.literal(1) })

export class EtcdHostRegistry implements HostRegistry {
  readonly #client: EtcdClient
  readonly #prefix: string
  #own: { readonly host: HostRecord; lease: string } | undefined
  #keeper: NodeJS.Timeout | undefined

  /** @throws WorldError `bad-configuration` */
  constructor(settings: EtcdSettings) {
    this.#client = new EtcdClient(settings)
    this.#prefix = `${settings.prefix}hosts/`
  }

  /** @throws EtcdError */
  async register(host: HostRecord): Promise<void> {
    this.#own = { host, lease: await this.#put(host) }
    this.#keeper ??= setInterval(() => void this.#keep(), keepIntervalMs).unref()
  }

  /** @throws EtcdError */
  async spareHosts(placement: Placement): Promise<readonly HostRecord[]> {
    const entries = await this.#client.list(this.#prefix, timeoutMs)
    const hosts = entries.flatMap(({ value }) => {
      const parsed = recordSchema.safeParse(parseJson(value))
      // What another version of us, or somebody else, has put there is no host of ours.
      return parsed.success ? [hostSchema.strip().parse(parsed.data)] : []
    })
    return spareOf(hosts, placement)
  }

  /** The lease ends with it, if the cluster can be told; else by itself. */
  close(): void {
    clearInterval(this.#keeper)
    const revoked = this.#own ? this.#client.revokeLease(this.#own.lease, timeoutMs) : Promise.resolve()
    void revoked.catch(() => {}).finally(() => this.#client.close())
  }

  async #put(host: HostRecord): Promise<string> {
    const lease = await this.#client.grantLease(leaseSeconds, timeoutMs)
    const value = JSON.stringify({ version: 1, ...host })
    await this.#client.transact([], [{ put: `${this.#prefix}${host.name}`, value, lease }], timeoutMs)
    return lease
  }

  /** A lease that ended while the cluster was out of reach is replaced: the host is there. */
  async #keep(): Promise<void> {
    const own = this.#own
    if (!own) return
    try {
      await this.#client.keepLease(own.lease, timeoutMs)
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error
      if (error.reason !== 'lease-gone' || this.#own !== own) return
      await this.#put(own.host).then(
        (lease) => {
          own.lease = lease
        },
        () => {},
      )
    }
  }
}

function spareOf(hosts: readonly HostRecord[], { memoryBytes, taken }: Placement): readonly HostRecord[] {
  return hosts
    .filter(({ name, freeMemoryBytes }) => freeMemoryBytes >= memoryBytes && !taken.includes(name))
    .toSorted((a, b) => b.freeMemoryBytes - a.freeMemoryBytes || a.name.localeCompare(b.name))
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
