/**
 * Binding a server to an address, with errors that a person can act on. Unix sockets are for their owner only (mode 0600
 * from the first moment on); a socket file that a dead process left behind is replaced, one that somebody listens on is
 * not, unless that one has lost its place (a frozen process: it listens, and does not answer).
 *
 * A unix socket is bound beside its place and then moved there. So it is there from one moment to the next, and a process
 * that ends late takes away its own file only, and never its successor's.
 *
 * This only binds. Who may connect is decided in listener.ts; what is public on purpose (metrics) uses this alone.
 */

import { existsSync, statSync, unlinkSync } from 'node:fs'
import { rename, unlink } from 'node:fs/promises'
import type { ListenOptions, Server } from 'node:net'
import { dirname, join } from 'node:path'
import { ExitCode, WorldError } from '../base/assert.ts'
import { checkSocketPath, formatAddress, type SocketAddress } from './address.ts'
import { connectTo } from './connect.ts'

/**
 * Starts `server` on `address`. With port 0 the kernel picks one; the address that it listens on is returned.
 * @param purpose what the address is for, as the error line says it (`disk`)
 * @param takesPlace a unix socket: whoever listens there has lost the place
 */
export async function listenOn(
  server: Server,
  address: SocketAddress,
  purpose: string,
  takesPlace = false,
): Promise<SocketAddress> {
  if (address.path !== undefined) await checkRoom(address.path, purpose, takesPlace)
  const beside = address.path === undefined ? undefined : besidePath(address.path)
  if (beside !== undefined) await unlink(beside).catch(() => {})
  // Stays for the server's life: later errors (out of file descriptors) concern one connection, not the server.
  await new Promise<void>((resolve, reject) => {
    server.on('error', (error) => reject(describeListenError(error, address, purpose)))
    if (address.path === undefined) server.listen({ host: address.host, port: address.port }, resolve)
    else listenPrivately(server, { path: beside }, resolve)
  })
  if (beside !== undefined) {
    const path = address.path!
    await rename(beside, path)
    const { ino } = statSync(path)
    server.once('close', () => removeOwn(path, ino))
  }
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

/** A successor's file has another inode: ours is not given away again while the server has it bound. */
function removeOwn(path: string, ino: number): void {
  if (statSync(path, { throwIfNoEntry: false })?.ino === ino) unlinkSync(path)
}

let sockets = 0

/** In the same folder, and short, since such paths have a limit. */
function besidePath(path: string): string {
  return join(dirname(path), `.${process.pid.toString(36)}-${(sockets++).toString(36)}`)
}

async function checkRoom(path: string, purpose: string, takesPlace: boolean): Promise<void> {
  checkSocketPath(path)
  checkSocketPath(besidePath(path))
  if (!takesPlace && (await hasListener(path))) {
    throw new WorldError(
      'path-in-use',
      `the ${purpose} socket ${path} is in use by another process: stop it or choose another path`,
      ExitCode.badConfiguration,
    )
  }
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
