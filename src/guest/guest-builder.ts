/**
 * `understudy guest build`: a bootable Debian riscv64 guest from Debian's own packages, without root.
 *
 * The idea: inputs → packages (private apt, signed) → kernel, initial RAM disk, root disk → cache → output folder. The
 * cache is asked first; what it gives is checked on the way out, and rebuilt if it is damaged. Everything is made in a
 * temporary folder and appears by rename, so a cancelled build leaves nothing behind but downloads.
 *
 * A root disk that a machine has written to since it was built is somebody's data: it is not replaced unless `overwrite`
 * says so. The kernel is Debian's, byte for byte. Same packages, same tools: same bytes.
 */

import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { ExitCode, WorldError } from '../base/assert.ts'
import { MiB } from '../base/units.ts'
import { ArtefactStore } from './artefact-store.ts'
import { defaultCacheFolder } from './cache-folder.ts'
import { throwIfCancelled } from './command.ts'
import { readControl, readPackage } from './debian-package.ts'
import { type Ext4Tools, ext4BlockBytes, writeExt4 } from './ext4-image.ts'
import { FileTree } from './file-tree.ts'
import { withFolderLock } from './folder-lock.ts'
import {
  artefactFiles,
  artefactNames,
  createManifest,
  encodeManifest,
  type GuestFlavour,
  type GuestInputs,
  type GuestManifest,
} from './guest-manifest.ts'
import type { OnGuestProgress } from './guest-progress.ts'
import { ensureHostTool, type HostToolName } from './host-tools.ts'
import { buildInitialRamdisk, modulesOfFlavour, scsiModules } from './initial-ramdisk.ts'
import { aptHelper, modulesInLoadOrder, readKernelPackage, xzDecompressor } from './kernel-package.ts'
import { addMinimalSystem, isDispensable } from './minimal-root.ts'
import { debianSuite, type PackageRecord, PrivateApt } from './private-apt.ts'
import { copySparse } from './sparse-file.ts'
import { addSystemdSystem, type InstalledPackage, systemdPackages } from './systemd-root.ts'

export { defaultCacheFolder }

export interface GuestOptions {
  /** Receives `Image`, `initrd.cpio`, `root.ext4`, `manifest.json`. */
  readonly outputFolder: string
  /** Debian package names. */
  readonly packages?: readonly string[]
  /** A multiple of 4096. */
  readonly rootSizeBytes?: number
  readonly cacheFolder?: string
  readonly flavour?: GuestFlavour
  /** Never use the network. */
  readonly offline?: boolean
  /** Take the mirror's newest packages even if the cache holds a guest with these inputs. */
  readonly refresh?: boolean
  /** Replace a root disk that a machine has written to. */
  readonly overwrite?: boolean
  /** Public ssh keys of root, one line each. */
  readonly authorizedKeys?: readonly string[]
  readonly signal?: AbortSignal
}

export interface GuestImage {
  readonly kernelPath: string
  readonly initrdPath: string
  readonly rootPath: string
  readonly kernelVersion: string
  readonly manifest: GuestManifest
  /** Whether the cache already held it. */
  readonly isFromCache: boolean
}

export const defaultPackages: readonly string[] = ['redis-server']

export const defaultRootSizeBytes: Readonly<Record<GuestFlavour, number>> = {
  minimal: 256 * MiB,
  systemd: 1024 * MiB,
}

/** What an untouched root disk's modification time is, in seconds: any write by a machine changes it. */
const untouchedTimeS = 1_754_697_600

/** SHA-256 over this folder's own source, so that nobody can forget to say that the recipe changed. */
function builderDigest(): string {
  const hash = createHash('sha256')
  const sources = readdirSync(import.meta.dirname).filter(
    (name) => /\.(ts|js)$/.test(name) && !/^test-|\.(test|d)\.\w+$/.test(name),
  )
  for (const name of sources.sort()) hash.update(name).update(readFileSync(join(import.meta.dirname, name)))
  return hash.digest('hex')
}

function inputsOf(options: GuestOptions): GuestInputs {
  const flavour = options.flavour ?? 'minimal'
  const rootSizeBytes = options.rootSizeBytes ?? defaultRootSizeBytes[flavour]
  if (!Number.isSafeInteger(rootSizeBytes) || rootSizeBytes < 16 * MiB || rootSizeBytes % ext4BlockBytes !== 0) {
    throw new WorldError(
      'bad-root-size',
      `a root disk of ${rootSizeBytes} bytes cannot be made: give at least 16M, in steps of 4K`,
      ExitCode.badConfiguration,
    )
  }
  return {
    suite: debianSuite,
    flavour,
    packages: [...new Set(options.packages ?? defaultPackages)].sort(),
    rootSizeBytes,
    authorizedKeys: [...(options.authorizedKeys ?? [])],
    builder: builderDigest(),
  }
}

