/** What a backup is made with, what it is told by its replayer, and what it says of itself (backup.ts). */

import type { BootArtefacts } from '../log/boot-artefacts.ts'
import type { Divergence } from '../log/divergence.ts'
import type { LogEnd, MarkedOutput } from '../log/entry.ts'
import type { MachineIdentity } from '../log/identity.ts'
import type { Generation, Progress, ReplicaName } from './messages.ts'
import type { ReplicationPolicy } from './policy.ts'
import type { Reach } from './reach.ts'
import type { BackupState } from './roles.ts'

export interface BackupOptions {
  readonly identity: MachineIdentity
  readonly replica: ReplicaName
  /** Index of the first entry its machine lacks. Default 0. */
  readonly nextIndex?: LogEnd
  /** The last inbound frame in the log below `nextIndex`. */
  readonly coveredFrameId?: bigint
  /** Where this replica listens, for siblings that win. Empty: nowhere. */
  readonly address?: string
  /** What it gives on, once it is the primary. */
  readonly artefacts?: BootArtefacts
  readonly policy?: ReplicationPolicy
}

/** What the replayer reports, each time it has made some progress. */
export interface ReplayReport {
  readonly replayedEnd: LogEnd
  /** Attempted instructions. */
  readonly count: bigint
  /** Regenerated since the last report, in order, verified against their markers. */
  readonly outputs: readonly MarkedOutput[]
  /** It has read the disk for itself since the last report: the primary may have changes that wait for that. */
  readonly hasRead?: boolean
  /** The replayer stands still until its disk gives what the primary's gave. */
  readonly need?: { readonly difference?: Divergence } | undefined
}

export interface BackupStatus {
  readonly state: BackupState
  readonly generation: Generation | undefined
  /** Whose log it has: of the primary that began to write in this generation. 0: nobody's. */
  readonly hold: Generation
  /** Follows its primary, and was welcomed: it may take over. */
  readonly isListed: boolean
  readonly progress: Progress
  readonly reach: Reach
  readonly unconfirmedOutputs: number
}
