/**
 * Work inside a Linux guest. All three contestants boot the same image with the same memory, each from its own copy of the
 * disk; the guest's script (guest/work.sh) says on the console when a piece of work begins and ends, and the host times
 * that. A boot is timed from the start of the process until the guest says that Redis answers.
 *
 * Machines of other contestants stand by while one works: an idle machine of ours, or of plain QEMU, costs next to
 * nothing. QEMU under `sleep=off` never idles, so it is stopped (SIGSTOP) until its turn.
 */

import { execFile } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { MiB } from '../../src/base/units.ts'
import { buildGuest, defaultCacheFolder } from '../../src/guest/guest-builder.ts'
import type { OnGuestProgress } from '../../src/guest/guest-progress.ts'
import { ensureHostTool } from '../../src/guest/host-tools.ts'
import { copySparse } from '../../src/guest/sparse-file.ts'
import { freePort, type ReadyGuest, readyGuest, writeVmOf } from '../../src/host/redis-vm.ts'
import { readVmConfig } from '../../src/host/vm-config.ts'
import { launcher } from '../../test/support/launcher.ts'
import { ConsoleProcess } from '../../test/system/console-process.ts'
import { cpuSeconds } from '../support/cpu-time.ts'
import { linuxOptions } from '../support/qemu-options.ts'
import { type Contestant, startQemu, type Timing, timeBetweenMarkers } from './contestants.ts'
import type { Work } from './rows.ts'

const memory = '512M'
const packages = ['redis-server', 'redis-tools', 'zstd', 'sqlite3', 'gcc', 'libc6-dev', 'coreutils']
const rootSizeBytes = 512 * MiB
const scriptPath = join(import.meta.dirname, 'guest', 'work.sh')
const execute = promisify(execFile)

function work(name: string, title: string, isQuick = false): Work {
  return { group: 'linux', name, title, isQuick }
}

export const bootWork = work('boot', 'boot to Redis ready', true)

/** `name` is what guest/work.sh calls it. */
export const guestWorks: readonly Work[] = [
  work('compress', 'zstd -5, 6 MB', true),
  work('decompress', 'zstd -d, 24 MB'),
  work('sort', 'sort 60,000 lines, twice', true),
  work('sqlite', 'SQLite: insert, index, group, join'),
  work('compile', 'gcc -O1 -c'),
  work('redis', 'redis-benchmark over loopback'),
  work('syscalls', 'dd bs=1: 200,000 system calls', true),
  work('forks', 'fork + exec, 250 times', true),
]

/** Progress comes many times in one phase; a line is enough for each. */
function sayChanges(say: (line: string) => void): OnGuestProgress {
  let last = ''
  return ({ phase, detail }) => {
    const line = `guest: ${phase} ${detail}`
    if (line !== last) say(line)
    last = line
  }
}

/** The guest with its script on the disk. Builds it, or takes `guestFolder` with a guest that has the packages. */
export async function benchGuest(folder: string, guestFolder: string | undefined, say: (line: string) => void) {
  const image = guestFolder
    ? await readyGuest({ guestFolder }, '')
    : await buildGuest(
        { outputFolder: join(defaultCacheFolder(), 'bench-guest'), packages, rootSizeBytes, overwrite: true },
        sayChanges(say),
      )
  const rootPath = join(folder, 'pristine.ext4')
  await copySparse(image.rootPath, rootPath)
  const debugfs = await ensureHostTool('debugfs', defaultCacheFolder())
  await execute(debugfs, ['-w', '-R', `write ${scriptPath} work.sh`, rootPath])
  return { kernelPath: image.kernelPath, initrdPath: image.initrdPath, rootPath }
}

/** One contestant's machine, booted. */
export class GuestSession {
  readonly #contestant: Contestant
  readonly #console: ConsoleProcess

  private constructor(contestant: Contestant, console: ConsoleProcess) {
    this.#contestant = contestant
    this.#console = console
  }

  /** Boots from a fresh disk in `folder`; the timing is the boot's. */
  static async boot(
    contestant: Contestant,
    guest: ReadyGuest,
    folder: string,
  ): Promise<{ readonly session: GuestSession; readonly timing: Timing }> {
    mkdirSync(folder)
    const name = `bench-${process.pid}-${contestant}`
    const vmPath = await writeVmOf(guest, folder, name, await freePort(), { memory })
    const console =
      contestant === 'understudy'
        ? new ConsoleProcess(launcher, ['run', vmPath])
        : startQemu(contestant, linuxOptions(readVmConfig(vmPath).config))
    const session = new GuestSession(contestant, console)
    try {
      await console.shows(/GUEST-READY/)
      const seconds = (performance.now() - console.startedAt) / 1000
      return { session, timing: { seconds, cpuSeconds: cpuSeconds(console.process.pid!), result: 'ready' } }
    } catch (error) {
      await session.end()
      throw error
    }
  }

  async prepare(): Promise<void> {
    this.#console.type('sh /work.sh prepare')
    await this.#console.shows(/@@end prepare ok/)
  }

  async time({ name }: Work): Promise<Timing> {
    this.#console.type(`sh /work.sh ${name}`)
    return await timeBetweenMarkers(this.#console)
  }

  /** Takes no host time until `goOn`. */
  standBy(): void {
    if (this.#contestant === 'icount') this.#console.process.kill('SIGSTOP')
  }

  goOn(): void {
    if (this.#contestant === 'icount') this.#console.process.kill('SIGCONT')
  }

  async end(): Promise<void> {
    await this.#console.end(this.#contestant === 'understudy' ? 'SIGTERM' : 'SIGKILL')
  }
}