/** Builds a guest, or takes it from the cache, into `outputFolder`. */
export async function buildGuest(options: GuestOptions, onProgress: OnGuestProgress = () => {}): Promise<GuestImage> {
  try {
    return await build(options, onProgress)
  } catch (error) {
    throwIfCancelled(options.signal)
    const { code, path } = error as NodeJS.ErrnoException
    if (error instanceof WorldError || code === undefined) throw error
    const where = path ? `: ${path}` : ''
    if (code === 'ENOSPC' || code === 'EDQUOT') throw new WorldError('no-space', `no space left${where}`)
    if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
      throw new WorldError('no-permission', `not allowed to write${where}`, ExitCode.permission)
    }
    if (/^E[A-Z]+$/.test(code)) throw new WorldError('file-failed', `${code}${where}`)
    throw error
  }
}

async function build(options: GuestOptions, onProgress: OnGuestProgress): Promise<GuestImage> {
  const inputs = inputsOf(options)
  const cacheFolder = resolve(options.cacheFolder ?? defaultCacheFolder())
  const outputFolder = resolve(options.outputFolder)
  const { signal } = options
  await refuseUsedDisk(join(outputFolder, artefactFiles.root), options.overwrite ?? false)
  await mkdir(cacheFolder, { recursive: true })
  await mkdir(outputFolder, { recursive: true })
  const store = new ArtefactStore(cacheFolder)
  const cached = options.refresh ? undefined : await store.find(inputs)
  if (cached) {
    try {
      return await deliver(store, cached, outputFolder, true, onProgress, signal)
    } catch (error) {
      if (!(error instanceof WorldError && error.code === 'cache-damaged')) throw error
      onProgress({ phase: 'store', detail: `${error.message}: building it again` })
      await store.forget(inputs)
    }
  }
  const tool = (name: HostToolName) =>
    ensureHostTool(name, cacheFolder, onProgress, { offline: options.offline ?? false, signal })
  const tools = { mke2fs: await tool('mke2fs'), debugfs: await tool('debugfs'), e2fsck: await tool('e2fsck') }
  const xz = aptHelper() ?? (await tool('xz'))
  const manifest = await withFolderLock(cacheFolder, onProgress, signal, () =>
    make(inputs, cacheFolder, store, { ...tools, xz }, options, onProgress),
  )
  return deliver(store, manifest, outputFolder, false, onProgress, signal)
}

/** The host's programs that a build runs. */
interface BuildTools extends Ext4Tools {
  /** Undoes xz: apt's helper or xz itself. */
  readonly xz: string
}

/** The packages that a guest consists of, apart from the kernel. */
function packagesOf(inputs: GuestInputs): string[] {
  const base = inputs.flavour === 'systemd' ? systemdPackages : []
  return [...base, ...inputs.packages]
}

