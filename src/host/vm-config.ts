/**
 * A VM as its user writes it: one small TOML (or JSON) file. The schema below is the single source of truth: it checks
 * the file, gives the defaults, and is published by `understudy config-schema`.
 */

import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { z } from 'zod'
import { ExitCode, WorldError } from '../base/assert.ts'
import { GiB, MiB, parseDuration, parseSize } from '../base/units.ts'
import type { DiskSource } from '../disk/disk-server.ts'
import { parseNbdUri } from '../disk/nbd-uri.ts'
import type { EtcdSettings } from '../etcd/etcd-settings.ts'
import {
  type Discipline,
  defaultEpoch,
  epochLengths,
  epochProtocols,
  exactDiscipline,
  longestEpochInstructions,
  shortestEpochInstructions,
} from '../log/discipline.ts'
import type { DiskBus } from '../machine/types.ts'
import { arbiterSchema, etcdOf } from './arbiter-config.ts'
import { convert, parseConfigFile, resolveBeside } from './config-file.ts'

const size = z
  .union([z.string(), z.number()])
  .transform((value, context) => convert(() => (typeof value === 'number' ? value : parseSize(value)), context))
const duration = z.string().transform((value, context) => convert(() => parseDuration(value), context))

const macPattern = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i
const forwardPattern = /^(?:(\d+\.\d+\.\d+\.\d+):)?(\d+):(\d+)$/
const listenPattern = /^(\d+\.\d+\.\d+\.\d+:\d{1,5}|unix:\/.+)$/
const interfacePattern = /^[^\s/:]{1,15}$/
const addressPattern = /^\d+\.\d+\.\d+\.\d+$/

export const vmNameSchema = z.string().regex(/^[a-z0-9][a-z0-9-]{0,39}$/i, 'use letters, digits and "-", at most 40')

const nbdUri = z.string().transform((text, context) =>
  convert(() => {
    parseNbdUri(text)
    return text
  }, context),
)

const disk = z
  .strictObject({
    path: z.string().optional().describe('a raw image file'),
    nbd: nbdUri.optional().describe('the export of another NBD server: nbd+unix:///NAME?socket=/PATH'),
    readOnly: z.boolean().default(false),
    bus: z.enum(['blk', 'scsi']).default('blk').describe('what the guest finds it at: virtio-blk or virtio-scsi'),
    shared: z.boolean().default(true).describe('false: each replica has a copy of its own'),
    copy: z.string().optional().describe('of a disk that is not shared: the copy of replica b, where "up" runs both'),
  })
  .refine(({ path, nbd }) => (path === undefined) !== (nbd === undefined), 'write either path or nbd')
  .refine(({ shared, path }) => shared || path !== undefined, 'a disk that is not shared has a path')
  .refine(({ shared, copy }) => !shared || copy === undefined, 'copy is for a disk that is not shared')

export const metricsSchema = z.strictObject({
  listen: z
    .string()
    .regex(listenPattern, 'write HOSTADDRESS:PORT, as 127.0.0.1:9100, or unix:/PATH')
    .refine((text) => text.startsWith('unix:') || Number(text.split(':')[1]) <= 65_535, 'a port is at most 65535')
    .describe('where /metrics and /readyz are served'),
})

