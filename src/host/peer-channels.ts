/**
 * A replica's connections with the other replicas of its machine, but for the one to the primary that it follows: a primary
 * has one per backup (or stranger); a backup listens too, for a sibling that wins, and calls its siblings when it wins.
 */

import type { Endpoint, SocketAddress } from '../net/address.ts'
import type { ChannelId } from '../replication/effects.ts'
import type { Message } from '../replication/messages.ts'
import { ChannelTraffic } from './channel-traffic.ts'
import {
  type ChannelEvents,
  connectToPeer,
  type ListeningChannel,
  type LoggingChannel,
  listenForPeers,
} from './logging-channel.ts'

export interface PeerChannelsEvents {
  /** Somebody has connected. */
  readonly onOpen: (id: ChannelId) => void
  readonly onMessage: (id: ChannelId, message: Message) => void
  readonly onBadMessage: (id: ChannelId, detail: string) => void
  readonly onClosed: (id: ChannelId) => void
}

export class PeerChannels {
  /** Of all of them, and of those that were taken. */
  readonly traffic = new ChannelTraffic()
  readonly #events: PeerChannelsEvents
  readonly #channels = new Map<ChannelId, LoggingChannel>()
  #listening: ListeningChannel | undefined
  #nextId: ChannelId = 1

  constructor(events: PeerChannelsEvents) {
    this.#events = events
  }

  /** @returns where it really listens */
  async listen(endpoint: Endpoint, trace: (line: string) => void): Promise<SocketAddress> {
    const onOpen = (open: (events: ChannelEvents, traffic: ChannelTraffic) => LoggingChannel): void => {
      const id = this.#nextId++
      this.#channels.set(id, open(this.#eventsOf(id), this.traffic))
      this.#events.onOpen(id)
    }
    this.#listening = await listenForPeers(endpoint, onOpen, trace)
    return this.#listening.address
  }

  /** Connects to a peer. `onOpen` is told before anything the peer says. @throws WorldError */
  async dial(endpoint: Endpoint, onOpen: (id: ChannelId) => void): Promise<ChannelId> {
    const id = this.#nextId++
    this.#channels.set(id, await connectToPeer(endpoint, 'replica', this.#eventsOf(id), this.traffic))
    onOpen(id)
    return id
  }

  has(id: ChannelId): boolean {
    return this.#channels.has(id)
  }

  send(id: ChannelId, message: Message): void {
    this.#channels.get(id)?.send(message)
  }

  /** The channel may be closed already. */
  close(id: ChannelId): void {
    this.#channels.get(id)?.close()
    this.#channels.delete(id)
  }

  /** The connection is somebody else's from now on. Undefined: it has ended. */
  take(id: ChannelId): LoggingChannel | undefined {
    const channel = this.#channels.get(id)
    this.#channels.delete(id)
    return channel
  }

  cut(direction: 'in' | 'out' | 'both'): void {
    for (const channel of this.#channels.values()) channel.cut(direction)
  }

  closeAll(): void {
    this.#listening?.close()
    for (const channel of this.#channels.values()) channel.close()
    this.#channels.clear()
  }

  #eventsOf(id: ChannelId): ChannelEvents {
    return {
      onMessage: (message) => this.#events.onMessage(id, message),
      onBadMessage: (detail) => this.#events.onBadMessage(id, detail),
      onClosed: () => {
        this.#channels.delete(id)
        this.#events.onClosed(id)
      },
    }
  }
}
