/**
 * QEMU as a contestant: the same kernel, initrd, disk, kernel arguments and RAM on its `virt` machine, its own firmware,
 * and its user network in front.
 *
 * Under `-icount shift=0,sleep=off` one instruction is one nanosecond of guest time, so the guest's own clock counts
 * instructions. Time in which the guest waits is in it too (QEMU jumps to the next timer), so it is a little too much:
 * an upper bound. It is read inside the guest: the minimal guest prints its uptime as it gets ready, systemd remembers
 * when it started the console's getty.
 */

import { ConsoleProcess } from '../test/system/console-process.ts'
import { type Arena, type Boot, type Contestant, redisAnswers } from './contestant.ts'
import { linuxOptions } from './support/qemu-options.ts'

export class QemuContestant implements Contestant {
  readonly name: string
  readonly #options: readonly string[]

  constructor(name: string, options: readonly string[]) {
    this.name = name
    this.#options = options
  }

  async boot(arena: Arena): Promise<Boot> {
    const console = new ConsoleProcess('qemu-system-riscv64', [...linuxOptions(arena.config), ...this.#options])
    try {
      return arena.goal === 'login' ? await this.#bootToLogin(console) : await this.#bootToRedis(arena, console)
    } finally {
      await console.end('SIGKILL')
    }
  }

  get #countsInstructions(): boolean {
    return this.#options.includes('-icount')
  }

  async #bootToRedis(arena: Arena, console: ConsoleProcess): Promise<Boot> {
    const [wallSeconds, ready] = await Promise.all([
      redisAnswers(arena, console.startedAt),
      console.shows(/GUEST-READY ([\d.]+)\s/),
    ])
    return { wallSeconds, instructions: this.#countsInstructions ? Number(ready[1]) * 1e9 : undefined }
  }

  async #bootToLogin(console: ConsoleProcess): Promise<Boot> {
    await console.shows(/login: /)
    const wallSeconds = (performance.now() - console.startedAt) / 1000
    if (!this.#countsInstructions) return { wallSeconds, instructions: undefined }
    console.type('root')
    await console.shows(/:~# /)
    console.type('echo getty=$(systemctl show -P ActiveEnterTimestampMonotonic serial-getty@ttyS0)')
    const [, microseconds] = await console.shows(/getty=(\d+)\s/)
    return { wallSeconds, instructions: Number(microseconds) * 1000 }
  }
}
