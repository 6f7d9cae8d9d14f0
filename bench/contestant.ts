/**
 * What boots against what: Understudy in its forms, and QEMU. A contestant starts its machine, says when the goal is
 * reached, and leaves nothing behind.
 */

import { answersPing } from '../src/host/redis-load.ts'
import type { VmConfig } from '../src/host/vm-config.ts'
import { bootWithinMs, within } from '../test/system/console-process.ts'

export interface Boot {
  readonly wallSeconds: number
  /** Undefined where nobody counts them. */
  readonly instructions: number | undefined
}

/** `redis`: PING is answered through the forwarded port. `login`: the console asks for a name. */
export type Goal = 'redis' | 'login'

export interface Arena {
  readonly goal: Goal
  /** Path of a VM file with a fresh disk. */
  readonly vmPath: string
  readonly config: VmConfig
}

export interface Contestant {
  readonly name: string
  boot(arena: Arena): Promise<Boot>
}

const pingEveryMs = 50
const pingWithinMs = 5000

/** Resolves with the seconds since `startedAt` (performance.now()) when Redis answers on the first forwarded port. */
export async function redisAnswers({ config }: Arena, startedAt: number): Promise<number> {
  const port = config.forwards[0]!.hostPort
  const answered = Promise.withResolvers<number>()
  // Attempts overlap: one that came too early must not keep the next waiting.
  const attempt = async (): Promise<void> => {
    if (await answersPing(port, pingWithinMs)) answered.resolve((performance.now() - startedAt) / 1000)
  }
  const ticker = setInterval(() => void attempt(), pingEveryMs)
  try {
    return await within(bootWithinMs, answered.promise, 'Redis did not answer')
  } finally {
    clearInterval(ticker)
  }
}
