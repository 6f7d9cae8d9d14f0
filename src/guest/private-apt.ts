/**
 * A package manager of our own: Debian's apt, with its state in the cache folder.
 *
 * The idea: apt already knows mirrors, proxies, signatures and dependencies. Run with its own lists, an empty list of
 * installed packages and one source, it works for an ordinary user, for any architecture, and changes nothing on the
 * host. The mirror is the one that the machine itself uses; Debian's installed keyring verifies it; and every package
 * is checked once more against the signed index before it is used, so that a damaged cache is noticed.
 *
 * It does not install: maintainer scripts never run. See apt-get(8), apt.conf(5), sources.list(5).
 */

import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { mkdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { ExitCode, WorldError } from '../base/assert.ts'
import { findProgram, lastLine, runCommand } from './command.ts'
import type { OnGuestProgress } from './guest-progress.ts'

/** The Debian release that guests (and fetched tools) come from. */
export const debianSuite = 'trixie'

/** Overrides the mirror, for machines whose own apt does not use one of Debian's. */
export const mirrorVariable = 'UNDERSTUDY_DEBIAN_MIRROR'

/** An index younger than this is used as it is. */
const indexLifetimeMs = 24 * 3_600_000

/** Where Debian installs the keys that sign its archive. */
export const debianKeyrings = [
  '/usr/share/keyrings/debian-archive-keyring.gpg',
  '/usr/share/keyrings/debian-archive-keyring.pgp',
]

/** One package of the signed index. */
export interface PackageRecord {
  readonly name: string
  readonly version: string
  readonly architecture: string
  readonly sizeBytes: number
  readonly sha256: string
}

export interface PrivateAptOptions {
  readonly cacheFolder: string
  /** Debian's name: `riscv64` for guests, the host's own for tools. */
  readonly architecture: string
  readonly onProgress: OnGuestProgress
  /** Never use the network: what the cache does not hold is an error. */
  readonly offline?: boolean | undefined
  /** Ask the mirror for its newest index first, however young ours is. */
  readonly refresh?: boolean | undefined
  readonly signal?: AbortSignal | undefined
}

const rules: readonly [RegExp, (match: RegExpExecArray, architecture: string) => WorldError][] = [
  [
    /Unable to locate package (\S+)|Package '(\S+)' has no installation candidate|Version '\S+' for '(\S+)' was not found/,
    ([, a, b, c], architecture) =>
      new WorldError(
        'unknown-package',
        `Debian ${debianSuite} has no package "${a ?? b ?? c}" for ${architecture}: check the name`,
        ExitCode.badConfiguration,
      ),
  ],
  [
    /NO_PUBKEY|is not signed|couldn't be verified|public key is not available|Missing key/,
    () =>
      new WorldError(
        'mirror-not-trusted',
        `the installed Debian keyring cannot verify ${debianSuite}: update the package debian-archive-keyring`,
      ),
  ],
  [
    /No space left|enough free space|write error.*space/i,
    () => new WorldError('no-space', 'no space left for downloads: free some, or move the cache with XDG_CACHE_HOME'),
  ],
  [
    /Temporary failure|Could not resolve|Could not connect|Unable to connect|Cannot initiate|Connection \w+|Network is unreachable|No route|Failed to fetch/,
    () =>
      new WorldError(
        'no-network',
        `the Debian mirror that this machine's apt uses is out of reach: check the network, or set ${mirrorVariable}`,
      ),
  ],
  [
    /Could not get lock|Unable to lock/,
    () => new WorldError('cache-busy', 'another program is using the package cache: try again when it is done'),
  ],
  [
    /unmet dependencies|held broken packages|Conflicts/i,
    () => new WorldError('packages-conflict', 'these packages cannot be installed together', ExitCode.badConfiguration),
  ],
]

/** Turns apt's complaint into one line; `doing` names what failed when no rule knows the reason. */
export function aptError(stderr: string, doing: string, architecture: string): WorldError {
  for (const [pattern, make] of rules) {
    const match = pattern.exec(stderr)
    if (match) return make(match, architecture)
  }
  return new WorldError('apt-failed', `apt cannot ${doing}: ${lastLine(stderr)}`)
}

function program(name: string): string {
  const path = findProgram(name)
  if (path) return path
  throw new WorldError(
    'no-apt',
    `${name} is not installed: guests are built from Debian packages, so use a Debian host`,
  )
}

/** SHA-256 of a file, in hexadecimal. */
export async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash)
  return hash.digest('hex')
}

/**
 * The mirror for `debianSuite`: the first of the machine's own sources that is a Debian release with the component main.
 * `targets` is what `apt-get indextargets` says, one `URI|release|component` a line.
 */
export function chooseMirror(targets: string): string | undefined {
  const sources = targets.split('\n').map((line) => line.split('|'))
  const releases = sources.filter(
    ([uri, release, component]) =>
      uri !== undefined &&
      component === 'main' &&
      release !== undefined &&
      !release.includes('-') &&
      !release.includes('/'),
  )
  return releases.find(([uri]) => /[/+-]debian\b(?!-)/.test(uri!))?.[0]
}

