/**
 * Listening and connecting with errors that a person can act on. Unix sockets are for their owner only (mode 0600); a
 * socket file that a dead process left behind is replaced, one that somebody listens on is not.
 */

import { chmod, unlink } from 'node:fs/promises'
import { connect, type ListenOptions, type Server, type Socket } from 'node:net'
import { ExitCode, WorldError } from '../base/assert.ts'

/** A unix socket or a TCP address. */
export type SocketAddress =
  | { readonly path: string; readonly host?: never; readonly port?: never }
  | { readonly host: string; readonly port: number; readonly path?: never }

/** The kernel's limit (sun_path is 108 bytes with its final zero). */
const maxPathBytes = 107

export function formatSocketAddress(address: SocketAddress): string {
  return address.path ?? `${address.host}:${address.port}`
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined
}

function checkPath(path: string): void {
  if (Buffer.byteLength(path) > maxPathBytes) {
    throw new WorldError(
      'path-too-long',
      `a unix socket's path has at most ${maxPathBytes} bytes, this has ${Buffer.byteLength(path)}: ${path}`,
      ExitCode.badConfiguration,
    )
  }
}

/** Resolves with a connected socket that has no listeners yet. */
export function connectTo(address: SocketAddress): Promise<Socket> {
  if (address.path !== undefined) checkPath(address.path)
  return new Promise((resolve, reject) => {
    const socket = address.path !== undefined ? connect(address.path) : connect(address.port, address.host)
    const onError = (error: Error): void => {
      const text = `cannot connect to ${formatSocketAddress(address)}: ${codeOf(error) ?? error.message}`
      reject(new WorldError('cannot-connect', text))
    }
    socket.once('error', onError)
    socket.once('connect', () => {
      socket.removeListener('error', onError)
      resolve(socket)
    })
  })
}

async function hasListener(path: string): Promise<boolean> {
  try {
    const socket = await connectTo({ path })
    socket.destroy()
    return true
  } catch {
    return false
  }
}

function listenOnce(server: Server, options: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(options, () => {
      server.removeListener('error', reject)
      resolve()
    })
  })
}

/** Starts `server` on `address`. With port 0 the kernel picks one; the address that it listens on is returned. */
export async function listenOn(server: Server, address: SocketAddress): Promise<SocketAddress> {
  if (address.path !== undefined) {
    checkPath(address.path)
    if (await hasListener(address.path)) {
      throw new WorldError('path-in-use', `another process listens on ${address.path}: stop it or choose another path`)
    }
    await unlink(address.path).catch(() => {})
  }
  try {
    await listenOnce(server, address.path === undefined ? { host: address.host, port: address.port } : address)
  } catch (error) {
    throw describeListenError(error, address)
  }
  if (address.path !== undefined) {
    await chmod(address.path, 0o600)
    return address
  }
  const actual = server.address()
  return typeof actual === 'object' && actual ? { host: address.host, port: actual.port } : address
}

/** The sentence for a failed bind of a TCP port or a unix socket. */
export function describeListenError(error: unknown, address: SocketAddress): WorldError {
  const text = formatSocketAddress(address)
  switch (codeOf(error)) {
    case 'EADDRINUSE':
      return new WorldError('port-in-use', `${text} is in use by another process: stop it or choose another port`)
    case 'EACCES':
      return new WorldError('permission', `no permission to listen on ${text}`, ExitCode.permission)
    case 'EADDRNOTAVAIL':
      return new WorldError('bad-address', `${text} is not an address of this host`, ExitCode.badConfiguration)
    case 'ENOENT':
      return new WorldError('no-folder', `the folder of ${text} does not exist`)
    default:
      return new WorldError('cannot-listen', `cannot listen on ${text}: ${codeOf(error) ?? String(error)}`)
  }
}
