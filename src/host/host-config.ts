/**
 * One process of a VM that is spread over hosts, as its operator writes it: a replica, the disk server, or the switch,
 * each in a small TOML file of its own. Addresses are explicit: nothing listens where no file says so.
 *
 *   replica.toml       who it is, its VM (a backup may be without), the channel, where disk server and network are
 *   disk-server.toml   its VM's disks, and where it listens
 *   switch.toml        its VM's network, and where it listens
 *   host.toml          a host that offers itself to VMs: their keys, where etcd is, where replicas there listen
 *
 * One key file is shared by all of them. It lets them speak over TCP, and the machine's token is made of it.
 */

import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { z } from 'zod'
import { ExitCode, WorldError } from '../base/assert.ts'
import { parseSize } from '../base/units.ts'
import { nameSchema } from '../disk/names.ts'
import type { EtcdSettings } from '../etcd/etcd-settings.ts'
import { parseAddress, type TcpAddress } from '../net/address.ts'
import { readKeyFile, type SharedKey } from '../net/shared-key.ts'
import { arbiterSchema, etcdOf } from './arbiter-config.ts'
import { convert, parseConfigFile, resolveBeside } from './config-file.ts'
import { metricsSchema, readVmConfig, type VmConfig, vmNameSchema } from './vm-config.ts'
import { replicaNames, VmFolder } from './vm-folder.ts'

const address = z.string().transform((text, context) => convert(() => parseAddress(text), context))
const hostName = nameSchema
  .default(hostname())
  .describe("this host's name in etcd, where hosts and replicas are registered; default: what the system calls it")
const key = z.string().describe('the key file of the VM ("understudy keygen"), the same on each of its hosts')
const vm = z.string().describe('the VM file, or the folder that holds vm.toml')
const state = z
  .string()
  .optional()
  .describe('folder for traces, sockets and records; default ~/.local/state/understudy/NAME')

export const replicaSchema = z
  .strictObject({
    name: z.enum(replicaNames, 'write a letter from "a" to "e": the replicas of a machine have different names'),
    role: z.enum(['primary', 'backup'], 'write "primary" or "backup"').describe('what it starts as'),
    vm: vm.optional().describe('the VM file; a backup may be without, and gets the machine from its primary'),
    machine: vmNameSchema.optional().describe('name of the VM, where there is no VM file'),
    host: hostName,
    key,
    state,
    channel: z
      .strictObject({
        listen: address
          .optional()
          .describe('where a primary waits for its backups; with several, where a backup waits for one that went live'),
        connect: z
          .union([address, z.array(address).min(1)])
          .transform((one) => (Array.isArray(one) ? one : [one]))
          .optional()
          .describe('where a backup finds its primary, or a list of places where it may be'),
      })
      .describe('the logging channel'),
    disk: z
      .strictObject({
        nbd: address,
        arbiter: address,
        peer: address
          .optional()
          .describe("where the other replica's disk server listens, for disks that are not shared"),
      })
      .describe('where the disk server listens'),
    arbiter: arbiterSchema.optional().describe('as protection.arbiter of the VM file, in whose place it is'),
    metrics: metricsSchema.optional().describe('as metrics of the VM file, in whose place it is'),
    network: z
      .strictObject({
        switch: address.optional().describe('where the switch listens'),
        tap: z.string().optional().describe('or a TAP of this host, on the same real network as the other one'),
      })
      .refine(({ switch: at, tap }) => (at === undefined) !== (tap === undefined), 'name a switch or a TAP')
      .optional(),
  })
  .superRefine(({ role, vm, machine, channel }, context) => {
    const missing = (path: string[], message: string): void => context.addIssue({ code: 'custom', path, message })
    if (role === 'primary' && vm === undefined) missing(['vm'], 'a primary needs a VM file')
    if (vm === undefined && machine === undefined) missing(['machine'], 'name the VM, where there is no VM file')
    if (role === 'primary' && !channel.listen) missing(['channel', 'listen'], 'a primary needs an address to listen on')
    if (role === 'backup' && !channel.connect) missing(['channel', 'connect'], "a backup needs its primary's address")
  })

export const diskServerSchema = z.strictObject({
  vm,
  key,
  state,
  nbd: address.describe('where disks are served'),
  arbiter: address.describe('where the arbiter answers'),
  replica: z.enum(['a', 'b']).optional().describe('of disks that are not shared: whose copies are here'),
})

export const switchSchema = z.strictObject({
  vm,
  key,
  state,
  listen: address.describe('where replicas connect'),
})

