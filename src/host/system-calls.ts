/**
 * The few calls of the C library that Node does not offer: what a TAP needs (ioctl, poll, and read and write that say "not
 * now" by a number and not by an exception), madvise, and sched_setattr.
 *
 * koffi makes them callable. It is an optional package: without it there is no TAP, and no advice (large-pages.ts).
 */

import { createRequire } from 'node:module'
import { WorldError } from '../base/assert.ts'

export interface SystemCalls {
  /** @returns 0, or -1 with `errorNumber` */
  ioctl(descriptor: number, request: number, argument: Uint8Array): number
  /** @returns the bytes moved, or -1 with `errorNumber` */
  read(descriptor: number, into: Uint8Array, lengthBytes: number): number
  /** @returns the bytes moved, or -1 with `errorNumber` */
  write(descriptor: number, from: Uint8Array, lengthBytes: number): number
  /** @returns a descriptor, or -1 */
  eventfd(initial: number, flags: number): number
  /** Waits on one of Node's pool threads. The bytes hold `count` struct pollfd, filled in when `done` is called. */
  poll(descriptors: Uint8Array, count: number, timeoutMs: number, done: () => void): void
  /** @returns 0, or -1 with `errorNumber` */
  madvise(memory: Uint8Array, lengthBytes: number, advice: number): number
  /**
   * sched_setattr(2), which C libraries did not offer for long: by its number.
   * @param thread 0: the calling one
   * @param attributes a struct sched_attr
   * @returns 0, or -1 with `errorNumber`
   */
  schedSetattr(thread: number, attributes: Uint8Array): number
  /** errno of the last call that failed. */
  errorNumber(): number
}

/** Of sched_setattr: x86-64 has a table of its own, Linux's later architectures share one. */
const schedSetattrNumber = process.arch === 'x64' ? 314 : 274

let loaded: SystemCalls | undefined

/** @throws WorldError `no-koffi` */
export function systemCalls(): SystemCalls {
  loaded ??= load()
  return loaded
}

function load(): SystemCalls {
  const koffi = requireKoffi()
  const library = koffi.load(null)
  const systemCall = library.func('long syscall(long number, int thread, void *attributes, unsigned int flags)')
  const poll = library.func('int poll(void *descriptors, unsigned long count, int timeout)')
  return {
    ioctl: library.func('int ioctl(int descriptor, unsigned long request, void *argument)'),
    read: library.func('long read(int descriptor, void *into, size_t length)'),
    write: library.func('long write(int descriptor, void *from, size_t length)'),
    eventfd: library.func('int eventfd(unsigned int initial, int flags)'),
    madvise: library.func('int madvise(void *memory, size_t length, int advice)'),
    schedSetattr: (thread, attributes) => systemCall(schedSetattrNumber, thread, attributes, 0),
    poll: (descriptors, count, timeoutMs, done) => poll.async(descriptors, count, timeoutMs, done),
    errorNumber: () => koffi.errno(),
  }
}

/** Not imported, for an import has to be awaited, and who makes a machine does not wait. */
function requireKoffi(): typeof import('koffi') {
  try {
    return createRequire(import.meta.url)('koffi')
  } catch (error) {
    throw new WorldError(
      'no-koffi',
      `a TAP needs the npm package koffi, which cannot be loaded (${(error as Error).message.split('\n')[0]}): run "npm ci --include=optional"`,
    )
  }
}
