/**
 * The logging channel's sockets: a byte stream cut into messages, one connection per backup. A closed socket is reported
 * at once; a killed process's kernel closes its sockets, so this is how most failures are noticed.
 */

import type { Socket } from 'node:net'
import { WorldError } from '../base/assert.ts'
import type { Endpoint, SocketAddress } from '../net/address.ts'
import { connectTo } from '../net/connect.ts'
import { Listener } from '../net/listener.ts'
import type { ChannelId } from '../replication/effects.ts'
import { encodeMessage, MessageDecoder } from '../replication/message-codec.ts'
import type { Message } from '../replication/messages.ts'

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
  #isClosed = false
  #isDeaf = false
  #isMute = false
  #isSpoilt = false

  constructor(socket: Socket, events: ChannelEvents) {
    this.#socket = socket
    const decoder = new MessageDecoder()
    socket.on('data', (chunk: Buffer) => {
      if (this.#isDeaf || this.#isClosed || this.#isSpoilt) return
      try {
        for (const message of decoder.push(chunk)) if (!this.#isClosed) events.onMessage(message)
      } catch (error) {
        if (!(error instanceof WorldError)) throw error
        // Behind it nothing can be understood any more.
        this.#isSpoilt = true
        if (!this.#isClosed) events.onBadMessage(error.message)
      }
    })
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      if (this.#isClosed || this.#isDeaf) return
      this.#isClosed = true
      events.onClosed()
    })
  }

  send(message: Message): void {
    if (this.#isClosed || this.#isMute) return
    if (this.#socket.writableLength > maxUnsentBytes) this.#socket.destroy()
    else this.#socket.write(encodeMessage(message))
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

/** The primary's side: accepts backups. `onOpen` gets a number for the connection and the socket's channel. */
export async function listenForBackups(
  endpoint: Endpoint,
  onOpen: (id: ChannelId, open: (events: ChannelEvents) => LoggingChannel) => void,
  trace: (line: string) => void,
): Promise<ListeningChannel> {
  let nextId: ChannelId = 1
  return await Listener.open({
    purpose: 'logging channel',
    endpoint,
    // A frozen process that was this replica before.
    takesPlace: true,
    onConnection: (socket) => onOpen(nextId++, (events) => new LoggingChannel(socket, events)),
    trace,
  })
}

/** The backup's side. @throws WorldError `primary-unreachable` */
export async function connectToPrimary(endpoint: Endpoint, events: ChannelEvents): Promise<LoggingChannel> {
  try {
    return new LoggingChannel(await connectTo(endpoint, { purpose: 'primary' }), events)
  } catch (error) {
    if (error instanceof WorldError && error.code === 'cannot-connect') {
      throw new WorldError('primary-unreachable', error.message)
    }
    throw error
  }
}
