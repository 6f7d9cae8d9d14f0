/**
 * A machine's disk requests on their way to a disk, and what a backup knows of a disk that it has not touched: its log has
 * every request (a marker) and every answer (a completion). So it can keep what is written and not flushed, exactly
 * as its primary does, and begin with that when it goes live.
 */

import { unreachable } from '../base/assert.ts'
import { sectorBytes } from '../base/units.ts'
import { NbdError } from '../disk/nbd-error.ts'
import type { DiskOutcome, DiskWork } from '../disk/steady-requests.ts'
import type { FlushReach, UnflushedWrites } from '../disk/unflushed-writes.ts'
import type { DiskAnswer as LoggedDiskAnswer } from '../hypervisor/replayer.ts'
import type { DiskRequest, LogIndex, MarkedOutput } from '../log/entry.ts'
import type { DiskStatus } from '../machine/types.ts'

/** A disk's answer to one request, for the machine. */
export interface DiskAnswer {
  readonly sequence: bigint
  readonly status: DiskStatus
  readonly data?: Uint8Array
}

/** The request in the words of a disk. */
export function workOf({ operation, sector, lengthBytes, data }: DiskRequest): DiskWork {
  const offset = Number(sector) * sectorBytes
  switch (operation) {
    case 'write':
      return { operation, offset, data: data! }
    case 'flush':
      return { operation }
    case 'discard':
      return { operation: 'trim', offset, lengthBytes }
    case 'read':
    case 'writeZeroes':
      return { operation, offset, lengthBytes }
    default:
      return unreachable(operation)
  }
}

/** The disk's outcome in the words of the machine. */
export function answerOf({ sequence }: DiskRequest, outcome: DiskOutcome): DiskAnswer {
  if (outcome instanceof NbdError) return { sequence, status: 'ioError' }
  return outcome ? { sequence, status: 'ok', data: outcome } : { sequence, status: 'ok' }
}

/** Hears what a backup's machine has replayed. */
export interface DiskFollower {
  /** The machine made this request again. */
  onRequest(request: DiskRequest): void
  /** The log has this answer, and the machine too. */
  onAnswer(answer: LoggedDiskAnswer): void
}

/** Tells each of the `followers` what a backup's machine has replayed, in the order of the log. */
export function followInOrder(
  outputs: readonly MarkedOutput[],
  answers: readonly LoggedDiskAnswer[],
  followers: readonly DiskFollower[],
): void {
  let next = 0
  const answersBelow = (index: LogIndex | undefined): void => {
    for (; next < answers.length && (index === undefined || answers[next]!.index < index); next++) {
      for (const follower of followers) follower.onAnswer(answers[next]!)
    }
  }
  for (const { output, markerIndex } of outputs) {
    if (output.kind !== 'disk') continue
    answersBelow(markerIndex)
    for (const follower of followers) follower.onRequest(output)
  }
  answersBelow(undefined)
}

/** A backup begins in the middle: its machine has these requests under way. */
export function beginInTheMiddle(requests: readonly DiskRequest[], followers: readonly DiskFollower[]): void {
  for (const request of requests) for (const follower of followers) follower.onRequest(request)
}

/** Keeps `unflushed` of a shared disk as its primary does, by the log. */
export class FollowedRequests implements DiskFollower {
  readonly #unflushed: UnflushedWrites
  /** Those that the log has no answer to yet. */
  readonly #open = new Map<bigint, { readonly work: DiskWork; readonly reach: FlushReach }>()

  constructor(unflushed: UnflushedWrites) {
    this.#unflushed = unflushed
  }

  onRequest(request: DiskRequest): void {
    this.#open.set(request.sequence, { work: workOf(request), reach: this.#unflushed.beginFlush() })
  }

  onAnswer({ sequence, status }: LoggedDiskAnswer): void {
    const followed = this.#open.get(sequence)
    if (!followed) return
    this.#open.delete(sequence)
    // A flush that failed covers nothing. What is uncertain the driver asks for again.
    if (status !== 'ok') return
    const { work, reach } = followed
    if (work.operation === 'flush') this.#unflushed.onFlushed(reach)
    else if (work.operation !== 'read') this.#unflushed.onCompleted(work)
  }

  /** After a crash of its server the disk may lack writes until the primary has sent them again: puts them into what was read. */
  mend(read: DiskRequest, data: Uint8Array): void {
    this.#unflushed.mend(Number(read.sector) * sectorBytes, data)
  }

  /** This replica is live: the machine itself names the requests without an answer, and they are issued again. */
  clear(): void {
    this.#open.clear()
  }
}
