/**
 * Binding a server to an address, with errors that a person can act on. Unix sockets are for their owner only (mode 0600
 * from the first moment on); a socket file that a dead process left behind is replaced, one that somebody listens on is
 * not.
 *
 * This only binds. Who may connect is decided in listener.ts; what is public on purpose (metrics) uses this alone.
 */

import { existsSync } from 'node:fs'
import { unlink } from 'node:fs/promises'
import type { ListenOptions, Server } from 'node:net'
import { dirname } from 'node:path'
import { ExitCode, WorldError } from '../base/assert.ts'
import { checkSocketPath, formatAddress, type SocketAddress } from './address.ts'
import { connectTo } from './connect.ts'

/**
 * Starts `server` on `address`. With port 0 the kernel picks one; the address that it listens on is returned.
 * @param purpose what the address is for, as the error line says it (`disk`)
 */
export async function listenOn(server: Server, address: SocketAddress, purpose: string): Promise<SocketAddress> {
  if (address.path !== undefined) await makeRoom(address.path, purpose)
  // Stays for the server's life: later errors (out of file descriptors) concern one connection, not the server.
  await new Promise<void>((resolve, reject) => {
    server.on('error', (error) => reject(describeListenError(error, address, purpose)))
    if (address.path === undefined) server.listen({ host: address.host, port: address.port }, resolve)
    else listenPrivately(server, { path: address.path }, resolve)
  })
  const bound = server.address()
  return typeof bound === 'object' && bound ? { host: bound.address, port: bound.port } : address
}

/** `listen` binds before it returns, so the umask holds for this socket file alone. */
function listenPrivately(server: Server, options: ListenOptions, onListening: () => void): void {
  const umask = process.umask(0o177)
  try {
    server.listen(options, onListening)
  } finally {
    process.umask(umask)
  }
}

async function makeRoom(path: string, purpose: string): Promise<void> {
  checkSocketPath(path)
  if (await hasListener(path)) {
    throw new WorldError(
      'path-in-use',
      `the ${purpose} socket ${path} is in use by another process: stop it or choose another path`,
      ExitCode.badConfiguration,
    )
  }
  await unlink(path).catch(() => {})
}

async function hasListener(path: string): Promise<boolean> {
  try {
    const socket = await connectTo({ address: { path } }, { purpose: 'socket' })
    socket.destroy()
    return true
  } catch {
    return false
  }
}

/** The sentence for a failed bind. */
function describeListenError(error: NodeJS.ErrnoException, address: SocketAddress, purpose: string): WorldError {
  const where = `the ${purpose} address ${formatAddress(address)}`
  // Node says "no permission" where a unix socket's folder is missing.
  if (address.path !== undefined && !existsSync(dirname(address.path))) {
    return new WorldError('no-folder', `${where} is in a folder that does not exist`, ExitCode.badConfiguration)
  }
  switch (error.code) {
    case 'EADDRINUSE':
      return new WorldError(
        'port-in-use',
        `${where} is in use by another process: stop it or choose another port`,
        ExitCode.badConfiguration,
      )
    case 'EACCES':
      return new WorldError(
        'port-permission',
        `${where} may not be used by this user: choose a port above 1023, or a folder that is writable`,
        ExitCode.permission,
      )
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return new WorldError('bad-address', `${where} is not one of this host`, ExitCode.badConfiguration)
    default:
      return new WorldError(
        'port-unusable',
        `${where} cannot be listened on: ${error.code ?? error.message}`,
        ExitCode.badConfiguration,
      )
  }
}
