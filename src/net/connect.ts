/**
 * Connecting: one way for unix sockets and TCP, and over TCP always through TLS with the pre-shared key. Who it resolves
 * for is the peer: it has the key, or the unix socket's folder let us in.
 */

import { connect, type Socket } from 'node:net'
import { ExitCode, WorldError } from '../base/assert.ts'
import { checkSocketPath, type Endpoint, formatAddress, keyOf } from './address.ts'
import { secureAsClient } from './secure-socket.ts'

export interface ConnectOptions {
  /** What is at the address, as error lines say it (`disk`). */
  readonly purpose: string
  /** What is said in plain text before TLS, on TCP only: NBD's STARTTLS. Leaves nothing unread. Default: nothing. */
  readonly open?: (socket: Socket) => Promise<void>
  /** For connection, opening and handshake together. Default 10 s. */
  readonly timeoutMs?: number
  /** Gives up early. */
  readonly signal?: AbortSignal
}

const defaultTimeoutMs = 10_000

/** Silence after which the kernel asks whether the other host is still there; after ten unanswered questions it is gone. */
const keepAliveAfterMs = 5_000

/**
 * What every connection of ours wants: no waiting for more bytes (Nagle), and the end of a host that lost its power
 * noticed within 15 s. Unix sockets ignore both.
 */
export function tune(socket: Socket): void {
  socket.setNoDelay(true)
  socket.setKeepAlive(true, keepAliveAfterMs)
}

/**
 * Resolves with a socket that has no listeners yet and has read nothing.
 * @throws WorldError `key-missing`; `key-refused`: the peer has another key; `cannot-connect` with where and why
 */
export async function connectTo(endpoint: Endpoint, options: ConnectOptions): Promise<Socket> {
  const { purpose, open, timeoutMs = defaultTimeoutMs, signal } = options
  const key = keyOf(endpoint, purpose)
  const { address } = endpoint
  if (address.path !== undefined) checkSocketPath(address.path)
  const socket = address.path === undefined ? connect(address.port, address.host) : connect(address.path)
  let reason: string | undefined
  const giveUp = (why: string): void => {
    reason = why
    socket.destroy()
  }
  const timer = setTimeout(() => giveUp(`no answer within ${timeoutMs} ms`), timeoutMs)
  const onAbort = (): void => giveUp('given up')
  signal?.addEventListener('abort', onAbort)
  if (signal?.aborted) onAbort()
  try {
    await whenConnected(socket)
    if (!key) return plugged(socket, endpoint)
    // The socket beneath TLS has errors of its own, which nobody else listens for.
    socket.on('error', () => {})
    await open?.(socket)
    return plugged(await secureAsClient(socket, key), endpoint)
  } catch (error) {
    socket.destroy()
    const where = `the ${purpose} at ${formatAddress(address)}`
    if (error instanceof WorldError && error.code === 'key-refused') {
      throw new WorldError(
        'key-refused',
        `${where} refuses our key: ${error.message}; copy one key file to every host of the machine`,
        ExitCode.permission,
      )
    }
    if (error instanceof WorldError) throw error
    const why = reason ?? (error as NodeJS.ErrnoException).code ?? (error as Error).message
    throw new WorldError('cannot-connect', `cannot connect to ${where}: ${why}`)
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  }
}

function plugged(socket: Socket, { cable }: Endpoint): Socket {
  cable?.plug(socket)
  return socket
}

function whenConnected(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    const onClose = (): void => reject(new Error('the connection was closed'))
    socket.once('error', reject)
    socket.once('close', onClose)
    socket.once('connect', () => {
      socket.removeListener('error', reject)
      socket.removeListener('close', onClose)
      tune(socket)
      resolve()
    })
  })
}
