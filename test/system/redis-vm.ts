/** The VM of the system tests: the default guest, on a fresh copy of its disk, Redis forwarded to a free host port. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { buildGuest, copyRootDisk, defaultCacheFolder } from '../../src/guest/guest-builder.ts'

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

/** Builds the guest (or finds it in the cache) and writes `vm.toml` into `folder`; returns its path. */
export async function writeRedisVm(folder: string, name: string, port: number): Promise<string> {
  mkdirSync(folder, { recursive: true })
  const guest = await buildGuest({ outputFolder: join(defaultCacheFolder(), 'test-guest'), overwrite: true })
  await copyRootDisk(guest, join(folder, 'root.ext4'))
  const path = join(folder, 'vm.toml')
  writeFileSync(
    path,
    `name = "${name}"
memory = "256M"
kernel = ${JSON.stringify(guest.kernelPath)}
initrd = ${JSON.stringify(guest.initrdPath)}
append = "quiet"

[[disks]]
path = "root.ext4"

[network]
forward = ["127.0.0.1:${port}:6379"]
`,
  )
  return path
}