export const hostSchema = z.strictObject({
  name: hostName,
  address: address
    .refine(({ path }) => path === undefined, 'write HOST:PORT, as 192.0.2.4:7110')
    .describe('where the first replica here listens; others take the ports after it'),
  memory: z
    .string()
    .transform((text, context) => convert(() => parseSize(text), context))
    .optional()
    .describe('no replica comes that needs more; default: what the system has available'),
  tap: z.string().optional().describe('a TAP of this host, for VMs on a real network'),
  arbiter: arbiterSchema.describe('as protection.arbiter of the VMs: the cluster of etcd'),
  keys: z
    .record(vmNameSchema, z.string())
    .refine((keys) => Object.keys(keys).length > 0, 'name a VM and its key file: shop = "shop.key"')
    .describe('the VMs that may come here, and their key files'),
})

const schemas = {
  replica: replicaSchema,
  'disk-server': diskServerSchema,
  switch: switchSchema,
  host: hostSchema,
} as const

export const hostFileKinds = ['replica', 'disk-server', 'switch', 'host'] as const

/** What such a file may hold, as JSON Schema. */
export function hostFileJsonSchema(kind: (typeof hostFileKinds)[number]): unknown {
  return z.toJSONSchema(schemas[kind], { io: 'input' })
}

/** What every file of a host has, checked and read. */
export interface HostConfig<File> {
  readonly file: File
  readonly machine: string
  readonly vm: { readonly config: VmConfig; readonly path: string } | undefined
  readonly key: SharedKey
  readonly folder: VmFolder
}

type HostFile = {
  readonly key: string
  readonly vm?: string | undefined
  readonly machine?: string | undefined
  readonly state?: string | undefined
}

/** @throws WorldError of one line: the file, its VM or its key is not in order */
export function readHostConfig<Schema extends z.ZodType<HostFile>>(
  schema: Schema,
  path: string,
): HostConfig<z.output<Schema>> {
  const file = parseConfigFile(schema, readText(path), path)
  const vm = file.vm === undefined ? undefined : readVmConfig(resolveBeside(path, file.vm))
  const machine = vm?.config.name ?? file.machine!
  if (file.machine !== undefined && file.machine !== machine) {
    throw new WorldError(
      'bad-configuration',
      `${path}: machine: the VM file names ${machine}, not ${file.machine}: leave machine out`,
      ExitCode.badConfiguration,
    )
  }
  const folder = folderOf(path, file.state, machine)
  return { file, machine, vm, key: readKeyFile(resolveBeside(path, file.key)), folder }
}

/** What `understudy host` is told. Paths are absolute. */
export interface HostSettings {
  readonly name: string
  readonly address: TcpAddress
  readonly memoryBytes: number | undefined
  readonly tap: string | undefined
  readonly etcd: EtcdSettings
  /** The key file of each VM that may come. */
  readonly machines: ReadonlyMap<string, string>
}

/** @throws WorldError of one line: the file or one of the keys is not in order */
export function readHostSettings(path: string): HostSettings {
  const { name, address, memory, tap, arbiter, keys } = parseConfigFile(hostSchema, readText(path), path)
  const etcd = etcdOf(arbiter, path)
  if (etcd === undefined) {
    throw new WorldError(
      'bad-configuration',
      `${path}: arbiter: hosts are registered in etcd: write { etcd = ["https://HOST:PORT", …] }`,
      ExitCode.badConfiguration,
    )
  }
  const machines = new Map(Object.entries(keys).map(([machine, file]) => [machine, resolveBeside(path, file)]))
  for (const file of machines.values()) readKeyFile(file)
  return { name, address: address as TcpAddress, memoryBytes: memory, tap, etcd, machines }
}

/** The state folder of the VM that a host's file belongs to, for commands that look after it. */
export function hostFolder(path: string, file: Readonly<Record<string, unknown>>): VmFolder {
  const text = (name: string): string | undefined => (typeof file[name] === 'string' ? file[name] : undefined)
  const vm = text('vm')
  const machine = vm === undefined ? text('machine') : readVmConfig(resolveBeside(path, vm)).config.name
  if (machine === undefined) {
    throw new WorldError('bad-configuration', `${path}: it names neither vm nor machine`, ExitCode.badConfiguration)
  }
  return folderOf(path, text('state'), machine)
}

function folderOf(path: string, state: string | undefined, machine: string): VmFolder {
  return state === undefined ? new VmFolder(machine) : VmFolder.at(resolveBeside(path, state), machine)
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const why = code === 'ENOENT' ? 'no such file' : `cannot be read (${code})`
    throw new WorldError('bad-configuration', `${path}: ${why}: name a configuration file`, ExitCode.badConfiguration)
  }
}
