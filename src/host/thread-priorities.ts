/**
 * Which of a VM's threads goes first where cores are few: those that answer before those that compute.
 *
 * A hart computes whenever its guest does, and so do V8's helpers, which compile for it. The main threads of a VM's processes
 * run for some microseconds at a time: they send a log entry, acknowledge it, release what waited for that. With equal rights
 * the kernel lets them wait until the hart's time slice ends, at a tick that is 4 ms away, and every output waits with them
 * (docs/BENCHMARKS.md, "Output delay by cause").
 *
 * Both means work without root, between the threads of one host; neither takes a share from a thread that wants little.
 * - Computing threads are `nice`. Sessions share the processor as before where the kernel groups them (autogroup).
 * - Answering threads ask for a short time slice, with which Linux, from 6.12 on, lets them in before the running one's ends
 *   (sched_setattr(2), `sched_runtime`). An older kernel takes no notice.
 */

import { readdirSync, readFileSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'
import { WorldError } from '../base/assert.ts'
import { systemCalls } from './system-calls.ts'

/** How much nicer a computing thread is than the process it belongs to; the nicest is 19. */
const computingNiceness = 10
const nicest = 19
/** The shortest time slice that Linux grants. */
const answeringSliceNs = 100_000n
const tasksPath = '/proc/self/task'

/** Of the calling thread, a hart's: everyone who answers goes before it. */
export function computeBehindOthers(): void {
  setPriority(0, nicer(getPriority(0)))
}

/**
 * Of the calling thread, the main one of a VM's process: it goes before harts, and before V8's helpers of this process.
 * Call it before threads of one's own are started: they inherit it.
 * @returns why it has no short time slice; undefined if it has one
 */
export function answerBeforeHarts(): string | undefined {
  const niceness = getPriority(0)
  for (const thread of helperThreads()) setPriority(thread, nicer(niceness))
  return askForShortSlice(niceness)
}

const nicer = (niceness: number): number => Math.min(niceness + computingNiceness, nicest)

/** The threads of V8's pool; none on a system without Linux's `/proc`. */
function helperThreads(): readonly number[] {
  try {
    return readdirSync(tasksPath)
      .filter((thread) => readFileSync(`${tasksPath}/${thread}/comm`, 'utf8').includes('V8Worker'))
      .map(Number)
  } catch {
    return []
  }
}

function askForShortSlice(niceness: number): string | undefined {
  // struct sched_attr, its first version: size, policy (0: SCHED_OTHER), flags, nice, priority, runtime, deadline, period.
  const attributes = new DataView(new ArrayBuffer(48))
  attributes.setUint32(0, attributes.byteLength, true)
  attributes.setInt32(16, niceness, true)
  attributes.setBigUint64(24, answeringSliceNs, true)
  try {
    const { schedSetattr, errorNumber } = systemCalls()
    const isSet = schedSetattr(0, new Uint8Array(attributes.buffer)) === 0
    return isSet ? undefined : `sched_setattr fails with errno ${errorNumber()}`
  } catch (error) {
    if (!(error instanceof WorldError)) throw error
    return error.message
  }
}
