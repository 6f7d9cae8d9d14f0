/** A primary's ends of the logging channel: it listens, and has one connection per backup (or stranger). */

import type { Endpoint, SocketAddress } from '../net/address.ts'
import type { ChannelId } from '../replication/effects.ts'
import type { Message } from '../replication/messages.ts'
import { type ListeningChannel, type LoggingChannel, listenForBackups } from './logging-channel.ts'

export interface BackupChannelsEvents {
  readonly onOpen: (id: ChannelId) => void
  readonly onMessage: (id: ChannelId, message: Message) => void
  readonly onBadMessage: (id: ChannelId, detail: string) => void
  readonly onClosed: (id: ChannelId) => void
}

export class BackupChannels {
  readonly #channels = new Map<ChannelId, LoggingChannel>()
  #listening: ListeningChannel | undefined

  /** @returns where it really listens */
  async listen(
    endpoint: Endpoint,
    events: BackupChannelsEvents,
    trace: (line: string) => void,
  ): Promise<SocketAddress> {
    const onOpen: Parameters<typeof listenForBackups>[1] = (id, open) => {
      const channel = open({
        onMessage: (message) => events.onMessage(id, message),
        onBadMessage: (detail) => events.onBadMessage(id, detail),
        onClosed: () => {
          this.#channels.delete(id)
          events.onClosed(id)
        },
      })
      this.#channels.set(id, channel)
      events.onOpen(id)
    }
    this.#listening = await listenForBackups(endpoint, onOpen, trace)
    return this.#listening.address
  }

  send(id: ChannelId, message: Message): void {
    this.#channels.get(id)?.send(message)
  }

  /** The channel may be closed already. */
  close(id: ChannelId): void {
    this.#channels.get(id)?.close()
    this.#channels.delete(id)
  }

  cut(direction: 'in' | 'out' | 'both'): void {
    for (const channel of this.#channels.values()) channel.cut(direction)
  }

  closeAll(): void {
    this.#listening?.close()
    for (const channel of this.#channels.values()) channel.close()
  }
}
