/**
 * The logging channel's sockets: a byte stream cut into messages, one connection per backup. A closed socket is reported
 * at once; a killed process's kernel closes its sockets, so this is how most failures are noticed.
 */

import type { Socket } from 'node:net'
import { WorldError } from '../base/assert.ts'
import type { Endpoint, SocketAddress } from '../net/address.ts'
import { connectTo } from '../net/connect.ts'
import { Listener } from '../net/listener.ts'
import { encodeMessage, MessageDecoder } from '../replication/message-codec.ts'
import type { Message } from '../replication/messages.ts'
import { ChannelTraffic } from './channel-traffic.ts'

export interface ChannelEvents {
  readonly onMessage: (message: Message) => void
  /** The peer sent bytes that are no message. */
  readonly onBadMessage: (detail: string) => void
  readonly onClosed: () => void
}

/**
 * A peer that lets so much pile up reads nothing any more, or asks for boot artefacts and does not take them. Four times
 * what a primary lets be unreceived before it stops.
 */
const maxUnsentBytes = 64 * 1024 * 1024

/** How long a closed connection may take to deliver its last words. */
const lingerMs = 2000

/** One connection, either side's. */
export class LoggingChannel {
  readonly #socket: Socket
  readonly #traffic: ChannelTraffic
  #events: ChannelEvents
  #isClosed = false
  #isDeaf = false
  #isMute = false
  #isSpoilt = false
  #delayMs = 0

  constructor(socket: Socket, events: ChannelEvents, traffic = new ChannelTraffic()) {
    this.#socket = socket
    this.#events = events
    this.#traffic = traffic
    const decoder = new MessageDecoder()
    socket.on('data', (chunk: Buffer) => this.#later(() => this.#onData(decoder, chunk)))
    socket.on('error', () => socket.destroy())
    socket.on('close', () => this.#later(() => this.#onClosed()))
  }

  #onData(decoder: MessageDecoder, chunk: Buffer): void {
    if (this.#isDeaf || this.#isClosed || this.#isSpoilt) return
    this.#traffic.onReceived(chunk.length)
    try {
      for (const message of decoder.push(chunk)) if (!this.#isClosed) this.#events.onMessage(message)
    } catch (error) {
      if (!(error instanceof WorldError)) throw error
      // Behind it nothing can be understood any more.
      this.#isSpoilt = true
      if (!this.#isClosed) this.#events.onBadMessage(error.message)
    }
  }

  #onClosed(): void {
    if (this.#isClosed || this.#isDeaf) return
    this.#isClosed = true
    this.#events.onClosed()
  }

  /** What comes from now on is for this listener. */
  listen(events: ChannelEvents): void {
    this.#events = events
  }

  send(message: Message): void {
    if (this.#isClosed || this.#isMute) return
    if (this.#socket.writableLength > maxUnsentBytes) this.#socket.destroy()
    else {
      const bytes = encodeMessage(message)
      this.#traffic.onSent(bytes.length)
      this.#later(() => this.#socket.write(bytes))
    }
  }

  /** For trials of a backup that is far away: from now on everything takes so long, in each direction. Never less again. */
  delay(oneWayMs: number): void {
    this.#delayMs = oneWayMs
  }

  /** Timers of one duration fire in order, so the channel stays one. */
  #later(happen: () => void): void {
    if (this.#delayMs === 0) happen()
    else setTimeout(happen, this.#delayMs)
  }

  /** For fault trials: from now on nothing passes in this direction, not even the end of the connection. */
  cut(direction: 'in' | 'out' | 'both'): void {
    if (direction !== 'out') this.#isDeaf = true
    if (direction !== 'in') this.#isMute = true
  }

  /** Sends what is queued, then ends; nothing is reported any more. */
  close(): void {
    this.#isClosed = true
    if (this.#isMute) return
    this.#socket.destroySoon()
    const lingering = setTimeout(() => this.#socket.destroy(), lingerMs).unref()
    // Else every connection that ended long ago would be kept for as long.
    this.#socket.once('close', () => clearTimeout(lingering))
  }
}

export interface ListeningChannel {
  readonly address: SocketAddress
  close(): void
}

/** Accepts other replicas of the machine. `onOpen` makes the connection's channel, for those who listen to it. */
export async function listenForPeers(
  endpoint: Endpoint,
  onOpen: (open: (events: ChannelEvents, traffic?: ChannelTraffic) => LoggingChannel) => void,
  trace: (line: string) => void,
): Promise<ListeningChannel> {
  return await Listener.open({
    purpose: 'logging channel',
    endpoint,
    // A frozen process that was this replica before.
    takesPlace: true,
    onConnection: (socket) => onOpen((events, traffic) => new LoggingChannel(socket, events, traffic)),
    trace,
  })
}

/** @throws WorldError `cannot-connect`, `key-refused` */
export async function connectToPeer(
  endpoint: Endpoint,
  purpose: string,
  events: ChannelEvents,
  traffic?: ChannelTraffic,
): Promise<LoggingChannel> {
  return new LoggingChannel(await connectTo(endpoint, { purpose }), events, traffic)
}

/** The backup's side. @throws WorldError `primary-unreachable` */
export async function connectToPrimary(
  endpoint: Endpoint,
  events: ChannelEvents,
  traffic?: ChannelTraffic,
): Promise<LoggingChannel> {
  try {
    return await connectToPeer(endpoint, 'primary', events, traffic)
  } catch (error) {
    if (error instanceof WorldError && error.code === 'cannot-connect') {
      throw new WorldError('primary-unreachable', error.message)
    }
    throw error
  }
}
