/**
 * An Ethernet learning switch with places for protected machines. Sans-I/O: frames and messages in, deliveries out; it
 * knows no socket, no clock and no promise.
 *
 * Plain ports behave as any switch's: the source address of each frame tells where a station is, frames to an unknown
 * station go everywhere. Protected machines differ (ARCHITECTURE, invariants 6 and 9):
 *
 * - their MAC is never learned. It belongs to the replica that bound it, and frames that carry it from any other port
 *   are dropped and counted: a late frame of a dead primary cannot pull the traffic back to it.
 * - frames to them are numbered and kept until covered, and delivered again to the replica that goes live.
 * - frames from them carry a sequence: repeats are dropped, every forwarded one is confirmed.
 * - a machine may send with its own MAC only, and gets only frames to its own MAC and to groups: flooding it with other
 *   stations' frames would make each of them a log entry.
 * - a private port (the gateway's) is paused while its machine's kept frames fill half of their store, as Ethernet's
 *   flow control would. Dropping there would be costly: passt answers a loss by sending its whole window again, and
 *   each of those frames would be a log entry. Ports that serve several stations are not paused; their frames drop.
 *
 * Not here: VLANs, spanning tree (do not wire two such switches in a ring), ageing of learned stations. A station that
 * moved is found again with its first frame; the table is bounded and forgets the station that was learned first.
 */

import { assert, WorldError } from '../base/assert.ts'
import {
  destinationOf,
  encodeAnnouncement,
  formatMac,
  isGoodFrameLength,
  isGroup,
  type Mac,
  sourceOf,
} from './frame.ts'
import type { KeptLimits } from './kept-frames.ts'
import { type BindRequest, MachinePort, type MachineStatistics, type Refusal } from './machine-port.ts'

/** What the socket part has to send, in this order. */
export type Delivery =
  | { readonly kind: 'plain-frame'; readonly port: number; readonly frame: Uint8Array }
  | { readonly kind: 'machine-frame'; readonly port: number; readonly frameId: bigint; readonly frame: Uint8Array }
  | { readonly kind: 'confirmed'; readonly port: number; readonly sequence: bigint }
  | {
      readonly kind: 'bound'
      readonly port: number
      readonly generation: bigint
      readonly lastSequence: bigint
      readonly lastFrameId: bigint
    }
  | { readonly kind: 'refused'; readonly port: number; readonly reason: Refusal; readonly generation: bigint }
  /** Stop and start reading from a plain port. */
  | { readonly kind: 'pause'; readonly port: number }
  | { readonly kind: 'resume'; readonly port: number }

export interface ProtectedStation {
  readonly name: string
  readonly mac: Mac
}

export interface SwitchLimits {
  readonly stations: number
  /** Per machine. */
  readonly kept: KeptLimits
}

/**
 * 4096 frames are a full receive window of several fast connections; they cover a failover of a second at 4000
 * frames per second.
 */
export const defaultSwitchLimits: SwitchLimits = { stations: 4096, kept: { frames: 4096, bytes: 8 * 1024 * 1024 } }

export interface SwitchStatistics {
  readonly plainPorts: number
  readonly stationsLearned: number
  readonly framesForwarded: number
  readonly framesFlooded: number
  /** Frames from a plain port that carried a protected machine's MAC. */
  readonly spoofedDropped: number
  /** Frames of impossible length or with a group address as source. */
  readonly badDropped: number
  readonly machines: readonly MachineStatistics[]
}

interface PlainPort {
  /** A private port: only this station's frames are sent to it. */
  readonly onlyFrom: Mac | undefined
  isPaused: boolean
}

interface ReplicaPort {
  readonly machine: MachinePort
  readonly replica: string
}

export class EthernetSwitch {
  readonly #limits: SwitchLimits
  readonly #machinesByName = new Map<string, MachinePort>()
  readonly #machinesByMac = new Map<Mac, MachinePort>()
  readonly #plainPorts = new Map<number, PlainPort>()
  readonly #replicaPorts = new Map<number, ReplicaPort>()
  readonly #stations = new Map<Mac, number>()
  #nextPort = 1
  readonly #counts = { framesForwarded: 0, framesFlooded: 0, spoofedDropped: 0, badDropped: 0 }

