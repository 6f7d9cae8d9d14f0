/**
 * The guest that other people's clients talk to: Debian with Redis, nginx and dropbear, and a key that may log in as root.
 * Built once on a machine, into the user's cache, with a key pair made for it. Tests only read it.
 */

import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { buildGuest, defaultCacheFolder } from '../../src/guest/guest-builder.ts'
import type { ReadyGuest } from '../../src/host/redis-vm.ts'

export interface ClientGuest extends ReadyGuest {
  /** For `ssh -i`. */
  readonly privateKeyPath: string
}

const packages = ['redis-server', 'nginx', 'dropbear']

export async function clientGuest(): Promise<ClientGuest> {
  const outputFolder = join(defaultCacheFolder(), 'client-guest')
  mkdirSync(outputFolder, { recursive: true })
  const privateKeyPath = join(outputFolder, 'id_ed25519')
  const publicKeyPath = `${privateKeyPath}.pub`
  if (!existsSync(privateKeyPath) || !existsSync(publicKeyPath)) {
    rmSync(privateKeyPath, { force: true })
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'understudy-test', '-f', privateKeyPath])
  }
  const authorizedKeys = [readFileSync(publicKeyPath, 'utf8').trim()]
  const guest = await buildGuest({ outputFolder, packages, authorizedKeys, overwrite: true })
  return { ...guest, privateKeyPath }
}
