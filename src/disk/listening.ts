/** Listening sockets: one way to open and close them, with one clear line when it fails. */

import { createServer, type Server, type Socket } from 'node:net'
import { ExitCode, WorldError } from '../base/assert.ts'

/** Where to listen or connect. Port 0 means any free one. */
export type SocketAddress = { readonly host: string; readonly port: number } | { readonly path: string }

export function formatAddress(address: SocketAddress): string {
  return 'path' in address ? address.path : `${address.host}:${address.port}`
}

/** Beyond this many connections a new one is dropped at once: bounds memory against a peer that opens thousands. */
const maxConnections = 128

export class Listener {
  readonly address: SocketAddress
  readonly #server: Server
  readonly #sockets: ReadonlySet<Socket>

  private constructor(server: Server, address: SocketAddress, sockets: ReadonlySet<Socket>) {
    this.#server = server
    this.address = address
    this.#sockets = sockets
  }

  /** @param purpose what the address is for, as the error line says it (`disk`) */
  static async open(purpose: string, address: SocketAddress, onSocket: (socket: Socket) => void): Promise<Listener> {
    const sockets = new Set<Socket>()
    // Half-open: a client that says goodbye and shuts its side still gets the answers it waits for.
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
      onSocket(socket)
    })
    server.maxConnections = maxConnections
    await new Promise<void>((resolve, reject) => {
      // Stays for the server's life: later errors (out of file descriptors) concern one connection, not the server.
      server.on('error', (error: NodeJS.ErrnoException) => reject(listenError(purpose, address, error)))
      server.listen(address, resolve)
    })
    const bound = server.address()
    const isPort = bound !== null && typeof bound === 'object'
    return new Listener(server, isPort ? { host: bound.address, port: bound.port } : address, sockets)
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }
}

function listenError(purpose: string, address: SocketAddress, error: NodeJS.ErrnoException): WorldError {
  const where = formatAddress(address)
  switch (error.code) {
    case 'EADDRINUSE':
      return new WorldError(
        'port-in-use',
        `the ${purpose} address ${where} is in use: stop what listens there, or choose another`,
        ExitCode.badConfiguration,
      )
    case 'EACCES':
      return new WorldError(
        'port-permission',
        `the ${purpose} address ${where} may not be used by this user: choose a port above 1023`,
        ExitCode.permission,
      )
    default:
      return new WorldError(
        'port-unusable',
        `the ${purpose} address ${where} cannot be listened on: ${error.message}`,
        ExitCode.badConfiguration,
      )
  }
}
