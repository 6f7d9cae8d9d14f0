/**
 * What hosts and replicas tell each other in etcd, so that a machine that lost a replica finds another host:
 *
 *   PREFIXhosts/HOST                          a host offers itself       {"version":1,"name","address","freeMemoryBytes","machines"}
 *   PREFIXmachines/NAME/replicas/R            replica R is on that host  {"version":1,"host"}
 *   PREFIXmachines/NAME/unprotected           the operator wants no backup for it (no lease)
 *   PREFIXplacements/HOST/NAME/question       its primary asks a host to run a backup
 *   PREFIXplacements/HOST/NAME/answer         … and what the host says
 *
 * Whatever stands under a lease is gone with who wrote it (leased-entry.ts); a question goes with its primary.
 *
 * A host is spare for a machine if it has the machine's key and room for it, and none of the machine's replicas is there. Nothing here is a
 * matter of safety: who may go live is the arbiter's word alone, and nobody joins a machine without its key, which is never in etcd.
 */

import { z } from 'zod'
import { nameSchema } from '../disk/names.ts'
import { EtcdClient, type EtcdEntry } from './etcd-client.ts'
import type { EtcdSettings } from './etcd-settings.ts'
import { LeasedEntry } from './leased-entry.ts'

const version = z.literal(1)
const address = z.string().max(255)

const hostSchema = z.strictObject({
  name: nameSchema,
  /** HOST:PORT at which the first replica there would be reached. */
  address,
  freeMemoryBytes: z.int().nonnegative(),
  /** Machines whose key it has. */
  machines: z.array(nameSchema),
})
export type HostRecord = z.infer<typeof hostSchema>

const placementSchema = z.strictObject({
  /** Names the question: a host carries out each once. */
  id: z.string().max(64),
  machine: nameSchema,
  /** The name that the new backup shall have. */
  replica: nameSchema,
  /** HOST:PORT of the primary's logging channel. */
  primary: address,
  disk: z.strictObject({ nbd: address, arbiter: address }),
  /** Where its network is; `tap`: a TAP of that host. */
  network: z.union([z.strictObject({ switch: address }), z.literal('tap')]).optional(),
})
/** "Run a backup of this machine": all that a host has to know, but the key. */
export type Placement = z.infer<typeof placementSchema>

const answerSchema = z.strictObject({
  id: z.string().max(64),
  state: z.enum(['starting', 'started', 'failed']),
  detail: z.string().max(2000),
})
export type PlacementAnswer = z.infer<typeof answerSchema>

const timeoutMs = 2000

/** What a machine needs of a host. */
export interface Need {
  readonly machine: string
  readonly memoryBytes: number
  /** Names of hosts that have a replica of it. */
  readonly taken: readonly string[]
}

/** Those that could take it, the one with the most room first. */
export function spareOf(hosts: readonly HostRecord[], { machine, memoryBytes, taken }: Need): readonly HostRecord[] {
  return hosts
    .filter(({ machines }) => machines.includes(machine))
    .filter(({ name, freeMemoryBytes }) => freeMemoryBytes >= memoryBytes && !taken.includes(name))
    .toSorted((a, b) => b.freeMemoryBytes - a.freeMemoryBytes || a.name.localeCompare(b.name))
}

/** All of it is asked of the cluster each time. Every method that reads or writes throws `EtcdError`. */
export class HostRegistry {
  readonly #client: EtcdClient
  readonly #prefix: string
  readonly #trace: (line: string) => void

  /** @throws WorldError `bad-configuration` */
  constructor(settings: EtcdSettings, trace: (line: string) => void = () => {}) {
    this.#client = new EtcdClient(settings)
    this.#prefix = settings.prefix
    this.#trace = trace
  }

