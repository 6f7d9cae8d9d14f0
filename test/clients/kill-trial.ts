/**
 * One kill of the primary while other people's clients are all in the middle of their work, and what each of them saw.
 * The VM is started protected before and powered off after, and its disk is checked.
 */

import { execFileSync } from 'node:child_process'
import { createCipheriv, createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Prng } from '../../src/base/prng.ts'
import { MiB } from '../../src/base/units.ts'
import { findProgram } from '../../src/guest/command.ts'
import { defaultCacheFolder } from '../../src/guest/guest-builder.ts'
import { ensureHostTool } from '../../src/guest/host-tools.ts'
import { freePort } from '../../src/host/redis-vm.ts'
import { FaultyVm } from '../faults/faulty-vm.ts'
import { clientGuest } from './client-guest.ts'
import {
  type ExpectedFile,
  type RealClient,
  startBenchmark,
  startCounting,
  startDownload,
  startLogin,
} from './real-clients.ts'

const fileBytes = 64 * MiB
const downloadRateBytes = 4 * MiB
const benchmarkRequests = 4000
const loginLines = 400
const atWorkWithinMs = 60_000
const finishWithinMs = 300_000
const otherReplicaWithinMs = 30_000
const serverWithinMs = 60_000

/** The first tool that is not on this host, with the Debian package that has it. */
export function missingTool(): string | undefined {
  const tools = [
    ['redis-benchmark', 'redis-tools'],
    ['redis-cli', 'redis-tools'],
    ['curl', 'curl'],
    ['ssh', 'openssh-client'],
    ['ssh-keygen', 'openssh-client'],
    ['e2fsck', 'e2fsprogs'],
  ] as const
  const missing = tools.find(([tool]) => findProgram(tool) === undefined)
  return missing && `${missing[0]} of Debian's ${missing[1]} is not installed`
}

export interface KillReport {
  /** A sentence each, beginning with the client's name. Empty if everything held. */
  readonly faults: readonly string[]
  /** Longest time that each client waited for a byte, in milliseconds. */
  readonly gapsMs: Readonly<Record<string, number>>
}

export class ClientVm {
  readonly #vm: FaultyVm
  readonly #privateKeyPath: string
  readonly #sshPort: number
  readonly #webPort: number
  readonly #file: ExpectedFile

  private constructor(vm: FaultyVm, privateKeyPath: string, sshPort: number, webPort: number, file: ExpectedFile) {
    this.#vm = vm
    this.#privateKeyPath = privateKeyPath
    this.#sshPort = sshPort
    this.#webPort = webPort
    this.#file = file
  }

  static async create(trace: (line: string) => void): Promise<ClientVm> {
    const guest = await clientGuest()
    const [sshPort, webPort] = [await freePort(), await freePort()]
    const forward = [`127.0.0.1:${sshPort}:22`, `127.0.0.1:${webPort}:80`]
    const vm = await FaultyVm.create(trace, { guest, forward })
    const file = await addWebFile(vm.imagePath)
    return new ClientVm(vm, guest.privateKeyPath, sshPort, webPort, file)
  }

  get statePath(): string {
    return this.#vm.statePath
  }

