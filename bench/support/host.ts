/** The machine that a benchmark runs on: whether it is quiet, and what it is, without saying whose. */

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cpus, loadavg, totalmem } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { GiB } from '../../src/base/units.ts'

/** More than this many runnable threads, and a figure says more about the neighbours than about us. */
export const quietLoad = 1.5

/**
 * Waits until the machine has been left alone for a while, at most `withinMs`.
 * @returns the load average then
 */
export async function waitUntilQuiet(withinMs: number, onWait: (load: number) => void): Promise<number> {
  const deadline = performance.now() + withinMs
  for (;;) {
    const load = loadavg()[0]!
    if (load < quietLoad || performance.now() >= deadline) return load
    onWait(load)
    await sleep(Math.min(5000, Math.max(0, deadline - performance.now())))
  }
}

export function describeHost(): string {
  const processors = cpus()
  const model = processors[0]?.model.trim() || 'unknown processor'
  const kernel = readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim().split('-')[0]
  return `${processors.length} cores (${model}), ${Math.round(totalmem() / GiB)} GiB, Linux ${kernel}, Node ${process.versions.node}`
}

/** The commit that is checked out, short. */
export function describeCommit(): string {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: import.meta.dirname, encoding: 'utf8' }).trim()
  } catch {
    return 'unknown'
  }
}
