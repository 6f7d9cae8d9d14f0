/**
 * Where a foreign NBD export is, as the NBD project writes it (its document "NBD URI"): so far over unix sockets only.
 *
 *   nbd+unix:///NAME?socket=PATH        the export NAME (may be empty) of the server at PATH
 *
 * A foreign server over TCP would be in plain text; nothing of ours is. Let it listen on a unix socket of the same host.
 */

import { ExitCode, WorldError } from '../base/assert.ts'
import { checkSocketPath, type UnixAddress } from '../net/address.ts'

export interface NbdLocation {
  readonly address: UnixAddress
  readonly exportName: string
}

/** @throws WorldError `bad-nbd-uri` that says how one is written */
export function parseNbdUri(text: string): NbdLocation {
  const bad = (why: string): WorldError =>
    new WorldError(
      'bad-nbd-uri',
      `"${text}" is no NBD disk: ${why}; write nbd+unix:///NAME?socket=/PATH`,
      ExitCode.badConfiguration,
    )
  if (!URL.canParse(text)) throw bad('it is no URI')
  const { protocol, host, pathname, searchParams } = new URL(text)
  if (protocol !== 'nbd+unix:') throw bad('it must begin with nbd+unix:')
  if (host !== '') throw bad('between // and the third / there is nothing')
  const path = searchParams.get('socket')
  if (!path?.startsWith('/')) throw bad('it must name an absolute path of a socket')
  const unknown = [...searchParams.keys()].find((name) => name !== 'socket')
  if (unknown !== undefined) throw bad(`"${unknown}" means nothing here`)
  checkSocketPath(path)
  return { address: { path }, exportName: exportNameOf(pathname, bad) }
}

function exportNameOf(pathname: string, bad: (why: string) => WorldError): string {
  try {
    return decodeURIComponent(pathname.slice(1))
  } catch {
    throw bad('its name has a broken %')
  }
}
