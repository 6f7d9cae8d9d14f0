/**
 * The small Debian guest with Redis that system tests run: built once into the user's cache, or taken from the folder
 * that UNDERSTUDY_TEST_GUEST names (`Image`, `initrd.cpio`, `root.ext4`, `manifest.json`). Tests only read it.
 */

import { join } from 'node:path'
import { buildGuest, defaultCacheFolder } from '../../src/guest/guest-builder.ts'

export interface TestGuest {
  readonly kernelPath: string
  readonly initrdPath: string
  readonly rootPath: string
  readonly manifestPath: string
}

export async function testGuest(): Promise<TestGuest> {
  const folder = process.env.UNDERSTUDY_TEST_GUEST ?? join(defaultCacheFolder(), 'test-guest')
  if (process.env.UNDERSTUDY_TEST_GUEST === undefined) await buildGuest({ outputFolder: folder, overwrite: true })
  return {
    kernelPath: join(folder, 'Image'),
    initrdPath: join(folder, 'initrd.cpio'),
    rootPath: join(folder, 'root.ext4'),
    manifestPath: join(folder, 'manifest.json'),
  }
}
