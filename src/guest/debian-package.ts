/**
 * The files inside a Debian package. `dpkg-deb`, which every Debian has, undoes the outer archive and its compression;
 * our tar reader takes the rest, so nothing is unpacked into a folder and no maintainer script runs. See deb(5).
 */

import { mkdir } from 'node:fs/promises'
import { basename } from 'node:path'
import { WorldError } from '../base/assert.ts'
import { findProgram, lastLine, runCommand, streamCommand } from './command.ts'
import { readTar, type TarEntry } from './tar-reader.ts'

function dpkgDeb(): string {
  const path = findProgram('dpkg-deb')
  if (path) return path
  throw new WorldError(
    'no-apt',
    'dpkg-deb is not installed: guests are built from Debian packages, so use a Debian host',
  )
}

function damaged(path: string, stderr: string): WorldError {
  return new WorldError('package-damaged', `${basename(path)} cannot be unpacked: ${lastLine(stderr)}`)
}

/** Every entry of the package, in its order. */
export function readPackage(path: string, signal?: AbortSignal): AsyncGenerator<TarEntry> {
  return readTar(streamCommand(dpkgDeb(), ['--fsys-tarfile', path], (stderr) => damaged(path, stderr), { signal }))
}

/** Unpacks a package of the host's own architecture into a folder, for tools that are run from there. */
export async function unpackPackage(path: string, folder: string, signal?: AbortSignal): Promise<void> {
  await mkdir(folder, { recursive: true })
  const result = await runCommand(dpkgDeb(), ['-x', path, folder], { signal })
  if (result.exitCode !== 0) throw damaged(path, result.stderr)
}

/** The package's control file. */
export async function readControl(path: string, signal?: AbortSignal): Promise<string> {
  const result = await runCommand(dpkgDeb(), ['--field', path], { signal })
  if (result.exitCode !== 0) throw damaged(path, result.stderr)
  return result.stdout
}