  /** @param seed decides when the kill falls */
  async killUnderClients(seed: number): Promise<KillReport> {
    const vm = this.#vm
    await vm.ensureProtected()
    await serves(this.#webPort, 'HEAD / HTTP/1.0\r\n\r\n', 'HTTP/1')
    await serves(this.#sshPort, '', 'SSH-2.0')
    const clients: RealClient[] = []
    try {
      // A login takes the guest's processor for a while: those that want all of it come after.
      for (const start of [() => this.#startQuietClients(seed), () => this.#startBusyClients()]) {
        clients.push(...start())
        const idle = (): string =>
          clients
            .filter((client) => !client.isAtWork())
            .map(describe)
            .join(', ')
        await waitUntil(
          () => `not at work: ${idle()}`,
          atWorkWithinMs,
          () => idle() === '',
        )
      }
      return await this.#killUnder(clients, seed)
    } finally {
      for (const client of clients) client.abandon()
    }
  }

  async #killUnder(clients: readonly RealClient[], seed: number): Promise<KillReport> {
    const vm = this.#vm
    const { generation } = vm.record()
    await sleep(new Prng(seed).below(1500))
    const idle = clients.filter((client) => !client.isAtWork()).map(({ name }) => `${name}: ended before the kill`)
    const before = clients.map((client) => client.progress())
    await vm.signal('primary', 'SIGKILL')
    await waitUntil(
      () => 'nobody took over',
      otherReplicaWithinMs,
      () => vm.record().generation > generation,
    )
    await waitUntil(
      () => `came no further: ${clients.map(describe).join(', ')}`,
      atWorkWithinMs,
      () => clients.every((client, index) => client.progress() > before[index]!),
    )
    const ends = clients.map(async (client) => {
      const faults = await client.finish(finishWithinMs)
      return faults.map((fault) => `${client.name}: ${fault}`)
    })
    const faults = [...idle, ...(await Promise.all(ends)).flat()]
    if (vm.divergences() > 0) faults.push('machine: diverged')
    const unclean = await vm.powerOffAndCheck()
    if (unclean !== undefined) faults.push(`disk: ${unclean}`)
    const gapsMs = Object.fromEntries(clients.map((client) => [client.name, Math.round(client.longestGapMs())]))
    return { faults, gapsMs }
  }

  #startQuietClients(seed: number): RealClient[] {
    return [
      startLogin(this.#sshPort, this.#privateKeyPath, loginLines),
      startCounting(this.#vm.port, `clients:${seed}`),
    ]
  }

  #startBusyClients(): RealClient[] {
    return [
      startDownload(`http://127.0.0.1:${this.#webPort}/${webFileName}`, downloadRateBytes, this.#file),
      startBenchmark(this.#vm.port, benchmarkRequests),
    ]
  }

  async remove(keep: boolean): Promise<void> {
    await this.#vm.remove(keep)
  }
}

const webFileName = 'large.bin'

/** Puts a file of random-looking bytes where the guest's web server finds it, while the machine is off. */
async function addWebFile(imagePath: string): Promise<ExpectedFile> {
  const bytes = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16)).update(Buffer.alloc(fileBytes))
  const folder = mkdtempSync(join(tmpdir(), 'understudy-web-'))
  try {
    const path = join(folder, webFileName)
    writeFileSync(path, bytes)
    const debugfs = await ensureHostTool('debugfs', defaultCacheFolder())
    const command = `write ${path} /var/www/html/${webFileName}`
    execFileSync(debugfs, ['-w', '-R', command, imagePath], { stdio: 'ignore' })
  } finally {
    rmSync(folder, { recursive: true })
  }
  return { sizeBytes: fileBytes, sha256: createHash('sha256').update(bytes).digest('hex') }
}

function describe(client: RealClient): string {
  return `${client.name} at ${client.progress()}`
}

/** Waits until the server behind this port says what such a server says first. */
async function serves(port: number, question: string, answer: string): Promise<void> {
  const deadline = performance.now() + serverWithinMs
  while (!(await firstWords(port, question)).startsWith(answer)) {
    if (performance.now() > deadline) throw new Error(`no ${answer} server within ${serverWithinMs / 1000} s`)
    await sleep(200)
  }
}

function firstWords(port: number, question: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.setTimeout(2000, () => socket.destroy())
    socket.on('error', () => {})
    socket.on('close', () => resolve(''))
    socket.once('data', (chunk) => {
      resolve(String(chunk))
      socket.destroy()
    })
    socket.write(question)
  })
}

async function waitUntil(otherwise: () => string, withinMs: number, isSo: () => boolean): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!isSo()) {
    if (performance.now() > deadline) throw new Error(`${otherwise()} within ${withinMs / 1000} s`)
    await sleep(20)
  }
}