async function make(
  inputs: GuestInputs,
  cacheFolder: string,
  store: ArtefactStore,
  tools: BuildTools,
  options: GuestOptions,
  onProgress: OnGuestProgress,
): Promise<GuestManifest> {
  const { offline, refresh, signal } = options
  const apt = new PrivateApt({ cacheFolder, architecture: 'riscv64', onProgress, offline, refresh, signal })
  await apt.open()
  const wanted = packagesOf(inputs)
  const packages = wanted.length > 0 ? await apt.resolve(wanted) : []
  const kernel = (await apt.resolve(['linux-image-riscv64'])).find(({ name }) => /^linux-image-\d/.test(name))
  const busybox = (await apt.resolve(['busybox-static'])).find(({ name }) => name === 'busybox-static')
  if (!kernel || !busybox) throw new WorldError('kernel-unusable', `Debian ${debianSuite} offers no riscv64 kernel`)
  const all = [kernel, busybox, ...packages]
  await apt.download(all)

  await removeLeftovers(cacheFolder)
  const folder = await mkdtemp(join(cacheFolder, leftoverPrefix))
  try {
    const program = await readBusybox(apt.pathOf(busybox), signal)
    const kernelVersion = await makeBootFiles(
      apt.pathOf(kernel),
      program,
      inputs.flavour,
      folder,
      tools.xz,
      onProgress,
      signal,
    )
    await makeRoot(inputs, packages, apt, program, tools, folder, onProgress, signal)
    const finish = (artefacts: GuestManifest['artefacts']) =>
      createManifest({ inputs, kernelVersion, packages: all, artefacts })
    return await store.keep(inputs, folder, finish, onProgress, signal)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function readBusybox(path: string, signal: AbortSignal | undefined): Promise<Uint8Array> {
  for await (const entry of readPackage(path, signal)) {
    if (/(^|\/)bin\/busybox$/.test(entry.path) && entry.kind === 'file') return entry.content.slice()
  }
  throw new WorldError('package-damaged', 'the package busybox-static holds no busybox')
}

async function makeBootFiles(
  packagePath: string,
  busybox: Uint8Array,
  flavour: GuestFlavour,
  folder: string,
  xz: string,
  onProgress: OnGuestProgress,
  signal: AbortSignal | undefined,
): Promise<string> {
  onProgress({ phase: 'unpack', detail: 'kernel' })
  const kernel = await readKernelPackage(packagePath, signal)
  await writeFile(join(folder, artefactFiles.kernel), kernel.image)
  onProgress({ phase: 'initrd', detail: 'kernel modules' })
  const decompress = xzDecompressor(folder, xz, signal)
  const wanted = modulesOfFlavour[flavour]
  const modules = await modulesInLoadOrder(kernel, wanted, decompress)
  const all = await modulesInLoadOrder(kernel, [...wanted, ...scsiModules], decompress)
  const onScsi = all.slice(modules.length)
  await writeFile(join(folder, artefactFiles.initrd), buildInitialRamdisk(busybox, modules, onScsi))
  return kernel.version
}

async function makeRoot(
  inputs: GuestInputs,
  packages: readonly PackageRecord[],
  apt: PrivateApt,
  busybox: Uint8Array,
  tools: Ext4Tools,
  folder: string,
  onProgress: OnGuestProgress,
  signal: AbortSignal | undefined,
): Promise<void> {
  const tree = new FileTree(join(folder, 'spool'))
  for (const name of ['bin', 'lib', 'sbin']) {
    tree.addFolder(`usr/${name}`)
    tree.addSymlink(name, `usr/${name}`)
  }
  const totalBytes = packages.reduce((sum, record) => sum + record.sizeBytes, 0)
  let doneBytes = 0
  const installed: InstalledPackage[] = []
  for (const record of packages) {
    onProgress({ phase: 'unpack', detail: record.name, doneBytes, totalBytes })
    const path = apt.pathOf(record)
    const paths: string[] = []
    for await (const entry of readPackage(path, signal)) {
      paths.push(entry.path)
      if (!isDispensable(entry.path)) tree.addEntry(entry)
    }
    if (inputs.flavour === 'systemd')
      installed.push({ name: record.name, control: await readControl(path, signal), paths })
    doneBytes += record.sizeBytes
  }
  if (inputs.flavour === 'systemd') addSystemdSystem(tree, installed, inputs.packages, inputs.authorizedKeys)
  else addMinimalSystem(tree, busybox, inputs.authorizedKeys)
  onProgress({ phase: 'root', detail: `root disk of ${inputs.rootSizeBytes / MiB} MiB` })
  await writeExt4(join(folder, artefactFiles.root), tree, inputs.rootSizeBytes, tools, signal)
}

/** Puts the artefacts into the output folder, each by a rename. */
async function deliver(
  store: ArtefactStore,
  manifest: GuestManifest,
  outputFolder: string,
  isFromCache: boolean,
  onProgress: OnGuestProgress,
  signal: AbortSignal | undefined,
): Promise<GuestImage> {
  const temporary = await mkdtemp(join(outputFolder, leftoverPrefix))
  try {
    for (const name of artefactNames) {
      const artefact = manifest.artefacts[name]
      await store.takeOut(manifest.inputs, artefact, join(temporary, artefact.fileName), onProgress, signal)
    }
    await utimes(join(temporary, artefactFiles.root), untouchedTimeS, untouchedTimeS)
    await writeFile(join(temporary, 'manifest.json'), encodeManifest(manifest))
    throwIfCancelled(signal)
    for (const fileName of [...Object.values(artefactFiles), 'manifest.json']) {
      await rename(join(temporary, fileName), join(outputFolder, fileName))
    }
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
  onProgress({ phase: 'done', detail: outputFolder })
  return {
    kernelPath: join(outputFolder, artefactFiles.kernel),
    initrdPath: join(outputFolder, artefactFiles.initrd),
    rootPath: join(outputFolder, artefactFiles.root),
    kernelVersion: manifest.kernelVersion,
    manifest,
    isFromCache,
  }
}

/** A machine that used the disk has changed its modification time. */
async function refuseUsedDisk(path: string, overwrite: boolean): Promise<void> {
  if (overwrite) return
  const found = await stat(path).catch(() => undefined)
  if (found === undefined || Math.floor(found.mtimeMs / 1000) === untouchedTimeS) return
  throw new WorldError(
    'guest-disk-in-use',
    `${path} has been used by a machine since it was built: build into another folder, or overwrite it with --overwrite`,
    ExitCode.wrongState,
  )
}

const leftoverPrefix = '.build-'

/** What a killed build left behind; only the holder of the lock may call this. */
async function removeLeftovers(cacheFolder: string): Promise<void> {
  for (const name of readdirSync(cacheFolder)) {
    if (name.startsWith(leftoverPrefix)) await rm(join(cacheFolder, name), { recursive: true, force: true })
  }
}

/** A fresh copy of a built root disk for a machine to write to; the original stays as it was built. */
export async function copyRootDisk(image: Pick<GuestImage, 'rootPath'>, path: string): Promise<void> {
  if (existsSync(path)) throw new WorldError('file-exists', `${path} exists: a machine may be using it`)
  await copySparse(image.rootPath, path)
}
