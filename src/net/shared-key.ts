/**
 * The pre-shared key: whoever has it may speak to the other processes of a machine, and nobody else may.
 *
 * A key file has GnuTLS's format, `IDENTITY:HEX` (https://www.gnutls.org/manual/html_node/psktool-Invocation.html), so
 * that nbdinfo, nbdcopy, qemu-img and nbdkit read the very same file. The identity is no secret: it crosses the wire in
 * clear text and says which key is meant.
 */

import { randomBytes } from 'node:crypto'
import { closeSync, fchmodSync, fstatSync, openSync, readFileSync, writeSync } from 'node:fs'
import { ExitCode, WorldError } from '../base/assert.ts'

export interface SharedKey {
  /** Names the key on the wire. */
  readonly identity: string
  /** At least 128 bits. */
  readonly secret: Uint8Array
}

export const defaultIdentity = 'understudy'

/** 256 bits: as strong as the handshake's hash. */
const newSecretBytes = 32
const minSecretBytes = 16
/** What TLS libraries take: OpenSSL 256 bytes of secret and of identity. */
const maxSecretBytes = 64

const identityPattern = /^[A-Za-z0-9._@-]{1,64}$/

export function generateKey(identity: string = defaultIdentity): SharedKey {
  if (!identityPattern.test(identity)) {
    throw badKey(`"${identity}" cannot name a key: use letters, digits and ". _ @ -", at most 64`)
  }
  return { identity, secret: new Uint8Array(randomBytes(newSecretBytes)) }
}

export function formatKey({ identity, secret }: SharedKey): string {
  return `${identity}:${Buffer.from(secret).toString('hex')}\n`
}

/**
 * @param where names the text's origin in the error line
 * @throws WorldError `bad-key`; its message never shows the key
 */
export function parseKey(text: string, where: string): SharedKey {
  const lines = text.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#'))
  if (lines.length !== 1) throw badKey(`${where}: a key file holds one line IDENTITY:HEX, this holds ${lines.length}`)
  const [identity = '', hex = '', ...rest] = lines[0]!.trim().split(':')
  if (rest.length > 0 || !identityPattern.test(identity) || !/^(?:[0-9a-f]{2})+$/i.test(hex)) {
    throw badKey(`${where}: a key file holds one line IDENTITY:HEX, as "understudy keygen" writes it`)
  }
  const secret = new Uint8Array(Buffer.from(hex, 'hex'))
  if (secret.length < minSecretBytes || secret.length > maxSecretBytes) {
    throw badKey(`${where}: a key has ${minSecretBytes} to ${maxSecretBytes} bytes, this has ${secret.length}`)
  }
  return { identity, secret }
}

/** @throws WorldError `no-key`, `key-exposed` or `bad-key` */
export function readKeyFile(path: string): SharedKey {
  let file: number
  try {
    file = openSync(path, 'r')
  } catch (error) {
    throw cannot('read', path, error)
  }
  try {
    const { mode, uid } = fstatSync(file)
    if ((mode & 0o077) !== 0) {
      throw new WorldError(
        'key-exposed',
        `the key file ${path} can be read by others (mode ${(mode & 0o777).toString(8)}): run "chmod 600 ${path}", or make a new key if somebody may have seen it`,
        ExitCode.badConfiguration,
      )
    }
    const self = process.getuid?.()
    if (self !== undefined && self !== 0 && uid !== self) {
      throw new WorldError(
        'key-exposed',
        `the key file ${path} belongs to another user: copy it to a file of your own with mode 600`,
        ExitCode.badConfiguration,
      )
    }
    return parseKey(readFileSync(file, 'utf8'), path)
  } catch (error) {
    if (error instanceof WorldError) throw error
    throw cannot('read', path, error)
  } finally {
    closeSync(file)
  }
}

/**
 * Writes a new file with mode 0600.
 * @throws WorldError `key-exists`: a file that is there is never overwritten
 */
export function writeKeyFile(path: string, key: SharedKey): void {
  let file: number
  try {
    file = openSync(path, 'wx', 0o600)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') {
      throw new WorldError(
        'key-exists',
        `${path} exists, and a key is never overwritten: choose another name, or remove it first`,
        ExitCode.wrongState,
      )
    }
    throw cannot('write', path, error)
  }
  try {
    // Whatever the umask is.
    fchmodSync(file, 0o600)
    writeSync(file, formatKey(key))
  } finally {
    closeSync(file)
  }
}

function cannot(verb: string, path: string, error: unknown): WorldError {
  const { code } = error as NodeJS.ErrnoException
  const text = code === 'ENOENT' ? 'no such file or folder' : code === 'EACCES' ? 'no permission' : String(code)
  const exitCode = code === 'EACCES' ? ExitCode.permission : ExitCode.badConfiguration
  return new WorldError('no-key', `cannot ${verb} the key file ${path}: ${text}`, exitCode)
}

function badKey(message: string): WorldError {
  return new WorldError('bad-key', message, ExitCode.badConfiguration)
}
