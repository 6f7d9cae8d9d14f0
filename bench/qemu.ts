/**
 * QEMU as a contestant: the same kernel, initrd, disk, kernel arguments and RAM on its `virt` machine, its own firmware,
 * and its user network in front.
 *
 * Under `-icount shift=0,sleep=off` one instruction is one nanosecond of guest time, so the guest's own clock counts
 * instructions. Time in which the guest waits is in it too (QEMU jumps to the next timer), so it is a little too much:
 * an upper bound. It is read inside the guest: the minimal guest prints its uptime as it gets ready, systemd remembers
 * when it started the console's getty.
 */

import { MiB } from '../src/base/units.ts'
import { bootArguments } from '../src/host/vm-config.ts'
import { ConsoleProcess } from '../test/system/console-process.ts'
import { type Arena, type Boot, type Contestant, redisAnswers } from './contestant.ts'

export const icountOptions: readonly string[] = ['-icount', 'shift=0,sleep=off']

export class QemuContestant implements Contestant {
  readonly name: string
  readonly #options: readonly string[]

  constructor(name: string, options: readonly string[]) {
    this.name = name
    this.#options = options
  }

  async boot(arena: Arena): Promise<Boot> {
    const console = new ConsoleProcess('qemu-system-riscv64', [...machineOptions(arena), ...this.#options])
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
      console.shows(/GUEST-READY ([\d.]+)/),
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
    const [, microseconds] = await console.shows(/getty=(\d+)/)
    return { wallSeconds, instructions: Number(microseconds) * 1000 }
  }
}

function machineOptions({ config }: Arena): string[] {
  const { hostPort, guestPort } = config.forwards[0]!
  return [
    ...['-nographic', '-no-reboot', '-M', 'virt', '-smp', '1', '-m', `${config.memory / MiB}`],
    ...['-kernel', config.kernel, '-initrd', config.initrd!, '-append', bootArguments(config)],
    ...['-drive', `file=${config.disks[0]!.path},if=none,id=root,format=raw`],
    ...['-device', 'virtio-blk-device,drive=root'],
    ...['-netdev', `user,id=lan,hostfwd=tcp:127.0.0.1:${hostPort}-:${guestPort}`],
    ...['-device', `virtio-net-device,netdev=lan,mac=${config.network!.mac}`],
    ...['-device', 'virtio-rng-device'],
  ]
}
