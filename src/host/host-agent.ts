/**
 * `understudy host`: a host offers itself to machines whose key it has. It registers in etcd under a lease; when the
 * primary of a machine asks it to run a backup, it writes that replica's file, as its operator would, and starts the
 * process. So every command takes that file: `understudy status STATE/shop/c.json`.
 *
 * A replica lives by itself: it outlives this process, and a second `understudy host` finds the port taken and goes on with the
 * next one. Nothing listens here.
 */

import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { freemem } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { WorldError } from '../base/assert.ts'
import { EtcdError } from '../etcd/etcd-client.ts'
import {
  type AskedPlacement,
  HostRegistry,
  hostText,
  type Placement,
  type PlacementAnswer,
} from '../etcd/host-registry.ts'
import type { LeasedEntry } from '../etcd/leased-entry.ts'
import { formatAddress, parseAddress, type TcpAddress } from '../net/address.ts'
import { etcdFileOf } from './arbiter-config.ts'
import { startProcess } from './child-process.ts'
import type { HostSettings } from './host-config.ts'
import type { HostReplicaSettings } from './processes/host-replica.ts'
import { type ReplicaName, replicaNames, VmFolder } from './vm-folder.ts'

const lookEveryMs = 250
const offerEveryMs = 2000
/** Replicas there at most, each on a port of its own. */
const portsPerHost = 64

export class HostAgent {
  readonly #settings: HostSettings
  readonly #trace: (line: string) => void
  readonly #registry: HostRegistry
  readonly #offer: LeasedEntry
  /** Questions that were answered, by their ids: each is carried out once. */
  readonly #answered = new Set<string>()
  readonly #ending = new AbortController()
  #offeredAtMs = Number.NEGATIVE_INFINITY
  #said = ''

  /** @throws WorldError `bad-configuration` */
  constructor(settings: HostSettings, trace: (line: string) => void) {
    this.#settings = settings
    this.#trace = trace
    this.#registry = new HostRegistry(settings.etcd, trace)
    this.#offer = this.#registry.offer(settings.name)
  }

  /** Until `close`. */
  async run(): Promise<void> {
    const { name, machines } = this.#settings
    let isOffered = false
    while (!this.#ending.signal.aborted) {
      this.#renewOffer()
      await this.#look()
      // Whoever reads this may count on it.
      if (this.#offer.isThere && !isOffered) {
        this.#trace(`host ${name} offers itself to ${[...machines.keys()].join(', ')}`)
        isOffered = true
      }
      await sleep(lookEveryMs, undefined, { signal: this.#ending.signal }).catch(() => {})
    }
  }

  /** It offers itself no longer; its replicas go on. */
  async close(): Promise<void> {
    this.#ending.abort()
    await this.#offer.close()
    this.#registry.close()
  }

  #renewOffer(): void {
    if (performance.now() - this.#offeredAtMs < offerEveryMs) return
    this.#offeredAtMs = performance.now()
    const { name, address, memoryBytes, machines } = this.#settings
    this.#offer.set(
      hostText({
        name,
        address: formatAddress(address),
        freeMemoryBytes: Math.min(memoryBytes ?? Number.POSITIVE_INFINITY, availableMemoryBytes()),
        machines: [...machines.keys()],
      }),
    )
  }

  async #look(): Promise<void> {
    try {
      for (const asked of await this.#registry.placementsOn(this.#settings.name)) {
        if (!this.#answered.has(asked.placement.id)) void this.#carryOut(asked)
      }
      this.#said = ''
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error
      if (error.message !== this.#said) this.#trace(error.message)
      this.#said = error.message
    }
  }

  async #carryOut(asked: AskedPlacement): Promise<void> {
    const { placement } = asked
    const { name } = this.#settings
    const what = `replica ${placement.replica} of ${placement.machine}`
    this.#answered.add(placement.id)
    this.#trace(`asked to run ${what}, by its primary at ${placement.primary}`)
    const answer = async (state: PlacementAnswer['state'], detail = ''): Promise<void> => {
      // Its primary asks another host if it hears nothing.
      await this.#registry.answer(name, asked, { state, detail }).catch((error: Error) => this.#trace(error.message))
    }
    await answer('starting')
    try {
      const path = await this.#start(placement)
      this.#trace(`${what} runs: ${path}`)
      await answer('started', path)
    } catch (error) {
      const detail = (error as Error).message
      this.#trace(`${what} did not start: ${detail}`)
      await answer('failed', detail.slice(0, 2000))
    }
  }

  /** @returns the file of the replica. @throws WorldError */
  async #start(placement: Placement): Promise<string> {
    const { name: host, address, machines, tap, etcd } = this.#settings
    const { machine, primary, disk, network } = placement
    const keyPath = machines.get(machine)
    if (keyPath === undefined) throw refused(`this host has no key of machine ${machine}`)
    const name = replicaNames.find((one) => one === placement.replica)
    if (name === undefined) throw refused(`"${placement.replica}" is no name of a replica`)
    for (const one of [primary, disk.nbd, disk.arbiter]) tcpAddress(one)
    if (network === 'tap' && tap === undefined) throw refused('its network is a TAP, and host.toml names none')
    const folder = new VmFolder(machine)
    folder.create()
    const file = {
      name,
      role: 'backup',
      machine,
      host,
      key: keyPath,
      channel: { listen: formatAddress(await freeAddress(address)), connect: primary },
      disk,
      arbiter: etcdFileOf(etcd),
      ...(network === undefined ? {} : { network: network === 'tap' ? { tap } : network }),
    }
    const path = folder.file(`${name}.json`)
    writeFileSync(path, `${JSON.stringify(file, undefined, 2)}\n`, { mode: 0o600 })
    await startProcess<void>(
      'host-replica',
      { path } satisfies HostReplicaSettings,
      folder.tracePath(name as ReplicaName),
    )
    return path
  }
}

/** What the kernel says could be had without swapping. */
function availableMemoryBytes(): number {
  return process.availableMemory?.() ?? freemem()
}

function refused(why: string): WorldError {
  return new WorldError('placement-refused', why)
}

function tcpAddress(text: string): TcpAddress {
  const address = parseAddress(text)
  if (address.path !== undefined) throw refused(`${text} is an address of another host`)
  return address
}

/** The first port from there on that nobody has. */
async function freeAddress({ host, port }: TcpAddress): Promise<TcpAddress> {
  for (let next = port; next < port + portsPerHost; next++) if (await isFree(host, next)) return { host, port: next }
  throw refused(`none of the ports ${port} to ${port + portsPerHost - 1} of ${host} is free`)
}

function isFree(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ host, port }, () => server.close(() => resolve(true)))
  })
}
