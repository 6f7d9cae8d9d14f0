/**
 * Waiting for other hosts: when hosts are started in any order, who needs another one waits for it, and says so. Only
 * silence is waited for. Whoever answers "no" (another key, another holder) will say so again: that is an error at once.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { WorldError } from '../base/assert.ts'

export interface Patience {
  readonly trace: (line: string) => void
  /** Ends the waiting: the next failure is thrown. */
  readonly signal: AbortSignal
}

/** Errors that mean: nobody there yet. */
const silences: ReadonlySet<string> = new Set([
  'arbiter-unreachable',
  'nbd-unreachable',
  'nbd-connection-lost',
  'cannot-connect',
  'primary-unreachable',
  'lan-closed',
  'timed-out',
])

const retryIntervalMs = 300
/** Saying it again: an operator who looks at the end of a trace shall see what is waited for. */
const sayAgainMs = 30_000

/**
 * Calls `attempt` until it works.
 * @param patience undefined: one attempt
 * @throws what `attempt` throws, unless it is silence
 */
export async function untilThere<Result>(
  attempt: () => Promise<Result>,
  patience: Patience | undefined,
): Promise<Result> {
  let saidAtMs: number | undefined
  for (;;) {
    try {
      const result = await attempt()
      if (saidAtMs !== undefined) patience?.trace('it is there now')
      return result
    } catch (error) {
      const isSilence = error instanceof WorldError && silences.has(error.code)
      if (!patience || !isSilence || patience.signal.aborted) throw error
      const nowMs = performance.now()
      if (saidAtMs === undefined || nowMs - saidAtMs > sayAgainMs) {
        patience.trace(`waiting: ${error.message}`)
        saidAtMs = nowMs
      }
      await sleep(retryIntervalMs, undefined, { signal: patience.signal }).catch(() => {})
    }
  }
}
