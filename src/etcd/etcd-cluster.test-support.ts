/**
 * A real cluster of etcd (Debian: etcd-server) on loopback: three members, each with its data in a temporary folder, any of
 * which can be killed, frozen and started again.
 */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { EtcdClient } from './etcd-client.ts'
import { defaultEtcdPrefix, type EtcdSettings } from './etcd-settings.ts'

/** For `test`: skips with a reason where etcd is not there. */
export const needsEtcd = {
  skip: spawnSync('etcd', ['--version']).error === undefined ? false : 'etcd is not installed (Debian: etcd-server)',
} as const

const readyWithinMs = 60_000

export interface EtcdMember {
  readonly endpoint: string
  /** SIGKILL. */
  kill(): Promise<void>
  /** SIGSTOP and SIGCONT: it keeps its sockets and says nothing. */
  freeze(): void
  thaw(): void
  /** With the data it had. */
  startAgain(): Promise<void>
}

export class EtcdCluster {
  readonly settings: EtcdSettings
  readonly members: readonly EtcdMember[]
  readonly #end: () => Promise<void>

  private constructor(settings: EtcdSettings, members: readonly EtcdMember[], end: () => Promise<void>) {
    this.settings = settings
    this.members = members
    this.#end = end
  }

  /** @param arguments_ for every member, on top */
  static async start(memberCount = 3, arguments_: readonly string[] = [], scheme = 'http'): Promise<EtcdCluster> {
    const folder = mkdtempSync(join(tmpdir(), 'understudy-etcd-'))
    const ports = await freePorts(memberCount * 2)
    const client = (index: number): string => `${scheme}://127.0.0.1:${ports[index * 2]}`
    const peer = (index: number): string => `http://127.0.0.1:${ports[index * 2 + 1]}`
    const names = Array.from({ length: memberCount }, (_, index) => `m${index}`)
    const members = names.map((name, index) => {
      return new Member(client(index), [
        ...['--name', name, '--data-dir', join(folder, name), '--logger', 'zap', '--log-level', 'error'],
        ...['--listen-client-urls', client(index), '--advertise-client-urls', client(index)],
        ...['--listen-peer-urls', peer(index), '--initial-advertise-peer-urls', peer(index)],
        ...['--initial-cluster', names.map((other, at) => `${other}=${peer(at)}`).join(',')],
        ...arguments_,
      ])
    })
    for (const member of members) member.spawn()
    const settings = { endpoints: members.map(({ endpoint }) => endpoint), prefix: defaultEtcdPrefix }
    const end = async (): Promise<void> => {
      for (const member of members) await member.kill()
      rmSync(folder, { recursive: true, force: true })
    }
    return new EtcdCluster(settings, members, end)
  }

  /** Waits until the cluster takes a transaction. */
  async ready(settings = this.settings): Promise<this> {
    const client = new EtcdClient(settings)
    try {
      await client.read(['ready'], readyWithinMs)
    } finally {
      client.close()
    }
    return this
  }

  /** Index of the member that leads, as the members say. */
  async leader(): Promise<number> {
    for (;;) {
      for (const [index, { endpoint }] of this.members.entries()) {
        const answer = await fetch(`${endpoint}/v3/maintenance/status`, { method: 'POST', body: '{}' }).catch(
          () => undefined,
        )
        if (!answer?.ok) continue
        const status = (await answer.json()) as { header: { member_id: string }; leader?: string }
        if (status.leader === status.header.member_id) return index
      }
      await sleep(50)
    }
  }

  async end(): Promise<void> {
    await this.#end()
  }
}

class Member implements EtcdMember {
  readonly endpoint: string
  readonly #arguments: readonly string[]
  #child: ChildProcess | undefined

  constructor(endpoint: string, arguments_: readonly string[]) {
    this.endpoint = endpoint
    this.#arguments = arguments_
  }

  spawn(): void {
    this.#child = spawn('etcd', this.#arguments, { stdio: ['ignore', 'ignore', 'ignore'] })
    const child = this.#child
    process.once('exit', () => child.kill('SIGKILL'))
  }

  async kill(): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const exited = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await exited
  }

  freeze(): void {
    this.#child?.kill('SIGSTOP')
  }

  thaw(): void {
    this.#child?.kill('SIGCONT')
  }

  async startAgain(): Promise<void> {
    await this.kill()
    this.spawn()
    while (!(await isAnswering(this.endpoint))) await sleep(20)
  }
}

async function isAnswering(endpoint: string): Promise<boolean> {
  return await fetch(`${endpoint}/health`).then(
    ({ ok }) => ok,
    () => false,
  )
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer()
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      return server
    }),
  )
  const ports = servers.map((server) => (server.address() as { port: number }).port)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}