  constructor(machines: readonly ProtectedStation[], limits: SwitchLimits = defaultSwitchLimits) {
    this.#limits = limits
    for (const { name, mac } of machines) {
      if (this.#machinesByName.has(name)) throw new WorldError('double-machine', `two machines are named "${name}"`)
      if (this.#machinesByMac.has(mac)) {
        throw new WorldError('double-mac', `two machines have the MAC address ${formatMac(mac)}`)
      }
      const machine = new MachinePort(name, mac, limits.kept)
      this.#machinesByName.set(name, machine)
      this.#machinesByMac.set(mac, machine)
    }
  }

  /** Opens a port for a station, another switch or a gateway. With `onlyFrom`, it is sent that station's frames only. */
  openPlainPort(onlyFrom?: Mac): number {
    const port = this.#nextPort++
    this.#plainPorts.set(port, { onlyFrom, isPaused: false })
    return port
  }

  /** Opens a port for a replica that has proved that it belongs to `machineName`. It must bind before it is heard. */
  openReplicaPort(machineName: string, replica: string): number {
    const machine = this.#machinesByName.get(machineName)
    assert(machine, `machine "${machineName}" is known once it is authenticated`)
    const port = this.#nextPort++
    this.#replicaPorts.set(port, { machine, replica })
    return port
  }

  closePort(port: number): void {
    if (this.#plainPorts.delete(port)) {
      for (const [mac, learned] of this.#stations) if (learned === port) this.#stations.delete(mac)
    }
    this.#replicaPorts.get(port)?.machine.disconnect(port)
    this.#replicaPorts.delete(port)
  }

  /** A frame came in on a plain port. */
  onFrame(port: number, frame: Uint8Array): Delivery[] {
    assert(this.#plainPorts.has(port), `port ${port} is an open plain port`)
    const deliveries: Delivery[] = []
    if (!isGoodFrameLength(frame.length) || isGroup(sourceOf(frame))) {
      this.#counts.badDropped++
      return deliveries
    }
    const source = sourceOf(frame)
    if (this.#machinesByMac.has(source)) {
      this.#counts.spoofedDropped++
      return deliveries
    }
    this.#learn(source, port)
    this.#forward(frame, port, undefined, deliveries)
    return deliveries
  }

  /** A replica asks to speak for its machine. */
  onBind(port: number, request: BindRequest): Delivery[] {
    const { machine, replica } = this.#replicaPort(port)
    const reason = machine.refusalOf(replica, request)
    if (reason) return [{ kind: 'refused', port, reason, generation: machine.generation }]
    const deliveries: Delivery[] = []
    const fencedPort = machine.bind(port, replica, request)
    if (fencedPort !== undefined) {
      deliveries.push({ kind: 'refused', port: fencedPort, reason: 'fenced', generation: request.generation })
    }
    const lastFrameId = machine.kept.lastFrameId
    deliveries.push({
      kind: 'bound',
      port,
      generation: request.generation,
      lastSequence: machine.forwardedSequence,
      lastFrameId,
    })
    for (const { frameId, frame } of machine.kept.all()) {
      if (frameId <= request.receivedFrameId) continue
      machine.counts.framesRedelivered++
      deliveries.push({ kind: 'machine-frame', port, frameId, frame })
    }
    this.#announce(machine, deliveries)
    this.#controlFlow(machine, deliveries)
    return deliveries
  }

  /** A replica releases an output of its machine. */
  onOutput(port: number, sequence: bigint, frame: Uint8Array): Delivery[] {
    const { machine } = this.#replicaPort(port)
    const deliveries: Delivery[] = []
    if (machine.port !== port) {
      machine.counts.fencedDropped++
      return deliveries
    }
    if (!machine.accept(sequence)) {
      machine.counts.repeatsDropped++
    } else if (!isGoodFrameLength(frame.length) || sourceOf(frame) !== machine.mac) {
      machine.counts.forgedDropped++
    } else {
      machine.counts.outputsForwarded++
      this.#forward(frame, undefined, machine, deliveries)
    }
    // Confirmed in each case: the replica need not keep what the switch will never forward (again).
    deliveries.push({ kind: 'confirmed', port, sequence: machine.forwardedSequence })
    return deliveries
  }

  /** Every log entry with frames up to `frameId` is acknowledged: they need not be kept. Only the bound replica says so. */
  onCovered(port: number, frameId: bigint): Delivery[] {
    const { machine } = this.#replicaPort(port)
    const deliveries: Delivery[] = []
    if (machine.port === port) {
      machine.kept.cover(frameId)
      this.#controlFlow(machine, deliveries)
    }
    return deliveries
  }

  /** The bound replica asks to tell the stations again where its machine is. */
  onAnnounce(port: number): Delivery[] {
    const { machine } = this.#replicaPort(port)
    const deliveries: Delivery[] = []
    if (machine.port === port) this.#announce(machine, deliveries)
    return deliveries
  }

  statistics(): SwitchStatistics {
    return {
      plainPorts: this.#plainPorts.size,
      stationsLearned: this.#stations.size,
      ...this.#counts,
      machines: [...this.#machinesByName.values()].map((machine) => machine.statistics()),
    }
  }

  #replicaPort(port: number): ReplicaPort {
    const replicaPort = this.#replicaPorts.get(port)
    assert(replicaPort, `port ${port} is an open replica port`)
    return replicaPort
  }

  #learn(source: Mac, port: number): void {
    if (this.#stations.get(source) === port) return
    // Deleted first, so that the map's order is the order in which stations were learned.
    this.#stations.delete(source)
    if (this.#stations.size >= this.#limits.stations) {
      const [oldest] = this.#stations.keys()
      this.#stations.delete(oldest!)
    }
    this.#stations.set(source, port)
  }

  #announce(machine: MachinePort, deliveries: Delivery[]): void {
    this.#forward(encodeAnnouncement(machine.mac), undefined, machine, deliveries)
  }

  #forward(
    frame: Uint8Array,
    fromPort: number | undefined,
    from: MachinePort | undefined,
    deliveries: Delivery[],
  ): void {
    const destination = destinationOf(frame)
    if (isGroup(destination)) {
      this.#counts.framesFlooded++
      this.#flood(frame, fromPort, deliveries)
      for (const machine of this.#machinesByMac.values()) {
        if (machine !== from) this.#deliverToMachine(machine, frame, deliveries)
      }
      return
    }
    const machine = this.#machinesByMac.get(destination)
    if (machine) {
      this.#counts.framesForwarded++
      if (machine !== from) this.#deliverToMachine(machine, frame, deliveries)
      return
    }
    const port = this.#stations.get(destination)
    if (port === undefined) {
      this.#counts.framesFlooded++
      this.#flood(frame, fromPort, deliveries)
    } else {
      this.#counts.framesForwarded++
      if (port !== fromPort) this.#deliverToPlainPort(port, frame, deliveries)
    }
  }

  #flood(frame: Uint8Array, fromPort: number | undefined, deliveries: Delivery[]): void {
    for (const port of this.#plainPorts.keys()) {
      if (port !== fromPort) this.#deliverToPlainPort(port, frame, deliveries)
    }
  }