export class PrivateApt {
  readonly #options: PrivateAptOptions
  readonly #folder: string

  constructor(options: PrivateAptOptions) {
    this.#options = options
    this.#folder = join(options.cacheFolder, 'apt', `${debianSuite}-${options.architecture}`)
  }

  /** Where a package is kept once it is downloaded. */
  pathOf(record: PackageRecord): string {
    const version = record.version.replaceAll(':', '%3a')
    return join(this.#folder, 'archives', `${record.name}_${version}_${record.architecture}.deb`)
  }

  /** Writes the configuration, and fetches the signed index unless ours is young enough. */
  async open(): Promise<void> {
    const { offline, refresh, onProgress } = this.#options
    program('apt-get')
    program('apt-cache')
    for (const name of ['lists/partial', 'archives/partial', 'etc/preferences.d', 'trace']) {
      await mkdir(join(this.#folder, name), { recursive: true })
    }
    const stamp = join(this.#folder, 'index-fetched')
    const fetchedAt = await stat(stamp).then(
      (found) => found.mtimeMs,
      () => 0,
    )
    if (offline) {
      if (fetchedAt === 0) throw this.#notCached('its index')
      return
    }
    if (fetchedAt > 0 && !refresh && Date.now() - fetchedAt < indexLifetimeMs) return
    await this.#configure()
    onProgress({ phase: 'index', detail: `fetching Debian ${debianSuite}'s package index` })
    const result = await this.#apt('apt-get', ['-q', 'update'])
    if (result.exitCode !== 0 || /Failed to fetch|Some index files failed/.test(result.stderr)) {
      // An older index still describes packages that we hold; without one there is nothing to work from.
      const error = aptError(result.stderr, 'fetch the package index', this.#options.architecture)
      if (fetchedAt === 0 || error.code !== 'no-network' || refresh) throw error
      onProgress({ phase: 'index', detail: 'the mirror is out of reach: going on with the index from last time' })
      return
    }
    await writeFile(stamp, '')
    await utimes(stamp, new Date(), new Date())
  }

  /** The packages and everything they depend on, in apt's order of installation. */
  async resolve(names: readonly string[]): Promise<PackageRecord[]> {
    const wrong = names.find((name) => !/^[a-z0-9][a-z0-9+.-]+$/.test(name))
    if (wrong !== undefined) throw aptError(`Unable to locate package ${wrong}`, '', this.#options.architecture)
    this.#options.onProgress({ phase: 'resolve', detail: `dependencies of ${names.join(', ')}` })
    const result = await this.#apt('apt-get', ['-s', 'install', ...names])
    if (result.exitCode !== 0) {
      throw aptError(`${result.stdout}\n${result.stderr}`, `resolve ${names.join(' ')}`, this.#options.architecture)
    }
    const chosen = [...result.stdout.matchAll(/^Inst (\S+) (?:\[\S+\] )?\((\S+) /gm)].map(
      ([, name, version]) => `${name}=${version}`,
    )
    const shown = await this.#apt('apt-cache', ['show', '--no-all-versions', ...chosen])
    if (shown.exitCode !== 0) throw aptError(shown.stderr, 'read its index', this.#options.architecture)
    return parseRecords(shown.stdout)
  }

  /** Brings every package into the cache, checked against the index. */
  async download(records: readonly PackageRecord[]): Promise<void> {
    const { onProgress, offline } = this.#options
    const missing: PackageRecord[] = []
    for (const record of records) {
      if (!(await this.#holds(record))) missing.push(record)
    }
    if (missing.length === 0) return
    if (offline) throw this.#notCached(missing[0]!.name)
    const totalBytes = missing.reduce((sum, record) => sum + record.sizeBytes, 0)
    const detail = missing.length === 1 ? missing[0]!.name : `${missing.length} packages`
    const onStatusLine = (line: string) => {
      const percent = /^dlstatus:\d+:([\d.]+):/.exec(line)?.[1]
      if (percent === undefined) return
      const doneBytes = Math.min(totalBytes, Math.round((totalBytes * Number(percent)) / 100))
      onProgress({ phase: 'download', detail, doneBytes, totalBytes })
    }
    onProgress({ phase: 'download', detail, doneBytes: 0, totalBytes })
    const wanted = missing.map((record) => `${record.name}=${record.version}`)
    const result = await this.#apt('apt-get', ['-q', '-o', 'APT::Status-Fd=3', 'download', ...wanted], onStatusLine)
    if (result.exitCode !== 0) throw aptError(result.stderr, `download ${detail}`, this.#options.architecture)
    for (const record of missing) {
      if (await this.#holds(record)) continue
      throw new WorldError(
        'package-damaged',
        `${record.name} arrived damaged: its SHA-256 differs from the signed index`,
      )
    }
    onProgress({ phase: 'download', detail, doneBytes: totalBytes, totalBytes })
  }

  /** Whether the cache holds exactly this package; a wrong file is removed. */
  async #holds(record: PackageRecord): Promise<boolean> {
    const path = this.pathOf(record)
    if (!existsSync(path)) return false
    if ((await stat(path)).size === record.sizeBytes && (await sha256OfFile(path)) === record.sha256) return true
    await rm(path, { force: true })
    return false
  }

  #notCached(what: string): WorldError {
    return new WorldError('not-cached', `offline, and the cache does not hold ${what}: build once with the network`)
  }

  /** The machine's own mirror, proxies and credentials; everything else is ours. */
  async #configure(): Promise<void> {
    const keyring = debianKeyrings.find((path) => existsSync(path))
    if (keyring === undefined) {
      throw new WorldError('no-keyring', 'no Debian keyring: install the package debian-archive-keyring')
    }
    const acquire = await runCommand(program('apt-config'), ['dump', 'Acquire'], this.#commandOptions())
    const own = /^Acquire::(IndexTargets|Languages|GzipIndexes|CompressionTypes|Changelogs)\b|^Acquire "/
    const inherited = acquire.stdout.split('\n').filter((line) => line.startsWith('Acquire') && !own.test(line))
    const folder = this.#folder
    const configuration = [
      `Dir::State "${folder}"; Dir::State::lists "${folder}/lists"; Dir::State::status "${folder}/status";`,
      `Dir::Cache "${folder}"; Dir::Cache::archives "${folder}/archives"; Dir::Log "${folder}/trace";`,
      `Dir::Etc "${folder}/etc"; Dir::Etc::sourcelist "${folder}/debian.sources"; Dir::Etc::sourceparts "/dev/null";`,
      'Dir::Etc::netrc "/etc/apt/auth.conf"; Dir::Etc::netrcparts "/etc/apt/auth.conf.d";',
      `APT::Architecture "${this.#options.architecture}"; APT::Architectures { "${this.#options.architecture}"; };`,
      'APT::Install-Recommends "false"; APT::Sandbox::User ""; APT::Get::AllowUnauthenticated "false";',
      'Acquire::Languages "none"; Acquire::Retries "2"; Acquire::http::Timeout "20";',
      ...inherited,
    ]
    const source = [
      'Types: deb',
      `URIs: ${await this.#mirror()}`,
      `Suites: ${debianSuite}`,
      'Components: main',
      `Architectures: ${this.#options.architecture}`,
      `Signed-By: ${keyring}`,
    ]
    await writeFile(join(folder, 'status'), '')
    await writeFile(join(folder, 'apt.conf'), `${configuration.join('\n')}\n`)
    await writeFile(join(folder, 'debian.sources'), `${source.join('\n')}\n`)
  }

  async #mirror(): Promise<string> {
    const given = process.env[mirrorVariable]
    if (given) return given
    const format = '$(REPO_URI)|$(RELEASE)|$(COMPONENT)'
    const targets = await runCommand(
      program('apt-get'),
      // Without --no-release-info only targets that `apt update` has already fetched are listed.
      ['indextargets', '--no-release-info', '--format', format, 'Created-By: Packages'],
      this.#commandOptions(),
    )
    const mirror = chooseMirror(targets.stdout)
    if (mirror !== undefined) return mirror
    throw new WorldError(
      'no-mirror',
      `this machine's apt uses no Debian mirror: set ${mirrorVariable} to the URI of one`,
    )
  }

  #commandOptions() {
    return { signal: this.#options.signal }
  }

  #apt(name: string, parameters: readonly string[], onStatusLine?: (line: string) => void) {
    return runCommand(program(name), parameters, {
      ...this.#commandOptions(),
      folder: join(this.#folder, 'archives'),
      environment: { APT_CONFIG: join(this.#folder, 'apt.conf') },
      ...(onStatusLine ? { onStatusLine } : {}),
    })
  }
}

/** The packages that `apt-cache show` describes. */
export function parseRecords(text: string): PackageRecord[] {
  const records: PackageRecord[] = []
  for (const paragraph of text.split(/\n\n+/)) {
    const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(paragraph)?.[1]
    const name = field('Package')
    if (name === undefined) continue
    const version = field('Version')
    const architecture = field('Architecture')
    const sha256 = field('SHA256')
    const sizeBytes = Number(field('Size'))
    if (!version || !architecture || !sha256 || !Number.isInteger(sizeBytes)) {
      throw new WorldError('apt-failed', `the package index describes ${name} only in part`)
    }
    if (!records.some((record) => record.name === name))
      records.push({ name, version, architecture, sizeBytes, sha256 })
  }
  return records
}

/** The machine's own architecture in Debian's words. */
export async function hostArchitecture(): Promise<string> {
  const result = await runCommand(program('dpkg'), ['--print-architecture'])
  if (result.exitCode !== 0)
    throw new WorldError('no-apt', `dpkg does not say the architecture: ${lastLine(result.stderr)}`)
  return result.stdout.trim()
}

/** Reads a text file of the cache; undefined when it is not there. */
export async function readIfPresent(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(() => undefined)
}
