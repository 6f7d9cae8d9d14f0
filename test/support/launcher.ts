/**
 * `understudy` as its users call it, from the sources. What a test starts with it ends with the test's process, at the
 * latest.
 */

import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { endWithThisProcess } from './reaper.ts'

export const launcher = fileURLToPath(new URL('../../bin/understudy', import.meta.url))

/** Runs a command. @returns what it printed @throws with what it complained of */
export function understudy(...args: string[]): string {
  endWithThisProcess()
  return execFileSync(launcher, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], timeout: 120_000 })
}
