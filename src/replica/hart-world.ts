/**
 * What a hart's thread has around it: a clock, randomness, and the way to its replica. In the product a thread of Node's
 * (host/hart-of-host.ts), in a simulation a fake one (sim/hart.ts); what the hart does with it is the same.
 */

import { type ClockPolicy, defaultClockPolicy } from '../hypervisor/clock-keeper.ts'
import { type CopyPolicy, defaultCopyPolicy } from '../hypervisor/live-copy.ts'
import type { Discipline } from '../log/discipline.ts'
import type { LogEnd } from '../log/entry.ts'
import type { Machine } from '../machine/types.ts'
import type { FromHart, ToHart } from './hart-messages.ts'
import { defaultSlicePolicy, type SlicePolicy } from './slice-pacer.ts'

/** The numbers of a hart. */
export interface HartPolicy {
  readonly clock: ClockPolicy
  readonly copy: CopyPolicy
  /** Outputs are held from the last round of a copy on, until all that was sent before it has arrived. */
  readonly lastOnWayBytes: number
  readonly slice: SlicePolicy
  /** How far a replay runs between two looks at the door. */
  readonly replaySliceInstructions: bigint
  /** The host's calendar is looked at so often. */
  readonly resyncEveryNs: bigint
  /** Epoch discipline: how long entries wait for company: a thousandth of what a failover takes. */
  readonly batchNs: bigint
}

export const defaultHartPolicy: HartPolicy = {
  clock: defaultClockPolicy,
  copy: defaultCopyPolicy,
  lastOnWayBytes: 1024 * 1024,
  slice: defaultSlicePolicy,
  replaySliceInstructions: 500_000n,
  resyncEveryNs: 1_000_000_000n,
  batchNs: 1_000_000n,
}

export interface HartWorld {
  readonly policy: HartPolicy
  readonly discipline: Discipline
  /** Backups compare digests so often. */
  readonly digestEveryMs: number
  /** A log that this hart writes leaves out what is read from disks: the backups read for themselves. */
  readonly leavesOutReads: boolean
  /** Time that only goes on, in nanoseconds since whenever. */
  nowNs(): bigint
  /** What the host's calendar says, in nanoseconds since 1970. */
  wallClockNs(): bigint
  randomBytes(lengthBytes: number): Uint8Array
  /** @param transfer buffers that are handed over instead of copied */
  post(message: FromHart, transfer?: readonly ArrayBuffer[]): void
  showProgress(of: Machine): void
  /** So many digests of the log agreed with the replayed machine. */
  showDigestsCompared(digests: bigint): void
  /** A frame got its log entry, so long after it had reached the replica. */
  onFrameEntered(delayNs: bigint): void
  /** Somebody wants the hart's attention since the turn began: a message is there, or an acknowledgement. */
  isRung(): boolean
  /** Every entry below this index is acknowledged; undefined: there is nobody to wait for. */
  acknowledgedEnd(): LogEnd | undefined
}

/** What a turn asks for: another one at once, or none before this time (ns) unless somebody rings. */
export type Turn = 'again' | { readonly sleepUntilNs: bigint | undefined }

/** What a hart does: replays a log, or writes one. */
export interface HartMode {
  onMessage(message: ToHart): void
  turn(): Turn
}
