/**
 * Who runs against whom: Understudy as users start it, QEMU's translator as it comes, and QEMU in its deterministic mode,
 * the only one of its modes that could carry a protected pair.
 */

import { launcher } from '../../test/support/launcher.ts'
import { ConsoleProcess } from '../../test/system/console-process.ts'
import { cpuSeconds } from '../support/cpu-time.ts'
import { bareOptions, icountOptions } from '../support/qemu-options.ts'

export const contestants = ['understudy', 'qemu', 'icount'] as const
export type Contestant = (typeof contestants)[number]

/** QEMU with these options, in the mode of this contestant. */
export function startQemu(contestant: 'qemu' | 'icount', options: readonly string[]): ConsoleProcess {
  return new ConsoleProcess('qemu-system-riscv64', [...options, ...(contestant === 'icount' ? icountOptions : [])])
}

/** A bare program, its console on standard output. */
export function startBare(contestant: Contestant, path: string): ConsoleProcess {
  if (contestant === 'understudy') return new ConsoleProcess(launcher, ['run', '--elf', path])
  return startQemu(contestant, bareOptions(path))
}

/** One timed piece of work, and what the guest says came out of it. */
export interface Timing {
  readonly seconds: number
  /** CPU time of the contestant's processes meanwhile. */
  readonly cpuSeconds: number
  readonly result: string
}

/** The time between the two lines that the guest prints around its work. */
export async function timeBetweenMarkers(console: ConsoleProcess): Promise<Timing> {
  await console.shows(/@@begin[^\r\n]*[\r\n]/)
  const startedAt = performance.now()
  const cpuBefore = cpuSeconds(console.process.pid!)
  const [, result] = await console.shows(/@@end ([^\r\n]*)[\r\n]/)
  return {
    seconds: (performance.now() - startedAt) / 1000,
    cpuSeconds: cpuSeconds(console.process.pid!) - cpuBefore,
    result: result!.trim(),
  }
}