  #deliverToPlainPort(port: number, frame: Uint8Array, deliveries: Delivery[]): void {
    const plainPort = this.#plainPorts.get(port)
    assert(plainPort, 'stations are learned on open ports only')
    if (plainPort.onlyFrom !== undefined && plainPort.onlyFrom !== sourceOf(frame)) return
    deliveries.push({ kind: 'plain-frame', port, frame })
  }

  #deliverToMachine(machine: MachinePort, frame: Uint8Array, deliveries: Delivery[]): void {
    if (!machine.isBound) {
      machine.counts.unboundDropped++
      return
    }
    const kept = machine.kept.add(frame)
    if (!kept) {
      machine.counts.fullDropped++
      return
    }
    this.#controlFlow(machine, deliveries)
    if (machine.port === undefined) return
    machine.counts.framesDelivered++
    deliveries.push({ kind: 'machine-frame', port: machine.port, frameId: kept.frameId, frame: kept.frame })
  }

  /** Pauses the machine's private ports while its store is more than half full, resumes them when it is a quarter full. */
  #controlFlow(machine: MachinePort, deliveries: Delivery[]): void {
    for (const [port, plainPort] of this.#plainPorts) {
      if (plainPort.onlyFrom !== machine.mac) continue
      const isTooFull = machine.kept.fill > (plainPort.isPaused ? 0.25 : 0.5)
      if (isTooFull === plainPort.isPaused) continue
      plainPort.isPaused = isTooFull
      deliveries.push({ kind: isTooFull ? 'pause' : 'resume', port })
    }
  }
}
