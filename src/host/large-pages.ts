/**
 * Guest RAM, and the engine's memory around it, in large pages, where the host has them to give (Linux: transparent huge pages, `always` or `madvise`).
 *
 * Why: the kernel frees a dead process's memory before it closes its sockets, page by page, and until then its backup notices
 * nothing. With pages of 4 KiB that is a large part of a failover, and it grows with the guest's RAM. It is also what the
 * engine's loads and stores go through: fewer pages are fewer misses in the processor's TLB.
 *
 * It is advice: without koffi, or on a host that gives none, everything works, only slower.
 */

import { WorldError } from '../base/assert.ts'
import { systemCalls } from './system-calls.ts'

/** MADV_HUGEPAGE of Linux's `mman-common.h`. */
const useHugePages = 14

/**
 * Asks for large pages for what of `memory` is touched from now on.
 * @returns why there are none; undefined if the kernel took the advice
 */
export function adviseLargePages(memory: Uint8Array): string | undefined {
  try {
    const { madvise, errorNumber } = systemCalls()
    return madvise(memory, memory.length, useHugePages) === 0 ? undefined : `madvise fails with errno ${errorNumber()}`
  } catch (error) {
    if (!(error instanceof WorldError)) throw error
    return error.message
  }
}
