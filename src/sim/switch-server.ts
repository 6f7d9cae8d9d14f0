/**
 * The fake switch's process: the real `EthernetSwitch` behind fake connections. If it is killed, all it knew is gone, as with
 * a real one; stations stay plugged in.
 */

import { type Delivery, EthernetSwitch } from '../lan/ethernet-switch.ts'
import { macAt } from '../lan/frame.ts'
import type { MessageToReplica, MessageToSwitch } from '../lan/replica-message.ts'
import type { Actor } from './actor.ts'
import { machineName } from './names.ts'
import type { End } from './network.ts'
import { tinyConfig } from './tiny-machine.ts'
import type { Witness } from './witness.ts'

/** The hello of a replica that has proved who it is. */
export interface LanHello {
  readonly type: 'iAm'
  readonly replica: string
}

export class SwitchServer {
  readonly actor: Actor
  readonly #switch: EthernetSwitch
  readonly #witness: Witness
  readonly #ends = new Map<number, End<MessageToReplica, MessageToSwitch | LanHello>>()
  readonly #stationPort: number
  readonly #onStationFrame: (frame: Uint8Array) => void

  constructor(actor: Actor, witness: Witness, onStationFrame: (frame: Uint8Array) => void) {
    this.actor = actor
    this.#witness = witness
    this.#onStationFrame = onStationFrame
    this.#switch = new EthernetSwitch([{ name: machineName, mac: macAt(tinyConfig.nic!.mac, 0) }])
    this.#stationPort = this.#switch.openPlainPort()
  }

  get statistics() {
    return this.#switch.statistics().machines[0]!
  }

  /** The stations, all behind one port, send a frame. */
  onStationFrame(frame: Uint8Array): void {
    this.#deliver(this.#switch.onFrame(this.#stationPort, frame))
  }

  onConnection(end: End<MessageToReplica, MessageToSwitch | LanHello>): void {
    let port: number | undefined
    let replica = ''
    end.listen({
      onMessage: (message) => {
        if (message.type === 'iAm') {
          replica = message.replica
          port = this.#switch.openReplicaPort(machineName, replica)
          this.#ends.set(port, end)
          end.send({ type: 'welcome' })
          return
        }
        if (port === undefined) return
        switch (message.type) {
          case 'bind':
            this.#deliver(this.#switch.onBind(port, message.request), replica)
            return
          case 'output':
            this.#onOutput(port, replica, message.sequence, message.frame)
            return
          case 'covered':
            this.#deliver(this.#switch.onCovered(port, message.frameId))
            return
          case 'announce':
            this.#deliver(this.#switch.onAnnounce(port))
            return
          case 'ping':
            end.send({ type: 'pong' })
        }
      },
      onClosed: () => {
        if (port === undefined) return
        this.#ends.delete(port)
        this.#switch.closePort(port)
      },
    })
  }

  #onOutput(port: number, replica: string, sequence: bigint, frame: Uint8Array): void {
    const deliveries = this.#switch.onOutput(port, sequence, frame)
    const isForwarded = deliveries.some(({ kind }) => kind === 'plain-frame')
    const fate = isForwarded ? 'forwarded' : deliveries.length > 0 ? 'repeated' : 'fenced'
    this.#witness.onFrameOutput(replica, sequence - 1n, frame, fate)
    this.#deliver(deliveries)
  }

  #deliver(deliveries: readonly Delivery[], binding?: string): void {
    for (const delivery of deliveries) {
      switch (delivery.kind) {
        case 'plain-frame':
          this.#onStationFrame(delivery.frame)
          break
        case 'machine-frame':
          this.#ends.get(delivery.port)?.send({ type: 'frame', frameId: delivery.frameId, frame: delivery.frame })
          break
        case 'confirmed':
          this.#ends.get(delivery.port)?.send({ type: 'confirmed', sequence: delivery.sequence })
          break
        case 'bound': {
          const { generation, lastSequence, lastFrameId } = delivery
          if (binding !== undefined) {
            const redelivered = deliveries.filter(({ kind }) => kind === 'machine-frame').length
            this.#witness.onBound(binding, Number(generation), redelivered)
          }
          this.#ends.get(delivery.port)?.send({ type: 'bound', generation, lastSequence, lastFrameId })
          break
        }
        case 'refused':
          this.#ends
            .get(delivery.port)
            ?.send({ type: 'refused', generation: delivery.generation, reason: delivery.reason })
          break
        case 'pause':
        case 'resume':
          // The stations wait for answers; there is nothing to pause.
          break
      }
    }
  }
}