export const vmSchema = z
  .strictObject({
    name: vmNameSchema,
    memory: size
      .refine((bytes) => bytes >= 64 * MiB && bytes <= 3 * GiB, 'use 64M to 3G')
      .default(256 * MiB)
      .describe('RAM of the guest, 64M to 3G'),
    kernel: z.string().describe('a riscv64 Linux Image, gzip allowed'),
    initrd: z.string().optional(),
    append: z.string().default('').describe('kernel command line, added to what the network section implies'),
    disks: z.array(disk).max(5).default([]),
    network: z
      .strictObject({
        mac: z
          .string()
          .regex(macPattern, 'write six hexadecimal bytes, as 52:54:00:12:34:56')
          .default('52:54:00:75:6e:64'),
        address: z.string().regex(addressPattern, 'write an IPv4 address').default('10.0.2.15'),
        prefix: z
          .int()
          .min(1, 'use 1 to 32')
          .max(32, 'use 1 to 32')
          .default(24)
          .describe("bits of the address's network"),
        gateway: z.string().regex(addressPattern, 'write an IPv4 address').default('10.0.2.2'),
        forward: z
          .array(z.string().regex(forwardPattern, 'write [HOSTADDRESS:]HOSTPORT:GUESTPORT, as 127.0.0.1:6379:6379'))
          .default([]),
        tap: z
          .string()
          .regex(interfacePattern, 'write the name of a network interface, as tap0')
          .optional()
          .describe("a TAP of the replica's host: the guest is on a real network, without switch and gateway"),
      })
      .refine(({ tap, forward }) => tap === undefined || forward.length === 0, {
        path: ['forward'],
        message: 'there is no gateway beside a TAP: connect to the guest by its own address, and leave forward out',
      })
      .optional(),
    protection: z
      .strictObject({
        backups: z
          .int()
          .min(0, 'use 0 to 4')
          .max(4, 'use 0 to 4')
          .default(1)
          .describe('how many backups the VM is to have, 0 to 4: outputs wait for all of them'),
        heartbeat: duration.default(500),
        timeout: duration.default(2000).describe('silence after which the peer counts as lost'),
        automatic: z
          .boolean()
          .default(true)
          .describe('start a new backup by itself after a failover or the loss of a backup'),
        backupReads: z
          .boolean()
          .default(false)
          .describe('what the guest reads from its disks is left out of the log: each backup reads it itself'),
        lag: duration.default(30).describe('a backup that stays further behind slows the primary'),
        digestEvery: duration.default(1000).describe('how often primary and backup compare digests'),
        discipline: z
          .enum(['exact', 'epoch'])
          .default('exact')
          .describe('inputs enter at the instruction where they arrive, or only where an epoch ends'),
        protocol: z
          .enum(epochProtocols)
          .default(defaultEpoch.protocol)
          .describe('epoch discipline: acknowledgements are awaited at the end of an epoch, or before outputs'),
        epoch: z
          .int()
          .min(shortestEpochInstructions, `use ${epochLengths}`)
          .max(longestEpochInstructions, `use ${epochLengths}`)
          .default(defaultEpoch.instructions)
          .describe('epoch discipline: length of an epoch in instructions'),
        arbiter: arbiterSchema.default('disk'),
      })
      .prefault({}),
    metrics: metricsSchema.optional(),
  })
  .refine(({ disks, protection }) => protection.backups <= 1 || disks.every(({ shared }) => shared), {
    path: ['protection', 'backups'],
    message: 'a VM with a disk that is not shared has one backup at most',
  })

export type VmFile = z.output<typeof vmSchema>

/** What a VM file may hold, as JSON Schema. */
export function vmJsonSchema(): unknown {
  return z.toJSONSchema(vmSchema, { io: 'input' })
}

export interface PortForward {
  readonly hostAddress: string
  readonly hostPort: number
  readonly guestPort: number
}

/** One disk: where it is, and whether the guest may write to it. */
export type VmDisk = DiskSource & {
  readonly readOnly: boolean
  readonly bus: DiskBus
  /** Each replica has a copy of its own. */
  readonly isOwn?: boolean
  /** Of an own disk: the image of replica b, where both replicas run on one host. */
  readonly copyPath?: string
}

/** The image file of the root disk; undefined if it is the export of another server, or there is none. */
export function rootImagePath({ disks }: VmConfig): string | undefined {
  const [root] = disks
  return root && 'path' in root ? root.path : undefined
}

/** A checked VM; paths are absolute. */
export interface VmConfig extends Omit<VmFile, 'disks'> {
  readonly disks: readonly VmDisk[]
  readonly forwards: readonly PortForward[]
  /** The arbiter, if it is not the disk server's. */
  readonly etcd: EtcdSettings | undefined
}

