/**
 * A host for tests that need no network of their own: a state folder of its own, addresses on loopback. What it runs dies with
 * it, all at once. Hosts that are cut off from each other are network namespaces (emulated-hosts.ts).
 */

import { spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { statusOf } from '../../src/host/local-pair.ts'
import { VmFolder } from '../../src/host/vm-folder.ts'
import { launcher } from '../support/launcher.ts'
import { HostProcess } from './host-process.ts'

export class LoopbackHost {
  readonly folder: string
  readonly #started: HostProcess[] = []

  /** @param scratch the folder of all hosts */
  constructor(scratch: string, name: string) {
    this.folder = join(scratch, name)
    mkdirSync(this.folder)
  }

  /** The state folder of VM `shop` here. */
  get vm(): VmFolder {
    return VmFolder.at(join(this.folder, 'understudy', 'shop'))
  }

  /** Starts `understudy` here. */
  understudy(...args: readonly string[]): HostProcess {
    const { NODE_TEST_CONTEXT: _, ...environment } = process.env
    const env = { ...environment, XDG_STATE_HOME: this.folder }
    const started = new HostProcess(spawn(launcher, args, { cwd: this.folder, env }))
    this.#started.push(started)
    return started
  }

  /** A command that ends: its exit code, and what it said. */
  async tell(...args: readonly string[]): Promise<string> {
    const command = this.understudy(...args)
    return `${await command.exitCode}: ${command.said}`
  }

  /** SIGKILL to all that runs here. */
  async die(): Promise<void> {
    const { replicas, others } = await statusOf(this.vm, 1000)
    for (const { pid } of [...replicas, ...others]) process.kill(pid, 'SIGKILL')
    for (const { child, hasEnded } of this.#started) if (!hasEnded) child.kill('SIGKILL')
    await Promise.all(this.#started.map(({ exitCode }) => exitCode))
  }
}
