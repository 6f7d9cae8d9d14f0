/** Where an image is: its host, what stays there, and the disk server's process, which may end and be started again. */

import { Actor } from './actor.ts'
import type { Chance } from './chance.ts'
import {
  DiskServer,
  type FromArbiter,
  type FromDisk,
  type RecordFile,
  type ToArbiter,
  type ToDisk,
} from './disk-server.ts'
import { DiskStore } from './disk-store.ts'
import { copyAddress } from './names.ts'
import type { Network } from './network.ts'
import type { Timeline } from './timeline.ts'
import { diskSectors } from './tiny-machine.ts'
import type { Witness } from './witness.ts'

export interface DiskSiteOptions {
  readonly host: string
  readonly timeline: Timeline
  readonly network: Network
  readonly chance: Chance
  readonly records: RecordFile
  readonly witness: Witness
  readonly onDied: () => void
  /** The replica whose own copy of the disk is here, on its host. Default: the disk is shared, or there is none; the arbiter is here. */
  readonly owner?: string
}

export class DiskSite {
  readonly host: string
  readonly store: DiskStore
  server!: DiskServer
  readonly #options: DiskSiteOptions
  #boots = 0

  constructor(options: DiskSiteOptions) {
    this.#options = options
    this.host = options.host
    this.store = new DiskStore(diskSectors, options.chance)
  }

  start(): void {
    const { host, timeline, network, records, witness, onDied, owner } = this.#options
    const actor = new Actor(host, timeline)
    network.onHostIsBack(host)
    const bootId = `boot-${++this.#boots}`
    const parts = { actor, store: this.store, records, bootId, witness }
    const server = new DiskServer(owner === undefined ? parts : { ...parts, owner })
    this.server = server
    actor.onDeath(onDied)
    if (owner === undefined) {
      network.listen<FromArbiter, ToArbiter>('arbiter', actor, (end) => server.onArbiterConnection(end))
      network.listen<FromDisk, ToDisk>('disk', actor, (end) => server.onDiskConnection(end))
    } else network.listen<FromDisk, ToDisk>(copyAddress(owner), actor, (end) => server.onDiskConnection(end))
  }
}
