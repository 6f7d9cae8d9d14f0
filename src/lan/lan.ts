/**
 * The LAN as one thing to start and stop: the switch with its listeners, its replica ports, and the gateway. It runs in
 * its own operating-system process, beside the replicas and outside of them, and outlives any of them.
 *
 * This file only wires: sockets call the switch, and the switch's deliveries go to sockets. Rules are in
 * ethernet-switch.ts and machine-port.ts.
 */

import type { Socket } from 'node:net'
import { assert, unreachable, WorldError } from '../base/assert.ts'
import type { Endpoint, SocketAddress } from '../net/address.ts'
import { connectTo } from '../net/connect.ts'
import { Listener } from '../net/listener.ts'
import {
  type Delivery,
  defaultSwitchLimits,
  EthernetSwitch,
  type SwitchLimits,
  type SwitchStatistics,
} from './ethernet-switch.ts'
import { type Mac, parseMac } from './frame.ts'
import { type Gateway, type GatewayOptions, startGateway } from './gateway.ts'
import { PlainPort } from './plain-port.ts'
import { ReplicaPort } from './replica-port.ts'

export interface LanMachine {
  readonly name: string
  /** As `52:54:00:12:34:56`. */
  readonly mac: string
  /** The secret that this machine's replicas share with the switch. */
  readonly token: string
}

export interface LanOptions {
  /** A unix socket on which stations join: QEMU guests (`-netdev stream`), other switches. */
  readonly plainSocketPath?: string
  /** Unix sockets of peers that listen themselves (a passt of the user's own). */
  readonly plainConnectPaths?: readonly string[]
  readonly replicaListen: Endpoint
  readonly machines: readonly LanMachine[]
  readonly gateway?: GatewayOptions
  readonly limits?: SwitchLimits
  /** One line per notable happening. */
  readonly trace?: (line: string) => void
  /** The gateway ended by itself: connections through it are gone. */
  readonly onGatewayLost?: (error: WorldError) => void
}

export interface LanStatistics extends SwitchStatistics {
  /** Frames that plain ports dropped because their peer did not read. */
  readonly queueFullDropped: number
}

export interface Lan {
  /** Where replicas connect; with port 0 in the options, the port that was picked. */
  readonly replicaAddress: SocketAddress
  /** passt's process, for doctors and tests. */
  readonly gatewayProcessId: number | undefined
  statistics(): LanStatistics
  close(): Promise<void>
}

/** Starts the LAN, or throws a `WorldError` and leaves nothing behind. */
export async function startLan(options: LanOptions): Promise<Lan> {
  const lan = new RunningLan(options)
  try {
    await lan.start()
    return lan
  } catch (error) {
    await lan.close()
    throw error
  }
}

class RunningLan implements Lan {
  readonly #options: LanOptions
  readonly #switch: EthernetSwitch
  readonly #tokens: ReadonlyMap<string, string>
  readonly #macs: ReadonlyMap<string, Mac>
  readonly #plainPorts = new Map<number, PlainPort>()
  readonly #replicaPorts = new Map<number, ReplicaPort>()
  /** Replica connections that have not said hello. */
  readonly #strangers = new Set<ReplicaPort>()
  readonly #listeners: Listener[] = []
  #gateway: Gateway | undefined
  #replicaAddress: SocketAddress
  #queueFullDropped = 0
  #isClosing = false

