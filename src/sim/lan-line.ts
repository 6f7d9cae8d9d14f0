/** A replica's connection to the switch: the real `MachinePlace` over fake connections, made again when they break. */

import { macAt } from '../lan/frame.ts'
import { MachinePlace } from '../lan/machine-place.ts'
import type { MessageToReplica, MessageToSwitch } from '../lan/replica-message.ts'
import { type ReachPolicy, ReachProbe } from '../replication/reach-probe.ts'
import type { Actor } from './actor.ts'
import { lanHost } from './names.ts'
import type { End, Network } from './network.ts'
import type { LanHello } from './switch-server.ts'
import { tinyConfig } from './tiny-machine.ts'

export interface LanLineOptions {
  readonly actor: Actor
  readonly network: Network
  readonly replica: string
  readonly reach: ReachPolicy
  readonly onFrame: (frameId: bigint, bytes: Uint8Array) => void
  readonly onConfirmed: (sequence: bigint) => void
  readonly onFenced: () => void
}

const reconnectIntervalMs = 50
const mac = macAt(tinyConfig.nic!.mac, 0)

export class LanLine {
  readonly place: MachinePlace
  readonly #options: LanLineOptions
  readonly #probe: ReachProbe
  #end: End<MessageToSwitch | LanHello, MessageToReplica> | undefined
  #attempt = 0
  #isClosed = false

  constructor(options: LanLineOptions) {
    this.#options = options
    this.place = new MachinePlace(options.onConfirmed)
    this.#probe = new ReachProbe(() => this.#end?.send({ type: 'ping' }), options.reach)
  }

  connect(): void {
    if (this.#isClosed || this.#end) return
    const { actor, network, replica } = this.#options
    const attempt = ++this.#attempt
    network.connect<MessageToSwitch | LanHello, MessageToReplica>(actor, lanHost, 'switch', (end) => {
      if (attempt !== this.#attempt || this.#isClosed) {
        end?.close()
        return
      }
      if (!end) {
        this.place.giveUpUnconfirmed()
        this.#reconnect()
        return
      }
      this.#end = end
      end.listen({ onMessage: (message) => this.#onMessage(message), onClosed: () => this.#reconnect() })
      end.send({ type: 'iAm', replica })
    })
  }

  /** @returns whether the switch is in reach */
  onTick(): boolean {
    this.#probe.onTick()
    const abandonTicks = 5 * this.#options.reach.silenceTicks
    if (this.#probe.silentTicks > 0 && this.#probe.silentTicks % abandonTicks === 0) {
      this.#end?.close()
      this.#reconnect()
    }
    return this.#probe.isInReach
  }

  close(): void {
    this.#isClosed = true
    this.#end?.close()
  }

  #reconnect(): void {
    this.#end = undefined
    this.#attempt++
    this.place.onClosed()
    this.#options.actor.after(reconnectIntervalMs * 1000, () => this.connect())
  }

  #onMessage(message: MessageToReplica): void {
    const end = this.#end!
    switch (message.type) {
      case 'welcome':
        this.place.onConnected({
          bind: (binding) => end.send({ type: 'bind', request: { ...binding, mac } }),
          sendOutput: (sequence, frame) => end.send({ type: 'output', sequence, frame }),
          covered: (frameId) => end.send({ type: 'covered', frameId }),
        })
        return
      case 'bound':
        this.place.onBound(message.lastSequence)
        return
      case 'refused':
        this.#options.onFenced()
        return
      case 'frame':
        this.place.onFrame(message.frameId)
        this.#options.onFrame(message.frameId, message.frame)
        return
      case 'confirmed':
        this.place.onConfirmed(message.sequence)
        return
      case 'pong':
        this.#probe.onAnswer()
    }
  }
}
