/** The VMs of the system tests: a guest of ours on a fresh copy of its disk, Redis forwarded to a free host port. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { buildGuest, copyRootDisk, defaultCacheFolder } from '../../src/guest/guest-builder.ts'
import type { GuestFlavour } from '../../src/guest/guest-manifest.ts'

export interface VmOptions {
  /** Default: minimal. */
  readonly flavour?: GuestFlavour
  /** A folder with a guest that is built already (`Image`, `initrd.cpio`, `root.ext4`); by default one is built. */
  readonly guestFolder?: string | undefined
  /** As the VM file has it; default 256M. */
  readonly memory?: string
  /** More words for the kernel; default `quiet`. */
  readonly append?: string
}

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

async function readyGuest({ flavour = 'minimal', guestFolder }: VmOptions) {
  if (guestFolder !== undefined) {
    const file = (name: string): string => join(guestFolder, name)
    return { kernelPath: file('Image'), initrdPath: file('initrd.cpio'), rootPath: file('root.ext4') }
  }
  const outputFolder = join(defaultCacheFolder(), flavour === 'minimal' ? 'test-guest' : `test-guest-${flavour}`)
  return await buildGuest({ outputFolder, flavour, overwrite: true })
}

/** Builds the guest (or finds it in the cache) and writes `vm.toml` into `folder`; returns its path. */
export async function writeRedisVm(
  folder: string,
  name: string,
  port: number,
  options: VmOptions = {},
): Promise<string> {
  mkdirSync(folder, { recursive: true })
  const guest = await readyGuest(options)
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

[network]
forward = ["127.0.0.1:${port}:6379"]
`,
  )
  return path
}
