/** What a replica says of itself when asked, and how the parts of a failover are timed. */

import type { BytesByCause } from '../log/entry.ts'
import type { ReplicaName } from './vm-folder.ts'

/** Milliseconds since 1970, with fractions, of one host's clock. */
export interface FailoverTimes {
  /** The backup decided that the primary is lost. */
  readonly detectedAt: number
  /** The arbiter answered. */
  readonly arbitratedAt: number
  /** Everything acknowledged is replayed. */
  readonly replayedAt: number
  /** The first output of its own left this replica. */
  readonly firstOutputAt: number | undefined
  readonly cause: string
}

export interface ReplicaStatus {
  readonly name: ReplicaName
  readonly pid: number
  readonly role: 'primary' | 'backup' | 'halted'
  readonly state: string
  readonly isProtected: boolean
  readonly generation: number
  readonly instructions: number
  readonly guestSeconds: number
  /** Of a primary: what its backup has received but not replayed, in milliseconds of log. */
  readonly lagMs: number | undefined
  readonly logBytesByCause: BytesByCause
  /** Digests of the primary's log that this replica's machine agreed with, as a backup. */
  readonly digestChecks: number
  readonly divergences: number
  readonly failover: FailoverTimes | undefined
  /** The guest switched itself off. */
  readonly isOff: boolean
  readonly haltReason: string | undefined
}

/** Now, as `FailoverTimes` counts. */
export function nowMs(): number {
  return performance.timeOrigin + performance.now()
}
