/** A VM to try things on: a guest of ours on a fresh copy of its disk, Redis forwarded to a free host port. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { buildGuest, copyRootDisk, defaultCacheFolder, type GuestImage } from '../guest/guest-builder.ts'
import type { GuestFlavour } from '../guest/guest-manifest.ts'
import type { OnGuestProgress } from '../guest/guest-progress.ts'
import { type Discipline, exactDiscipline } from '../log/discipline.ts'
import type { DiskBus } from '../machine/types.ts'

export interface GuestChoice {
  /** Default: minimal. */
  readonly flavour?: GuestFlavour
  /** A folder with a guest that is built already (`Image`, `initrd.cpio`, `root.ext4`); by default one is built. */
  readonly guestFolder?: string | undefined
}

export interface VmOptions extends GuestChoice {
  /** As the VM file has it; default 256M. */
  readonly memory?: string
  /** More words for the kernel; default `quiet`. */
  readonly append?: string
  /** More ports than Redis's, as the VM file has them: `127.0.0.1:2222:22`. */
  readonly forward?: readonly string[]
  /** Default: exact. */
  readonly discipline?: Discipline
  /** Whether lost backups are replaced by themselves; default false, so that each trial has one failure. */
  readonly automatic?: boolean
  /** Default: virtio-blk. */
  readonly bus?: DiskBus
  /** Default 1. */
  readonly backups?: number
  /** Members of etcd that decide which replica is live; default: the disk server. */
  readonly etcd?: readonly string[]
  /** Each replica has its own copy of the disk, b in `root-b.ext4`; default: one disk for both. */
  readonly ownDisks?: boolean
  /** Backups read the disk themselves; default false. */
  readonly backupReads?: boolean
}

export type ReadyGuest = Pick<GuestImage, 'kernelPath' | 'initrdPath' | 'rootPath'>

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}

/** The guest that was chosen; one that has to be built goes into the cache, below `buildName`. */
export async function readyGuest(
  { flavour = 'minimal', guestFolder }: GuestChoice,
  buildName: string,
  onProgress?: OnGuestProgress,
): Promise<ReadyGuest> {
  if (guestFolder !== undefined) {
    const file = (name: string): string => join(guestFolder, name)
    return { kernelPath: file('Image'), initrdPath: file('initrd.cpio'), rootPath: file('root.ext4') }
  }
  const outputFolder = join(defaultCacheFolder(), flavour === 'minimal' ? buildName : `${buildName}-${flavour}`)
  return await buildGuest({ outputFolder, flavour, overwrite: true }, onProgress)
}

/** Builds the guest (or finds it in the cache) and writes `vm.toml` into `folder`; returns its path. */
export async function writeRedisVm(
  folder: string,
  name: string,
  port: number,
  options: VmOptions = {},
): Promise<string> {
  mkdirSync(folder, { recursive: true })
  return await writeVmOf(await readyGuest(options, 'test-guest'), folder, name, port, options)
}

/** Writes `vm.toml`, and a fresh copy of the guest's disk, into `folder`, which is there; returns the file's path. */
export async function writeVmOf(
  guest: ReadyGuest,
  folder: string,
  name: string,
  port: number,
  options: Omit<VmOptions, keyof GuestChoice> = {},
): Promise<string> {
  await copyRootDisk(guest, join(folder, 'root.ext4'))
  const path = join(folder, 'vm.toml')
  writeFileSync(
    path,
    `name = "${name}"
memory = "${options.memory ?? '256M'}"
kernel = ${JSON.stringify(guest.kernelPath)}
initrd = ${JSON.stringify(guest.initrdPath)}
append = "${options.append ?? 'quiet'}"

[[disks]]
path = "root.ext4"
bus = "${options.bus ?? 'blk'}"
${options.ownDisks ? 'shared = false\ncopy = "root-b.ext4"\n' : ''}
[network]
forward = ${JSON.stringify([`127.0.0.1:${port}:6379`, ...(options.forward ?? [])])}
${protectionOf(options)}`,
  )
  return path
}

function protectionOf(options: VmOptions): string {
  const { discipline = exactDiscipline, automatic = false, backups = 1, backupReads = false, etcd } = options
  const section = ['', '[protection]', `backups = ${backups}`, `automatic = ${automatic}`]
  if (backupReads) section.push('backupReads = true')
  if (etcd) section.push(`arbiter = { etcd = ${JSON.stringify(etcd)} }`)
  if (discipline.kind === 'epoch') {
    section.push('discipline = "epoch"', `protocol = "${discipline.protocol}"`, `epoch = ${discipline.instructions}`)
  }
  return `${section.join('\n')}\n`
}
