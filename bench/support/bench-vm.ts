/**
 * A VM that is measured: protected or not, its console at hand. Its guest says with two lines, `@@begin` and `@@end RESULT`,
 * when a piece of work begins and ends, and the host takes the time between them.
 *
 * Two that are compared run at the same time and work in turns: an idle VM costs next to nothing.
 */

import { mkdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { ask } from '../../src/host/control.ts'
import { bringUp, pairStatus, takeDown } from '../../src/host/local-pair.ts'
import { freePort, type ReadyGuest, type VmOptions, writeVmOf } from '../../src/host/redis-vm.ts'
import type { ReplicaStatus } from '../../src/host/replica-status.ts'
import { readVmConfig } from '../../src/host/vm-config.ts'
import { VmFolder } from '../../src/host/vm-folder.ts'
import { protect, unprotect } from '../../src/host/vm-operations.ts'
import { launcher } from '../../test/support/launcher.ts'
import { ConsoleProcess } from '../../test/system/console-process.ts'
import { liveReplica } from '../../test/system/guest-console.ts'
import { cpuSeconds, threadCpuSeconds } from './cpu-time.ts'

export const modes = ['unprotected', 'protected'] as const
export type Mode = (typeof modes)[number]

/** What something cost. Seconds. */
export interface Cost {
  readonly wall: number
  /** CPU time of the hart's thread, of the primary where there are two. */
  readonly hart: number
  /** CPU time of all threads of the VM's replicas. */
  readonly all: number
}

export interface Timing extends Cost {
  readonly result: string
}

export type BenchVmOptions = Pick<VmOptions, 'memory' | 'backupReads'>

export class BenchVm {
  #mode: Mode
  /** Path of the VM file. */
  readonly vm: string
  /** Of Redis. */
  readonly port: number
  readonly #console: ConsoleProcess

  private constructor(mode: Mode, vm: string, port: number) {
    this.#mode = mode
    this.vm = vm
    this.port = port
    this.#console = new ConsoleProcess(launcher, ['console', vm])
  }

  /** Boots from a fresh disk in `folder`, which it makes and whose name becomes part of the VM's, until the guest says that it is ready. */
  static async start(mode: Mode, guest: ReadyGuest, folder: string, options: BenchVmOptions = {}): Promise<BenchVm> {
    mkdirSync(folder)
    const port = await freePort()
    const vm = await writeVmOf(guest, folder, `bench-${process.pid}-${basename(folder)}`, port, options)
    await bringUp(vm, { protect: mode === 'protected', onProgress: () => {} })
    const started = new BenchVm(mode, vm, port)
    try {
      await started.shows(/GUEST-READY[^\r\n]*[\r\n]/)
      return started
    } catch (error) {
      await started.end()
      throw error
    }
  }

  get mode(): Mode {
    return this.#mode
  }

  /** Gives it a backup or ends its backup, while it runs: the primary stays the same process. */
  async become(mode: Mode): Promise<void> {
    if (mode === 'protected') await protect(this.vm, () => {})
    else await unprotect(this.vm)
    this.#mode = mode
  }

  /** A line for the guest's shell. */
  type(line: string): void {
    this.#console.type(line)
  }

  async shows(pattern: RegExp): Promise<RegExpExecArray> {
    return await this.#console.shows(pattern)
  }

  /** Has the guest's shell run a command, and waits until it has. */
  async run(command: string): Promise<void> {
    this.type(`${command}; printf '@%sdone\\n' @`)
    await this.shows(/@@done[\r\n]/)
  }

  async primary(): Promise<ReplicaStatus> {
    return await liveReplica(this.vm)
  }

  /** Asks its primary, on its control socket. */
  async ask<Answer>(command: string): Promise<Answer> {
    const { name } = await this.primary()
    const { config } = readVmConfig(this.vm)
    const answer = await ask<Answer>(new VmFolder(config.name).controlPath(name), command)
    if (answer === undefined) throw new Error(`the primary does not answer ${command}`)
    return answer
  }

  /** Has the guest's shell run a command that prints the two lines. */
  async time(command: string): Promise<Timing> {
    const stop = await this.stopwatch()
    this.type(command)
    await this.shows(/@@begin[^\r\n]*[\r\n]/)
    stop.restart()
    const [, result] = await this.shows(/@@end ([^\r\n]*)[\r\n]/)
    return { ...stop.read(), result: result!.trim() }
  }

  /** Counts from now on. */
  async stopwatch(): Promise<{ restart(): void; read(): Cost }> {
    const { pid } = await this.primary()
    const pids = (await pairStatus(this.vm)).replicas.map((replica) => replica.pid)
    const now = (): Cost => ({
      wall: performance.now() / 1000,
      hart: threadCpuSeconds(pid, 'hart'),
      all: cpuSeconds(...pids),
    })
    let before = now()
    return {
      restart: () => {
        before = now()
      },
      read: () => {
        const { wall, hart, all } = now()
        return { wall: wall - before.wall, hart: hart - before.hart, all: all - before.all }
      },
    }
  }

  /** A pair that lost its protection meanwhile measured something else. */
  async requireMode(): Promise<void> {
    const { protection } = await pairStatus(this.vm)
    const wanted = this.#mode === 'protected' ? 'protected' : 'not protected'
    if (protection !== wanted) throw new Error(`the ${this.#mode} VM is ${protection} at the end of a round`)
  }

  async end(): Promise<void> {
    this.#console.process.kill('SIGTERM')
    await takeDown(this.vm)
  }
}

/** One of each mode. */
export interface BenchVms extends Readonly<Record<Mode, BenchVm>> {
  end(): Promise<void>
}

/** Boots both. */
export async function startBenchVms(
  guest: ReadyGuest,
  folder: string,
  options: BenchVmOptions = {},
): Promise<BenchVms> {
  const started: BenchVm[] = []
  const end = async (): Promise<void> => {
    for (const vm of started.splice(0)) await vm.end()
  }
  try {
    for (const mode of modes) started.push(await BenchVm.start(mode, guest, join(folder, mode), options))
  } catch (error) {
    await end()
    throw error
  }
  const [unprotected, pair] = started
  return { unprotected: unprotected!, protected: pair!, end }
}