  constructor(options: LanOptions) {
    this.#options = options
    this.#tokens = new Map(options.machines.map(({ name, token }) => [name, token]))
    this.#macs = new Map(options.machines.map(({ name, mac }) => [name, parseMac(mac)]))
    const stations = [...this.#macs].map(([name, mac]) => ({ name, mac }))
    if (stations.length < options.machines.length) {
      throw new WorldError('double-machine', 'two machines have the same name')
    }
    this.#switch = new EthernetSwitch(stations, options.limits ?? defaultSwitchLimits)
    this.#replicaAddress = options.replicaListen.address
  }

  get replicaAddress(): SocketAddress {
    return this.#replicaAddress
  }

  get gatewayProcessId(): number | undefined {
    return this.#gateway?.processId
  }

  async start(): Promise<void> {
    const { plainSocketPath, plainConnectPaths = [], replicaListen, gateway } = this.#options
    this.#replicaAddress = await this.#listen('switch', replicaListen, (socket) => this.#openReplicaPort(socket))
    if (plainSocketPath !== undefined) {
      const endpoint = { address: { path: plainSocketPath } }
      await this.#listen('station', endpoint, (socket) => this.#openPlainPort(socket))
    }
    for (const path of plainConnectPaths) {
      this.#openPlainPort(await connectTo({ address: { path } }, { purpose: 'station' }))
    }
    if (gateway) await this.#startGateway(gateway)
  }

  statistics(): LanStatistics {
    let queueFullDropped = this.#queueFullDropped
    for (const port of this.#plainPorts.values()) queueFullDropped += port.framesDropped
    return { ...this.#switch.statistics(), queueFullDropped }
  }

  async close(): Promise<void> {
    this.#isClosing = true
    for (const port of [...this.#plainPorts.values(), ...this.#replicaPorts.values(), ...this.#strangers]) port.close()
    await this.#gateway?.close()
    await Promise.all(this.#listeners.map((listener) => listener.close()))
  }

  #trace(line: string): void {
    if (!this.#isClosing) this.#options.trace?.(line)
  }

  async #listen(purpose: string, endpoint: Endpoint, onSocket: (socket: Socket) => void): Promise<SocketAddress> {
    const trace = (line: string): void => this.#trace(line)
    const listener = await Listener.open({ purpose, endpoint, onConnection: onSocket, trace })
    this.#listeners.push(listener)
    return listener.address
  }

  async #startGateway(options: GatewayOptions): Promise<void> {
    const mac =
      options.machine === undefined && this.#macs.size === 1
        ? [...this.#macs.values()][0]
        : this.#macs.get(options.machine ?? '')
    if (mac === undefined) {
      throw new WorldError(
        'no-such-machine',
        'the gateway must name the machine it stands before, and name a known one',
      )
    }
    this.#gateway = await startGateway(options, mac, (error) => {
      this.#trace(`gateway: ${error.message}`)
      this.#options.onGatewayLost?.(error)
    })
    this.#adoptPlainPort(this.#gateway.port, 'gateway', mac)
  }

  #openPlainPort(socket: Socket): void {
    this.#adoptPlainPort(new PlainPort(socket, { onFrame: () => {}, onClosed: () => {} }), 'plain port')
  }

  #adoptPlainPort(plainPort: PlainPort, name: string, onlyFrom?: Mac): void {
    const port = this.#switch.openPlainPort(onlyFrom)
    this.#plainPorts.set(port, plainPort)
    plainPort.setHandlers({
      onFrame: (frame) => {
        const isGateway = plainPort === this.#gateway?.port
        const forLan = isGateway ? this.#gateway?.handshakes.onReceived(frame) : frame
        if (forLan) this.#deliver(this.#switch.onFrame(port, forLan))
      },
      onClosed: (error) => {
        this.#queueFullDropped += plainPort.framesDropped
        this.#plainPorts.delete(port)
        this.#switch.closePort(port)
        if (error) this.#trace(`${name} ${port}: closed: ${error.message}`)
      },
    })
  }

  #openReplicaPort(socket: Socket): void {
    let port: number | undefined
    let who = 'replica port: stranger'
    const replicaPort: ReplicaPort = new ReplicaPort(socket, {
      tokenOf: (machine) => this.#tokens.get(machine),
      onWelcomed: (machine, replica) => {
        port = this.#switch.openReplicaPort(machine, replica)
        who = `replica port ${port}: ${JSON.stringify(replica)} of ${JSON.stringify(machine)}`
        this.#strangers.delete(replicaPort)
        this.#replicaPorts.set(port, replicaPort)
      },
      onMessage: (message) => {
        assert(port !== undefined, 'messages come after the welcome')
        switch (message.type) {
          case 'output':
            return this.#deliver(this.#switch.onOutput(port, message.sequence, message.frame))
          case 'covered':
            return this.#deliver(this.#switch.onCovered(port, message.frameId))
          case 'announce':
            return this.#deliver(this.#switch.onAnnounce(port))
          case 'ping':
            return replicaPort.send({ type: 'pong' })
          case 'bind': {
            const deliveries = this.#switch.onBind(port, message.request)
            const answer = deliveries.some(({ kind }) => kind === 'bound') ? 'bound' : 'refused'
            this.#trace(`${who}: ${answer} in generation ${message.request.generation}`)
            return this.#deliver(deliveries)
          }
          default:
            return unreachable(message)
        }
      },
      onClosed: (error) => {
        this.#strangers.delete(replicaPort)
        if (port !== undefined) {
          this.#replicaPorts.delete(port)
          this.#switch.closePort(port)
        }
        this.#trace(`${who}: closed${error ? `: ${error.message}` : ''}`)
      },
    })
    this.#strangers.add(replicaPort)
  }

  #deliverToPlainPort(port: number, frame: Uint8Array): void {
    const plainPort = this.#plainPorts.get(port)
    const isSent = plainPort?.send(frame) ?? false
    const gateway = this.#gateway
    if (!isSent || !gateway || plainPort !== gateway.port) return
    const next = gateway.handshakes.onSent(frame)
    if (next) gateway.port.send(next)
  }

  #deliver(deliveries: readonly Delivery[]): void {
    for (const delivery of deliveries) {
      if (delivery.kind === 'plain-frame') {
        this.#deliverToPlainPort(delivery.port, delivery.frame)
        continue
      }
      if (delivery.kind === 'pause' || delivery.kind === 'resume') {
        this.#plainPorts.get(delivery.port)?.[delivery.kind]()
        continue
      }
      const replicaPort = this.#replicaPorts.get(delivery.port)
      switch (delivery.kind) {
        case 'machine-frame':
          replicaPort?.send({ type: 'frame', frameId: delivery.frameId, frame: delivery.frame })
          break
        case 'confirmed':
          replicaPort?.confirm(delivery.sequence)
          break
        case 'bound': {
          const { generation, lastSequence, lastFrameId } = delivery
          replicaPort?.send({ type: 'bound', generation, lastSequence, lastFrameId })
          break
        }
        case 'refused':
          replicaPort?.send({ type: 'refused', generation: delivery.generation, reason: delivery.reason })
          break
        default:
          unreachable(delivery)
      }
    }
  }
}
