/**
 * One process of a VM on a host of its own, in the foreground, from its configuration file. What it says goes to stderr
 * (for a service manager), and into the state folder (for `understudy logs`). SIGTERM and SIGINT end it in good order.
 *
 * Each waits for the others: hosts may be started in any order.
 */

import { rmSync } from 'node:fs'
import { ExitCode, WorldError } from '../base/assert.ts'
import { HostRegistry } from '../etcd/host-registry.ts'
import { defaultCacheFolder } from '../guest/guest-builder.ts'
import { ensureHostTool } from '../guest/host-tools.ts'
import type { Endpoint, SocketAddress } from '../net/address.ts'
import { etcdOf } from './arbiter-config.ts'
import { ask } from './control.ts'
import { serveDisks } from './disk-process.ts'
import { HostAgent } from './host-agent.ts'
import { diskServerSchema, readHostConfig, readHostSettings, replicaSchema, switchSchema } from './host-config.ts'
import { HostPlacer } from './host-placer.ts'
import { serveLan } from './lan-process.ts'
import { tokenOfKey } from './machine-token.ts'
import { startMonitor } from './monitor.ts'
import { openReplica, type ReplicaProcessSettings } from './replica-process.ts'
import { answerBeforeHarts } from './thread-priorities.ts'
import { TraceFile } from './trace-file.ts'
import type { ProcessTrace, VmFolder } from './vm-folder.ts'

export interface ReplicaOptions {
  /** A primary that waits for no backup. */
  readonly isUnprotected?: boolean
  /** Waits for the others. */
  readonly isPatient: boolean
  /** Default: to stderr, and into the state folder. */
  readonly trace?: (line: string) => void
}

/** @throws WorldError before the replica has its role; afterwards it ends the process itself */
export async function runReplica(path: string, options: ReplicaOptions): Promise<void> {
  const { file, machine, vm, key, folder } = readHostConfig(replicaSchema, path)
  const { name, role, channel, disk, network } = file
  const { isUnprotected = false, isPatient } = options
  if (isUnprotected && role === 'backup') {
    throw new WorldError('usage', `${path}: role: a backup cannot run unprotected`, ExitCode.usage)
  }
  const trace = await moveIn(folder, name, options.trace)
  rmSync(folder.consolePath(name), { force: true })
  const etcd = file.arbiter === undefined ? vm?.config.etcd : etcdOf(file.arbiter, path)
  const at = (address: SocketAddress): Endpoint => ({ address, key })
  const tap = network ? network.tap : vm?.config.network?.tap
  const settings: ReplicaProcessSettings = {
    machine,
    ...(vm ? { vmPath: vm.path } : {}),
    replica: name,
    role: isUnprotected ? 'alone' : role,
    token: tokenOfKey(key, machine),
    disk: at(disk.nbd),
    arbiter: at(disk.arbiter),
    ...(etcd ? { etcd } : {}),
    ...(disk.peer ? { peerDisk: at(disk.peer) } : {}),
    ...(network?.switch ? { lan: at(network.switch) } : {}),
    ...(tap === undefined ? {} : { tap }),
    ...(channel.listen ? { listen: at(channel.listen) } : {}),
    ...(role === 'backup' ? { primaries: channel.connect!.map(at) } : {}),
    isPatient,
    folderPath: folder.path,
    controlPath: folder.controlPath(name),
    consolePath: folder.consolePath(name),
  }
  const registry = etcd && new HostRegistry(etcd, trace)
  const isAutomatic = vm?.config.protection.automatic
  const announcement = registry?.announce(machine, name, file.host)
  const replica = await openReplica(settings, {
    trace,
    onOff: (exitCode) => process.exit(exitCode),
    onEnding: async () => announcement?.close(),
    starterOf: (replica) => registry && new HostPlacer({ replica, settings, registry, isAutomatic, trace }),
  })
  const metrics = file.metrics ?? vm?.config.metrics
  if (metrics) {
    const monitor = await startMonitor(folder, metrics.listen)
    trace(`metrics at ${monitor.address}`)
  }
  let isEnding = false
  onTermination(trace, async () => {
    isEnding = true
    await replica.stop()
    await announcement?.close()
  })
  try {
    await replica.start()
  } catch (error) {
    // Whoever ends it while it waits ends the waiting too.
    if (!isEnding) throw error
  }
}

/** @throws WorldError before it serves */
export async function runDiskServer(path: string): Promise<void> {
  const { file, machine, vm, key, folder } = readHostConfig(diskServerSchema, path)
  const trace = await moveIn(folder, 'disk')
  const close = await serveDisks(
    {
      machine,
      token: tokenOfKey(key, machine),
      disks: vm!.config.disks,
      copies: file.replica === undefined ? {} : { [file.replica]: 'path' },
      recordFolder: folder.file('arbiter'),
      controlPath: folder.controlPath('disk'),
      nbd: { address: file.nbd, key },
      arbiter: { address: file.arbiter, key },
      isDecidedElsewhere: vm!.config.etcd !== undefined,
    },
    trace,
  )
  onTermination(trace, close)
  trace('the disk server serves')
}

/** Offers this host to VMs until it is ended. @throws WorldError `bad-configuration` */
export async function runHost(path: string): Promise<void> {
  const trace = (line: string): void => console.error(`${new Date().toISOString()} ${line}`)
  const agent = new HostAgent(readHostSettings(path), trace)
  onTermination(trace, () => agent.close())
  await agent.run()
}

/** @throws WorldError before it serves */
export async function runSwitch(path: string): Promise<void> {
  const { file, machine, vm, key, folder } = readHostConfig(switchSchema, path)
  const network = vm!.config.network
  if (!network || network.tap !== undefined) {
    const why = network ? 'its machine is on a TAP' : 'its machine has no network'
    throw new WorldError('no-network', `${vm!.path}: ${why}: there is nothing to switch`, ExitCode.badConfiguration)
  }
  const trace = await moveIn(folder, 'lan')
  const lan = await serveLan(
    {
      machine,
      mac: network.mac,
      token: tokenOfKey(key, machine),
      replicaListen: { address: file.listen, key },
      controlPath: folder.controlPath('lan'),
      gateway: {
        passtPath: await ensureHostTool('passt', defaultCacheFolder(), ({ detail }) => trace(detail)),
        guestAddress: network.address,
        gatewayAddress: network.gateway,
        forwards: vm!.config.forwards,
      },
    },
    trace,
  )
  onTermination(trace, () => lan.close())
  trace('the switch serves')
}

/** The process goes before harts, the state folder is there, and no other process has this one's place in it. @returns where to trace */
async function moveIn(
  folder: VmFolder,
  name: ProcessTrace,
  trace?: (line: string) => void,
): Promise<(line: string) => void> {
  answerBeforeHarts()
  folder.create()
  const control = folder.controlPath(name)
  const other = await ask<{ pid: number }>(control, 'status')
  if (other) {
    throw new WorldError(
      'already-running',
      `"${name}" of VM ${folder.name} runs here already (pid ${other.pid}, folder ${folder.path})`,
      ExitCode.wrongState,
    )
  }
  rmSync(control, { force: true })
  if (trace) return trace
  const file = new TraceFile(folder.tracePath(name))
  return (line) => {
    console.error(`${new Date().toISOString()} ${line}`)
    file.write(line)
  }
}

function onTermination(trace: (line: string) => void, stop: () => Promise<void>): void {
  let isEnding = false
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (isEnding) return
      isEnding = true
      trace(`ending: ${signal}`)
      void stop().finally(() => process.exit(ExitCode.ok))
    })
  }
}
