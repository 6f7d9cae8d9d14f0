/**
 * A backup's end of the logging channel. Until the backup is accepted it may be connected more than once, and a sibling that
 * went live connects to it in turn: who listens is told apart from which connection it is.
 */

import type { Endpoint } from '../net/address.ts'
import type { Message } from '../replication/messages.ts'
import type { ChannelTraffic } from './channel-traffic.ts'
import { type ChannelEvents, connectToPrimary, type LoggingChannel } from './logging-channel.ts'

const deaf: ChannelEvents = { onMessage: () => {}, onBadMessage: () => {}, onClosed: () => {} }

export class PrimaryChannel {
  readonly #endpoints: readonly Endpoint[]
  readonly #traffic: ChannelTraffic | undefined
  #listener: ChannelEvents = deaf
  #channel: LoggingChannel | undefined

  /** @param endpoints where the primary may be */
  constructor(endpoints: readonly Endpoint[], traffic?: ChannelTraffic) {
    this.#endpoints = endpoints
    this.#traffic = traffic
  }

  get isOpen(): boolean {
    return this.#channel !== undefined
  }

  /** In place of an earlier connection: the first place where somebody is. @throws WorldError `primary-unreachable`, `key-refused` */
  async connect(): Promise<void> {
    this.close()
    for (const [index, endpoint] of this.#endpoints.entries()) {
      try {
        this.adopt(await connectToPrimary(endpoint, deaf, this.#traffic))
        return
      } catch (error) {
        if (index === this.#endpoints.length - 1) throw error
      }
    }
  }

  /** In place of an earlier connection: this one leads to the primary now. */
  adopt(channel: LoggingChannel): void {
    this.close()
    channel.listen({
      onMessage: (message) => this.#listener.onMessage(message),
      onBadMessage: (detail) => this.#listener.onBadMessage(detail),
      onClosed: () => {
        if (this.#channel === channel) this.#channel = undefined
        this.#listener.onClosed()
      },
    })
    this.#channel = channel
  }

  /** What comes from now on is for this listener. */
  listen(listener: ChannelEvents): void {
    this.#listener = listener
  }

  send(message: Message): void {
    this.#channel?.send(message)
  }

  delay(oneWayMs: number): void {
    this.#channel?.delay(oneWayMs)
  }

  cut(direction: 'in' | 'out' | 'both'): void {
    this.#channel?.cut(direction)
  }

  /** Nothing is reported any more. */
  close(): void {
    this.#channel?.close()
    this.#channel = undefined
  }
}
