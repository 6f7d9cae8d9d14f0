/**
 * The logging channel's sockets: a byte stream cut into messages, one connection per backup. A closed socket is reported
 * at once; a killed process's kernel closes its sockets, so this is how most failures are noticed.
 */

import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { WorldError } from '../base/assert.ts'
import type { ChannelId } from '../replication/effects.ts'
import { encodeMessage, MessageDecoder } from '../replication/message-codec.ts'
import type { Message } from '../replication/messages.ts'

export interface ChannelEvents {
  readonly onMessage: (message: Message) => void
  /** The peer sent bytes that are no message. */
  readonly onBadMessage: (detail: string) => void
  readonly onClosed: () => void
}

/** One connection, either side's. */
export class LoggingChannel {
  readonly #socket: Socket
  #isClosed = false
  #isDeaf = false
  #isMute = false

  constructor(socket: Socket, events: ChannelEvents) {
    this.#socket = socket
    socket.setNoDelay(true)
    const decoder = new MessageDecoder()
    socket.on('data', (chunk: Buffer) => {
      if (this.#isDeaf) return
      try {
        for (const message of decoder.push(chunk)) if (!this.#isClosed) events.onMessage(message)
      } catch (error) {
        if (!(error instanceof WorldError)) throw error
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
    if (!this.#isClosed && !this.#isMute) this.#socket.write(encodeMessage(message))
  }

  /** For fault trials: from now on nothing passes in this direction, not even the end of the connection. */
  cut(direction: 'in' | 'out' | 'both'): void {
    if (direction !== 'out') this.#isDeaf = true
    if (direction !== 'in') this.#isMute = true
  }

  /** Sends what is queued, then ends; nothing is reported any more. */
  close(): void {
    this.#isClosed = true
    if (!this.#isMute) this.#socket.destroySoon()
  }
}

export interface ListeningChannel {
  readonly port: number
  close(): void
}

/** The primary's side: accepts backups on loopback. `onOpen` gets a number for the connection and the socket's channel. */
export async function listenForBackups(
  onOpen: (id: ChannelId, open: (events: ChannelEvents) => LoggingChannel) => void,
): Promise<ListeningChannel> {
  let nextId: ChannelId = 1
  const server: Server = createServer((socket) => {
    onOpen(nextId++, (events) => new LoggingChannel(socket, events))
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as { port: number }
  return { port, close: () => server.close() }
}

/** The backup's side. @throws WorldError `primary-unreachable` */
export async function connectToPrimary(port: number, events: ChannelEvents): Promise<LoggingChannel> {
  const socket = createConnection({ host: '127.0.0.1', port })
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', (error) =>
      reject(new WorldError('primary-unreachable', `the primary does not answer on port ${port} (${error.message})`)),
    )
  })
  socket.removeAllListeners('error')
  return new LoggingChannel(socket, events)
}
