/** The files a VM boots from, read and checked before anything starts. */

import { closeSync, existsSync, openSync, readFileSync, statSync, truncateSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import { ExitCode, WorldError } from '../base/assert.ts'
import { sectorBytes } from '../base/units.ts'
import { describeKernel } from '../machine/kernel-image.ts'
import type { BootImage, MachineConfig } from '../machine/types.ts'
import { bootArguments, macBytes, type VmConfig } from './vm-config.ts'

function read(path: string, what: string): Uint8Array {
  try {
    return readFileSync(path)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    throw new WorldError(
      'no-such-file',
      `${what} ${path}: ${code === 'ENOENT' ? 'no such file; "understudy guest build" makes one' : `cannot be read (${code})`}`,
      ExitCode.badConfiguration,
    )
  }
}

function isGzip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b
}

/** @throws WorldError when a file is missing, truncated, or not for this machine */
export function readBootImage(config: VmConfig): BootImage {
  let kernel = read(config.kernel, 'kernel')
  if (isGzip(kernel)) {
    try {
      kernel = gunzipSync(kernel)
    } catch {
      throw new WorldError('bad-kernel', `kernel ${config.kernel}: damaged gzip file`, ExitCode.badConfiguration)
    }
  }
  checkKernel(kernel, config.kernel)
  const initrd = config.initrd === undefined ? new Uint8Array() : read(config.initrd, 'initrd')
  return { kind: 'linux', kernel, initrd, bootArguments: bootArguments(config) }
}

function checkKernel(kernel: Uint8Array, path: string): void {
  try {
    describeKernel(kernel)
  } catch (error) {
    if (!(error instanceof WorldError)) throw error
    throw new WorldError(error.code, `${path}: ${error.message}`, ExitCode.badConfiguration)
  }
}

/** What the machine is made of, with disks of these sizes: what the disk server says. */
export function machineConfig(config: VmConfig, diskSizesBytes: readonly number[]): MachineConfig {
  return {
    ramBytes: config.memory,
    disks: config.disks.map((disk, index) => ({
      sectors: BigInt(Math.floor(diskSizesBytes[index]! / sectorBytes)),
      readOnly: disk.readOnly,
      ...(disk.bus === 'scsi' ? { bus: disk.bus } : {}),
      serial: `understudy-${index}`,
      ...(disk.isOwn ? { isOwn: true } : {}),
    })),
    ...(config.network ? { nic: { mac: macBytes(config.network.mac) } } : {}),
  }
}

/** Looks at the disks' image files before anything is started. @throws WorldError when one is missing or truncated */
export function checkDiskImages(config: VmConfig): void {
  for (const disk of config.disks) if ('path' in disk) checkDiskImage(disk.path)
}

/**
 * Where one host runs both replicas, replica b has its copies beside those of a: made here, empty, where there are none.
 * @throws WorldError when a disk that is not shared names none
 */
export function makeMissingCopies({ disks }: VmConfig): void {
  for (const [index, disk] of disks.entries()) {
    if (!disk.isOwn || !('path' in disk)) continue
    if (disk.copyPath === undefined) {
      throw new WorldError(
        'no-copy',
        `disks.${index} is not shared: write copy = "FILE", where the copy of replica b is to be`,
        ExitCode.badConfiguration,
      )
    }
    if (existsSync(disk.copyPath)) continue
    closeSync(openSync(disk.copyPath, 'wx', 0o600))
    truncateSync(disk.copyPath, statSync(disk.path).size)
  }
}

function checkDiskImage(path: string): void {
  let bytes: number
  try {
    bytes = statSync(path).size
  } catch {
    throw new WorldError(
      'no-such-file',
      `disk ${path}: no such file; "understudy guest build" makes one`,
      ExitCode.badConfiguration,
    )
  }
  if (bytes === 0 || bytes % sectorBytes !== 0) {
    throw new WorldError(
      'bad-disk-image',
      `disk ${path}: ${bytes} bytes is not a whole number of 512-byte sectors; is the file truncated?`,
      ExitCode.badConfiguration,
    )
  }
}
