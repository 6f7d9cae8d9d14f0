/**
 * Programs that the host may lack: passt for the gateway, mke2fs for the root disk, xz for kernel modules.
 *
 * The idea: the system's own program is used when it is there. Otherwise Debian's package comes through the private
 * apt, with every library it needs and the loader too, and is unpacked into the cache. A small script starts it with
 * its own loader, so that it runs whatever libc the host has, and no root is needed to install it.
 *
 * It does not update a fetched tool by itself: the tool's folder is named after its package's version, and `refresh`
 * of the index brings a new one.
 */

import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { WorldError } from '../base/assert.ts'
import { findProgram } from './command.ts'
import { unpackPackage } from './debian-package.ts'
import { withFolderLock } from './folder-lock.ts'
import type { OnGuestProgress } from './guest-progress.ts'
import { hostArchitecture, PrivateApt } from './private-apt.ts'

/** Where a tool's program lies inside which package. */
const tools = {
  passt: { package: 'passt', path: 'usr/bin/passt' },
  xz: { package: 'xz-utils', path: 'usr/bin/xz' },
  mke2fs: { package: 'e2fsprogs', path: 'usr/sbin/mke2fs' },
  debugfs: { package: 'e2fsprogs', path: 'usr/sbin/debugfs' },
  e2fsck: { package: 'e2fsprogs', path: 'usr/sbin/e2fsck' },
} as const

export type HostToolName = keyof typeof tools

export interface HostToolOptions {
  readonly offline?: boolean
  readonly signal?: AbortSignal | undefined
  /** Take Debian's current version even if the system has its own. */
  readonly preferFetched?: boolean
}

/**
 * The absolute path of an executable: the system's own, or one fetched into `cacheFolder`.
 * Throws a `WorldError` (`no-network`, `no-apt`, `not-cached` …) when there is neither.
 */
export async function ensureHostTool(
  name: HostToolName,
  cacheFolder: string,
  onProgress: OnGuestProgress = () => {},
  options: HostToolOptions = {},
): Promise<string> {
  const installed = options.preferFetched ? undefined : findProgram(name)
  if (installed) return installed
  const tool = tools[name]
  const root = join(cacheFolder, 'tools', tool.package)
  const start = join(root, 'start', name)
  if (existsSync(start)) return start
  await mkdir(cacheFolder, { recursive: true })
  return withFolderLock(cacheFolder, onProgress, options.signal, async () => {
    if (existsSync(start)) return start // Fetched by the one that we waited for.
    await fetchTool(tool.package, root, cacheFolder, onProgress, options)
    return start
  })
}

async function fetchTool(
  packageName: string,
  root: string,
  cacheFolder: string,
  onProgress: OnGuestProgress,
  options: HostToolOptions,
): Promise<void> {
  const { offline, signal } = options
  const apt = new PrivateApt({ cacheFolder, architecture: await hostArchitecture(), onProgress, offline, signal })
  await apt.open()
  const records = await apt.resolve([packageName])
  await apt.download(records)
  await mkdir(join(cacheFolder, 'tools'), { recursive: true })
  const temporary = await mkdtemp(join(cacheFolder, 'tools', '.unpack-'))
  try {
    for (const record of records) {
      onProgress({ phase: 'unpack', detail: record.name })
      await unpackPackage(apt.pathOf(record), temporary, signal)
    }
    const libraries = join('usr/lib', await libraryFolder(temporary))
    const loader = (await readdir(join(temporary, libraries))).find((file) => /^ld-linux.*\.so\.\d+$/.test(file))
    if (loader === undefined) throw new WorldError('package-damaged', 'the package libc6 brought no loader')
    await mkdir(join(temporary, 'start'))
    for (const [name, tool] of Object.entries(tools)) {
      if (tool.package !== packageName) continue
      const script = join(temporary, 'start', name)
      await writeFile(script, startScript(root, libraries, loader, tool.path))
      await chmod(script, 0o755)
    }
    await rm(root, { recursive: true, force: true })
    await rename(temporary, root)
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
}

/** Debian keeps libraries in a folder named after the architecture: `x86_64-linux-gnu`. */
async function libraryFolder(root: string): Promise<string> {
  const folders = await readdir(join(root, 'usr/lib')).catch(() => [])
  const found = folders.find((folder) => /-linux-gnu/.test(folder))
  if (found === undefined) throw new WorldError('package-damaged', 'the tool came without its libraries')
  return found
}

function startScript(root: string, libraries: string, loader: string, path: string): string {
  const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`
  const library = join(root, libraries)
  return `#!/bin/sh\nexec ${quoted(join(library, loader))} --library-path ${quoted(library)} ${quoted(join(root, path))} "$@"\n`
}