  /** The host offers itself until the entry is closed; `set` it by `hostText`. */
  offer(host: string): LeasedEntry {
    return new LeasedEntry(this.#client, `${this.#prefix}hosts/${host}`, this.#trace)
  }

  async hosts(): Promise<readonly HostRecord[]> {
    const entries = await this.#client.list(`${this.#prefix}hosts/`, timeoutMs)
    return entries.flatMap((entry) => read(entry, hostSchema) ?? [])
  }

  /** A replica says where it is, until the entry is closed. */
  announce(machine: string, replica: string, host: string): LeasedEntry {
    const key = `${this.#prefix}machines/${machine}/replicas/${replica}`
    const entry = new LeasedEntry(this.#client, key, this.#trace)
    entry.set(textOf({ host }))
    return entry
  }

  /** The host of each replica of the machine that lives, or died a moment ago. */
  async replicaHosts(machine: string): Promise<ReadonlyMap<string, string>> {
    const prefix = `${this.#prefix}machines/${machine}/replicas/`
    const hosts = new Map<string, string>()
    for (const entry of await this.#client.list(prefix, timeoutMs)) {
      const record = read(entry, z.strictObject({ host: nameSchema }))
      if (record) hosts.set(entry.key.slice(prefix.length), record.host)
    }
    return hosts
  }

  /** Whether the machine is to have a backup, as far as its operator has said. */
  async wantsBackup(machine: string): Promise<boolean> {
    const [entry] = await this.#client.read([this.#unprotectedKey(machine)], timeoutMs)
    return entry === undefined
  }

  async setWantsBackup(machine: string, wantsBackup: boolean): Promise<void> {
    const key = this.#unprotectedKey(machine)
    await this.#client.transact([], [wantsBackup ? { delete: key } : { put: key, value: textOf({}) }], timeoutMs)
  }

  /** Asks a host, until the entry is closed. */
  place(host: string, placement: Placement): LeasedEntry {
    const entry = new LeasedEntry(this.#client, this.#placementKey(host, placement.machine, 'question'), this.#trace)
    entry.set(textOf(placement))
    return entry
  }

  /** What the host has said to the question `id`. */
  async answerOf(host: string, { machine, id }: Placement): Promise<PlacementAnswer | undefined> {
    const [entry] = await this.#client.read([this.#placementKey(host, machine, 'answer')], timeoutMs)
    const answer = entry && read(entry, answerSchema)
    return answer?.id === id ? answer : undefined
  }

  /** What a host is asked now. */
  async placementsOn(host: string): Promise<readonly AskedPlacement[]> {
    const entries = await this.#client.list(`${this.#prefix}placements/${host}/`, timeoutMs)
    return entries.flatMap((entry) => {
      if (!entry.key.endsWith('/question')) return []
      const placement = read(entry, placementSchema)
      return placement ? [{ placement, entry }] : []
    })
  }

  /** The host's answer. It goes with the question. */
  async answer(host: string, { placement, entry }: AskedPlacement, answer: Omit<PlacementAnswer, 'id'>): Promise<void> {
    const put = this.#placementKey(host, placement.machine, 'answer')
    const value = textOf({ id: placement.id, ...answer })
    await this.#client.transact([entry], [{ put, value, lease: entry.lease }], timeoutMs)
  }

  close(): void {
    this.#client.close()
  }

  #placementKey(host: string, machine: string, side: 'question' | 'answer'): string {
    return `${this.#prefix}placements/${host}/${machine}/${side}`
  }

  #unprotectedKey(machine: string): string {
    return `${this.#prefix}machines/${machine}/unprotected`
  }
}

/** A question, and where it stands. */
export interface AskedPlacement {
  readonly placement: Placement
  readonly entry: EtcdEntry
}

/** A host's offer, as it stands in etcd. */
export function hostText(host: HostRecord): string {
  return textOf(host)
}

function textOf(fields: object): string {
  return JSON.stringify({ version: 1, ...fields })
}

/** What another version of us, or somebody else, has put there is nothing of ours. */
function read<Shape extends z.ZodObject>(entry: EtcdEntry, schema: Shape): z.infer<Shape> | undefined {
  const parsed = schema.extend({ version }).safeParse(parseJson(entry.value))
  if (!parsed.success) return undefined
  const { version: _, ...fields } = parsed.data as { version: 1 }
  return fields as unknown as z.infer<Shape>
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