export function parseForward(text: string): PortForward {
  const match = forwardPattern.exec(text)!
  return { hostAddress: match[1] ?? '127.0.0.1', hostPort: Number(match[2]), guestPort: Number(match[3]) }
}

/**
 * Checks the text of a VM file.
 * @throws WorldError `bad-configuration`: one line with file, line, key and the fix
 */
export function parseVmConfig(text: string, path: string): VmConfig {
  const vm = parseConfigFile(vmSchema, text, path)
  const absolute = (file: string): string => resolveBeside(path, file)
  return {
    ...vm,
    kernel: absolute(vm.kernel),
    ...(vm.initrd === undefined ? {} : { initrd: absolute(vm.initrd) }),
    disks: vm.disks.map(({ path: image, nbd, readOnly, bus, shared, copy }) => {
      if (image === undefined) return { nbd: nbd!, readOnly, bus }
      const source = { path: absolute(image), readOnly, bus }
      if (shared) return source
      return { ...source, isOwn: true, ...(copy === undefined ? {} : { copyPath: absolute(copy) }) }
    }),
    forwards: (vm.network?.forward ?? []).map(parseForward),
    etcd: etcdOf(vm.protection.arbiter, path),
  }
}

/**
 * Reads a VM: a path to its file, or a folder that holds `vm.toml`.
 * @throws WorldError `no-such-vm` or `bad-configuration`
 */
export function readVmConfig(vm: string): { readonly config: VmConfig; readonly path: string } {
  const path = [vm, `${vm}/vm.toml`, `${vm}.toml`].find((candidate) => existsSync(candidate) && !isFolder(candidate))
  if (path === undefined) {
    throw new WorldError(
      'no-such-vm',
      `no VM file at ${vm}: name a TOML file, or a folder that holds vm.toml`,
      ExitCode.noSuchVm,
    )
  }
  return { config: parseVmConfig(readFileSync(path, 'utf8'), path), path: resolve(path) }
}

function isFolder(path: string): boolean {
  try {
    readFileSync(path)
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EISDIR'
  }
}

/**
 * Debian's kernel tries all its ciphers against known answers at every boot: half of the instructions of a small guest's
 * boot. That finds broken hardware; this machine's arithmetic is tested elsewhere (test/isa). In FIPS mode the kernel does it anyway.
 */
const withoutCryptographicSelfTests = 'cryptomgr.notests'

/**
 * What a kernel does by the clock although nobody needs it, and wakes an idle machine for, both replicas of it: counters of
 * its memory zones are gathered every second, memory is compacted ahead of need twice a second, averages of how long tasks
 * wait for resources are taken every two seconds, and a task must run every four to show that the processor is not stuck.
 */
const withoutHousekeeping =
  'sysctl.vm.stat_interval=10 sysctl.vm.compaction_proactiveness=0 psi=0 sysctl.kernel.soft_watchdog=0'

/** The kernel's command line: console, no self-tests, little housekeeping, root disk, network, then what the file appends, which wins. */
export function bootArguments(config: VmConfig): string {
  const parts = ['console=ttyS0', withoutCryptographicSelfTests, withoutHousekeeping]
  const [root] = config.disks
  if (root) parts.push(root.bus === 'scsi' ? 'root=/dev/sda' : 'root=/dev/vda', 'rw')
  // Our ramdisk loads the modules of the SCSI bus only then: they cost every boot something.
  if (config.disks.some(({ bus }) => bus === 'scsi')) parts.push('disks=scsi')
  if (config.network) {
    const { address, prefix, gateway } = config.network
    parts.push(`ip4=${address}/${prefix}`, `gw4=${gateway}`)
  }
  if (config.append) parts.push(config.append)
  return parts.join(' ')
}

export function disciplineOf({ protection }: VmConfig): Discipline {
  const { discipline, protocol, epoch } = protection
  return discipline === 'exact' ? exactDiscipline : { kind: 'epoch', protocol, instructions: epoch }
}

export function macBytes(mac: string): Uint8Array {
  return Uint8Array.from(mac.split(':'), (byte) => Number.parseInt(byte, 16))
}
