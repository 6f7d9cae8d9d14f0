/**
 * Hosts for tests: a network namespace each, joined by a bridge, with a folder and a state folder of its own. To be used
 * inside `ownNetwork()`.
 *
 *   host A ─┐
 *   host B ─┼─ bridge (in the test's own network)          any link can be taken down: then that host is gone
 *   host C ─┘
 */

import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { launcher } from '../support/launcher.ts'
import { sh } from '../support/own-network.ts'
import { endWithThisProcess } from '../support/reaper.ts'
import { HostProcess } from './host-process.ts'

const bridge = 'br0'

export class EmulatedHost {
  readonly folder: string
  readonly #link: string
  readonly #holder: ChildProcess
  readonly #processes: HostProcess[] = []

  private constructor(folder: string, link: string, holder: ChildProcess) {
    this.folder = folder
    this.#link = link
    this.#holder = holder
  }

  static async create(scratch: string, name: string, address: string): Promise<EmulatedHost> {
    const holder = spawn('unshare', ['-n', 'sleep', 'infinity'], { stdio: 'ignore' })
    const networkOf = (pid: number | 'self'): string => readlinkSync(`/proc/${pid}/ns/net`)
    while (networkOf(holder.pid!) === networkOf('self')) await sleep(5)
    const link = `to-${name}`
    sh(`ip link add ${link} type veth peer name eth0 netns ${holder.pid} && ip link set ${link} master ${bridge} up`)
    const folder = join(scratch, name)
    mkdirSync(folder)
    const host = new EmulatedHost(folder, link, holder)
    host.sh(`ip link set lo up && ip address add ${address}/24 dev eth0 && ip link set eth0 up`)
    // A default route, as every real host has one: passt wants it.
    host.sh('ip route add default via 192.0.2.254')
    return host
  }

  #command(args: readonly string[]): [string, string[]] {
    return ['nsenter', ['-t', String(this.#holder.pid), '-n', '--', ...args]]
  }

  get #environment(): NodeJS.ProcessEnv {
    const { NODE_TEST_CONTEXT: _, ...environment } = process.env
    return { ...environment, XDG_STATE_HOME: join(this.folder, 'state') }
  }

  sh(command: string): string {
    const [file, args] = this.#command(['/bin/sh', '-ec', command])
    const { status, stdout, stderr } = spawnSync(file, args, { encoding: 'utf8', cwd: this.folder })
    assert.equal(status, 0, `${command}: ${stderr}`)
    return stdout
  }

  /** Starts a program on this host. */
  start(...args: readonly string[]): HostProcess {
    const [file, all] = this.#command(args)
    const started = new HostProcess(spawn(file, all, { cwd: this.folder, env: this.#environment }))
    this.#processes.push(started)
    return started
  }

  /** Starts `understudy` on this host. */
  understudy(...args: readonly string[]): HostProcess {
    return this.start(launcher, ...args)
  }

  /** The cable is pulled, or plugged in again. */
  setLink(isUp: boolean): void {
    sh(`ip link set ${this.#link} ${isUp ? 'up' : 'down'}`)
  }

  /** A TAP on the same network: the host's own address moves to a bridge of its own. */
  addTap(name: string, address: string): void {
    this.sh(`
      ip link add br0 type bridge
      ip address del ${address}/24 dev eth0
      ip link set eth0 master br0
      ip address add ${address}/24 dev br0
      ip link set br0 up
      ip route add default via 192.0.2.254
      ip tuntap add dev ${name} mode tap
      ip link set ${name} master br0 up`)
  }

  async end(): Promise<void> {
    for (const { child, hasEnded } of this.#processes) if (!hasEnded) child.kill('SIGKILL')
    await Promise.all(this.#processes.map(({ exitCode }) => exitCode))
    this.#holder.kill('SIGKILL')
  }
}

/** Hosts with these addresses, each with a folder below one scratch folder. */
export async function emulateHosts<Name extends string>(
  addresses: Readonly<Record<Name, string>>,
  use: (hosts: Readonly<Record<Name, EmulatedHost>>) => Promise<void>,
): Promise<void> {
  endWithThisProcess()
  sh(`ip link add ${bridge} type bridge && ip link set ${bridge} up`)
  const scratch = mkdtempSync(join(tmpdir(), 'us-hosts-'))
  const hosts: Partial<Record<Name, EmulatedHost>> = {}
  try {
    for (const [name, address] of Object.entries<string>(addresses)) {
      hosts[name as Name] = await EmulatedHost.create(scratch, name, address)
    }
    await use(hosts as Record<Name, EmulatedHost>)
  } finally {
    for (const host of Object.values<EmulatedHost | undefined>(hosts)) await host?.end()
    sh(`ip link del ${bridge}`)
    rmSync(scratch, { recursive: true, force: true })
  }
}
