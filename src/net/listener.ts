/**
 * A listening socket that hands over only connections of peers: over a unix socket, whoever the file's permissions let in;
 * over TCP, whoever has proved to have the key. Strangers get nothing: no byte of ours but TLS's own, no line of trace for
 * each, and no room that a peer needs.
 *
 *   accepted ──(opening: NBD's STARTTLS)──► TLS handshake ──► onConnection
 *      └────────────── 5 s, 64 at a time ────────┴── anything else: closed
 *
 * When strangers fill the room, the one that came first leaves: a peer needs a few milliseconds, and gets them.
 */

import { createServer, type Server, type Socket } from 'node:net'
import { type Endpoint, keyOf, type SocketAddress } from './address.ts'
import { tune } from './connect.ts'
import { listenOn } from './listen.ts'
import { secureAsServer } from './secure-socket.ts'
import type { SharedKey } from './shared-key.ts'
import { StrangerTrace } from './stranger-trace.ts'

/** Beyond this many peers a new one is dropped at once: bounds memory against one that opens thousands. */
const maxPeers = 128

const maxStrangers = 64
const handshakeTimeoutMs = 5_000

export interface ListenerOptions<Opened> {
  /** What the address is for, as error and trace lines say it (`disk`). */
  readonly purpose: string
  readonly endpoint: Endpoint
  /** A unix socket: whoever listens there has lost the place. */
  readonly takesPlace?: boolean
  /**
   * What is said in plain text before TLS, on TCP only: resolves when TLS is to begin, and has left nothing unread.
   * Default: nothing.
   */
  readonly open?: (socket: Socket) => Promise<Opened>
  /** @param opened what `open` found out; undefined on a unix socket, where nothing is opened */
  readonly onConnection: (socket: Socket, opened: Opened | undefined) => void
  /** A peer that shuts its side still gets the answers it waits for; closing is the owner's. Default false. */
  readonly allowHalfOpen?: boolean
  readonly trace?: (line: string) => void
}

export class Listener {
  /** Where it really listens: port 0 is replaced by the port it got. */
  readonly address: SocketAddress
  readonly #server: Server
  readonly #close: () => void

  private constructor(server: Server, address: SocketAddress, close: () => void) {
    this.#server = server
    this.address = address
    this.#close = close
  }

  /** @throws WorldError of one line when the address cannot be had, or is TCP and has no key */
  static async open<Opened = undefined>(options: ListenerOptions<Opened>): Promise<Listener> {
    const key = keyOf(options.endpoint, options.purpose)
    const doorway = new Doorway(options, key)
    const server = createServer({ allowHalfOpen: options.allowHalfOpen ?? false }, (socket) => doorway.onSocket(socket))
    const address = await listenOn(server, options.endpoint.address, options.purpose, options.takesPlace)
    return new Listener(server, address, () => doorway.close())
  }

  /** Drops every connection. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    this.#close()
    await closed
  }
}

/** Where connections wait until they have shown what they are. */
class Doorway<Opened> {
  readonly #options: ListenerOptions<Opened>
  readonly #key: SharedKey | undefined
  /** Each with what turns it away, in the order in which they came. */
  readonly #strangers = new Map<Socket, (reason: string) => void>()
  readonly #peers = new Set<Socket>()
  readonly #strangerTrace: StrangerTrace
  #isClosed = false

  constructor(options: ListenerOptions<Opened>, key: SharedKey | undefined) {
    this.#options = options
    this.#key = key
    this.#strangerTrace = new StrangerTrace(options.purpose, options.trace ?? (() => {}))
  }

  onSocket(socket: Socket): void {
    // The socket beneath TLS has errors of its own, which nobody else listens for.
    socket.on('error', () => {})
    tune(socket)
    if (this.#key) void this.#admit(socket, this.#key)
    else this.#onPeer(socket, undefined)
  }

  close(): void {
    this.#isClosed = true
    this.#strangerTrace.close()
    for (const turnAway of this.#strangers.values()) turnAway('')
    for (const socket of this.#peers) socket.destroy()
  }

  async #admit(socket: Socket, key: SharedKey): Promise<void> {
    const from = socket.remoteAddress ?? 'a stranger that left'
    let reason: string | undefined
    const turnAway = (why: string): void => {
      reason = why
      clearTimeout(timer)
      socket.destroy()
    }
    const timer = setTimeout(() => turnAway(`no handshake within ${handshakeTimeoutMs / 1000} s`), handshakeTimeoutMs)
    const [first] = this.#strangers.values()
    if (this.#strangers.size >= maxStrangers) first?.('too many strangers came after it')
    this.#strangers.set(socket, turnAway)
    try {
      const opened = await this.#options.open?.(socket)
      const secured = await secureAsServer(socket, key)
      this.#onPeer(secured, opened)
    } catch (error) {
      socket.destroy()
      if (!this.#isClosed) this.#strangerTrace.turnedAway(from, reason ?? (error as Error).message)
    } finally {
      clearTimeout(timer)
      this.#strangers.delete(socket)
    }
  }

  #onPeer(socket: Socket, opened: Opened | undefined): void {
    if (this.#isClosed) {
      socket.destroy()
      return
    }
    if (this.#peers.size >= maxPeers) {
      socket.destroy()
      this.#strangerTrace.turnedAway('a peer', `${maxPeers} connections are open already`)
      return
    }
    this.#peers.add(socket)
    socket.once('close', () => this.#peers.delete(socket))
    this.#options.onConnection(socket, opened)
  }
}
