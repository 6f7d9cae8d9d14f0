/**
 * Where a process listens or connects: a unix socket or a TCP address, and how people write both.
 *
 *   unix:/run/understudy/disk.nbd        a unix socket: private by file permissions, needs no key
 *   192.0.2.7:10809, [2001:db8::7]:10809 a TCP address: always TLS with a pre-shared key (shared-key.ts)
 *
 * There is no third kind: nothing of ours speaks in plain text over TCP.
 */

import { ExitCode, WorldError } from '../base/assert.ts'
import type { Cable } from './cable.ts'
import type { SharedKey } from './shared-key.ts'

export interface UnixAddress {
  readonly path: string
  readonly host?: never
  readonly port?: never
}

export interface TcpAddress {
  readonly host: string
  /** 0, for a listener: any free one. */
  readonly port: number
  readonly path?: never
}

export type SocketAddress = UnixAddress | TcpAddress

/** An address, and the key that a TCP address needs. A unix socket has no use for one. */
export interface Endpoint {
  readonly address: SocketAddress
  readonly key?: SharedKey
  /** For fault trials: connections to this endpoint run over it. */
  readonly cable?: Cable
}

/** The kernel's limit (sun_path is 108 bytes with its final zero). */
export const maxSocketPathBytes = 107

export function formatAddress(address: SocketAddress): string {
  if (address.path !== undefined) return `unix:${address.path}`
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`
}

const tcpPattern = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9][a-z0-9.-]*)):(\d{1,5})$/i

/** @throws WorldError `bad-address` that says how an address is written */
export function parseAddress(text: string): SocketAddress {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length)
    if (!path.startsWith('/')) throw badAddress(text, 'the path of a unix socket begins with "/"')
    checkSocketPath(path)
    return { path }
  }
  const match = tcpPattern.exec(text)
  if (!match) throw badAddress(text, 'write HOST:PORT, as 192.0.2.7:10809 or [2001:db8::7]:10809, or unix:/PATH')
  const port = Number(match[3])
  if (port > 65_535) throw badAddress(text, 'a port is at most 65535')
  return { host: match[1] ?? match[2]!, port }
}

/** @throws WorldError `path-too-long` */
export function checkSocketPath(path: string): void {
  const lengthBytes = Buffer.byteLength(path)
  if (lengthBytes <= maxSocketPathBytes) return
  throw new WorldError(
    'path-too-long',
    `a unix socket's path has at most ${maxSocketPathBytes} bytes, this has ${lengthBytes}: ${path}`,
    ExitCode.badConfiguration,
  )
}

/**
 * The key of a TCP endpoint; undefined for a unix socket, which needs none.
 * @throws WorldError `key-missing`: nothing of ours speaks in plain text over TCP
 */
export function keyOf({ address, key }: Endpoint, purpose: string): SharedKey | undefined {
  if (address.path !== undefined) return undefined
  if (key) return key
  throw new WorldError(
    'key-missing',
    `the ${purpose} address ${formatAddress(address)} is TCP, which needs a key: make one with "understudy keygen" and give it to both ends, or use unix:/PATH`,
    ExitCode.badConfiguration,
  )
}

function badAddress(text: string, advice: string): WorldError {
  return new WorldError('bad-address', `"${text}" is no address: ${advice}`, ExitCode.badConfiguration)
}
