/** Our own contestants: the commands as users type them. Instructions are what `status --json` says at the goal. */

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { pairStatus } from '../src/host/local-pair.ts'
import { launcher } from '../test/support/launcher.ts'
import { ConsoleProcess } from '../test/system/console-process.ts'
import { type Arena, type Boot, type Contestant, redisAnswers } from './contestant.ts'

const execute = promisify(execFile)

async function instructionsOf(vmPath: string): Promise<number> {
  return Math.max(...(await pairStatus(vmPath)).replicas.map(({ instructions }) => instructions))
}

/** `understudy up`, and `down` afterwards. */
export class UpContestant implements Contestant {
  readonly name: string
  readonly #options: readonly string[]

  constructor(name: string, options: readonly string[]) {
    this.name = name
    this.#options = options
  }

  async boot(arena: Arena): Promise<Boot> {
    const startedAt = performance.now()
    const up = execute(launcher, ['up', ...this.#options, arena.vmPath])
    try {
      // An `up` that fails ends the wait for Redis.
      const failed = up.then(() => new Promise<never>(() => {}))
      const wallSeconds = await Promise.race([redisAnswers(arena, startedAt), failed])
      return { wallSeconds, instructions: await instructionsOf(arena.vmPath) }
    } finally {
      await up.catch(() => {})
      await execute(launcher, ['down', '--force', arena.vmPath])
    }
  }
}

/** `understudy run`: one machine, its console on standard output. */
export class RunContestant implements Contestant {
  readonly name = 'understudy run'

  async boot(arena: Arena): Promise<Boot> {
    const console = new ConsoleProcess(launcher, ['run', arena.vmPath])
    try {
      if (arena.goal === 'login') await console.shows(/login: /)
      else await redisAnswers(arena, console.startedAt)
      const wallSeconds = (performance.now() - console.startedAt) / 1000
      return { wallSeconds, instructions: await instructionsOf(arena.vmPath) }
    } finally {
      await console.end()
    }
  }
}
