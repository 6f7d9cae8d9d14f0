/**
 * The machine's network card on our own switch: released frames go there, inbound ones come back as inputs. Frames sent
 * before the MAC is bound wait for it (machine-place.ts).
 *
 * When the connection breaks, the client connects and binds again, and nothing is lost; when nobody is there, frames are lost as
 * on any network.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { WorldError } from '../base/assert.ts'
import { type LanBinding, LanClient } from '../lan/lan-client.ts'
import { MachinePlace } from '../lan/machine-place.ts'
import type { Endpoint } from '../net/address.ts'
import { ReachProbe } from '../replication/reach-probe.ts'
import type { NetworkBackend, NetworkBinding, NetworkEvents } from './network-backend.ts'

export interface LanBackendOptions extends NetworkEvents {
  readonly endpoint: Endpoint
  readonly machine: string
  readonly mac: string
  readonly replica: string
  readonly token: string
}

const reconnectIntervalMs = 50

/**
 * A TCP connection on which nothing was heard for so many ticks is given up for a new one: 5 s. A unix socket never is: it
 * ends with its peer, so one that is silent leads to a switch that stands still, and will read all that was sent.
 */
const abandonTicks = 10

/** QEMU's schedule for announcing where a machine is now, after the first time at the bind. */
const announceAgainMs = [50, 150, 250, 350]

export class LanBackend implements NetworkBackend {
  readonly #options: LanBackendOptions
  #client: LanClient | undefined
  readonly #place: MachinePlace
  /** The last bind that was sent. */
  #binding: Promise<void> | undefined
  readonly #probe = new ReachProbe(() => this.#client?.ping())
  #isConnecting = false
  #isClosed = false

  constructor(options: LanBackendOptions) {
    this.#options = options
    this.#place = new MachinePlace(options.onConfirmed)
  }

  /** Connects, without binding: a backup does so early, to be quick later. */
  async connect(): Promise<void> {
    const { endpoint, machine, mac, replica, token, onFenced } = this.#options
    const client = await LanClient.connect({
      ...endpoint,
      machine,
      mac,
      replica,
      token,
      onFrame: (frameId, bytes) => {
        this.#place.onFrame(frameId)
        this.#options.onFrame(frameId, bytes)
      },
      onPong: () => this.#probe.onAnswer(),
      onConfirmed: (numberOnLan) => this.#place.onConfirmed(numberOnLan),
      onFenced,
      onClosed: () => void this.#reconnect(),
    })
    if (this.#isClosed) {
      client.close()
      return
    }
    this.#client = client
    this.#place.onConnected({
      bind: (binding) => {
        this.#binding = this.#bindTo(client, binding)
      },
      sendOutput: (sequence, frame) => client.sendOutput(sequence, frame),
      covered: (frameId) => client.covered(frameId),
    })
  }

  /**
   * Takes the machine's MAC in a generation that was won. Frames after `receivedFrameId` are delivered (again). `logId` names
   * this run of the machine, in which outputs and frames are numbered. Without a switch it is done as soon as there is one.
   * @throws WorldError `bind-refused`: another replica has the MAC
   */
  async bind(binding: NetworkBinding): Promise<void> {
    this.#place.bind(binding)
    await this.#binding
  }

  async #bindTo(client: LanClient, binding: Required<LanBinding>): Promise<void> {
    let forwarded: bigint
    try {
      forwarded = (await client.bind(binding)).lastSequence
    } catch (error) {
      // The switch went away in the middle: whoever connects again binds again.
      if (error instanceof WorldError && error.code === 'lan-closed') return
      throw error
    }
    // Before the answer was heard the connection may have ended, and another one begun.
    if (this.#client !== client) return
    this.#place.onBound(forwarded)
    for (const delayMs of announceAgainMs) setTimeout(() => this.#client?.announce(), delayMs).unref()
  }

  send(sequence: bigint, bytes: Uint8Array): void {
    this.#place.send(sequence, bytes)
  }

  covered(frameId: bigint): void {
    this.#place.covered(frameId)
  }

  /** @returns whether the switch is in reach */
  onTick(): boolean {
    this.#probe.onTick()
    const mayBeCut = this.#options.endpoint.address.path === undefined
    if (mayBeCut && this.#client && this.#probe.silentTicks % abandonTicks === 0) {
      // Behind a cable that was cut and mended TCP may need minutes to find out; a new connection does not.
      this.#client.close()
      void this.#reconnect()
    }
    return this.#probe.isInReach
  }

  close(): void {
    this.#isClosed = true
    this.#client?.close()
  }

  async #reconnect(): Promise<void> {
    this.#client = undefined
    this.#place.onClosed()
    if (this.#isConnecting) return
    this.#isConnecting = true
    this.#options.trace('lan: the switch is gone; connecting again')
    try {
      while (!this.#isClosed && !this.#client) {
        try {
          await this.connect()
          await this.#binding
        } catch (error) {
          this.#place.giveUpUnconfirmed()
          if (error instanceof WorldError && error.code === 'bind-refused') {
            this.#options.onFenced()
            return
          }
          await sleep(reconnectIntervalMs)
        }
      }
    } finally {
      this.#isConnecting = false
    }
  }
}
