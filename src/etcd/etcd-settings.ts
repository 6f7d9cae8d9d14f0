/**
 * Where a cluster of etcd is, and how it knows us. Files are read when a client is made, so that a mistake in them is told
 * then, and not as a cluster out of reach.
 */

import { readFileSync } from 'node:fs'
import { ExitCode, WorldError } from '../base/assert.ts'
import type { Cable } from '../net/cable.ts'

export interface EtcdSettings {
  /** `https://HOST:PORT` of each member. `http` is for this host only: nothing of ours speaks in plain text over a network. */
  readonly endpoints: readonly string[]
  /** What all our keys begin with. */
  readonly prefix: string
  /** Certificate of the authority that signed the cluster's certificates; default: those that Node trusts. */
  readonly caPath?: string
  /** Our own certificate and its key, where the cluster asks for one. */
  readonly certificatePath?: string
  readonly keyPath?: string
  /** A user of etcd, where the cluster has users, and the file of its password. */
  readonly user?: string
  readonly passwordPath?: string
  /** For fault trials: connections to the cluster run over it. */
  readonly cable?: Cable
}

/** What the settings' files hold. */
export interface EtcdCredentials {
  readonly tls: { readonly ca?: string; readonly cert?: string; readonly key?: string }
  readonly login: { readonly name: string; readonly password: string } | undefined
}

export const defaultEtcdPrefix = 'understudy/'

/** @throws WorldError `bad-configuration` */
export function checkEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const isBare = url && url.pathname === '/' && url.search === '' && url.username === ''
  if (!isBare || !['http:', 'https:'].includes(url.protocol)) {
    throw badConfiguration(`"${text}" is no endpoint of etcd: write https://HOST:PORT`)
  }
  if (url.protocol === 'http:' && !isThisHost(url.hostname)) {
    throw badConfiguration(`"${text}": plain http is for 127.0.0.1 and localhost only: write https://, and a ca`)
  }
  return url.origin
}

function isThisHost(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d+){3}$/.test(hostname)
}

/** @throws WorldError `bad-configuration`: a file that is named cannot be read */
export function readCredentials(settings: EtcdSettings): EtcdCredentials {
  const { caPath, certificatePath, keyPath, user, passwordPath } = settings
  const read = (path: string | undefined, what: string): string | undefined => {
    if (path === undefined) return undefined
    try {
      return readFileSync(path, 'utf8')
    } catch (error) {
      throw badConfiguration(`etcd: ${what} ${path} cannot be read (${(error as NodeJS.ErrnoException).code})`)
    }
  }
  const [ca, cert, key] = [read(caPath, 'ca'), read(certificatePath, 'certificate'), read(keyPath, 'key')]
  if ((cert === undefined) !== (key === undefined))
    throw badConfiguration('etcd: write certificate and key, or neither')
  const password = read(passwordPath, 'password')?.trimEnd()
  if ((user === undefined) !== (password === undefined)) {
    throw badConfiguration('etcd: write user and password, or neither')
  }
  return {
    tls: { ...(ca === undefined ? {} : { ca }), ...(cert === undefined ? {} : { cert, key: key! }) },
    login: user === undefined ? undefined : { name: user, password: password! },
  }
}

function badConfiguration(message: string): WorldError {
  return new WorldError('bad-configuration', message, ExitCode.badConfiguration)
}
