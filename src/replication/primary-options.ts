/** What a primary is made with, and what it says of itself (primary.ts). */

import type { BootArtefacts } from '../log/boot-artefacts.ts'
import type { LogEnd } from '../log/entry.ts'
import type { MachineIdentity } from '../log/identity.ts'
import type { BackupStatus } from './backup-links.ts'
import type { TransferStatus } from './candidates.ts'
import type { PauseReason } from './effects.ts'
import type { Inheritance } from './inherited-tail.ts'
import type { Generation, ReplicaName } from './messages.ts'
import type { ReplicationPolicy } from './policy.ts'
import type { Reach } from './reach.ts'
import type { PrimaryState } from './roles.ts'
import type { UnconfirmedOutputs } from './unconfirmed-outputs.ts'

export interface PrimaryOptions {
  readonly identity: MachineIdentity
  readonly replica: ReplicaName
  /** The generation the arbiter granted this replica. */
  readonly generation: Generation
  /**
   * `starting`: the hart waits for as many backups as the policy says. `alone`: unprotected (`run VM`), or gone live. `asking`:
   * gone live, and the arbiter may still list siblings: nothing is released before it lists backups of this replica's choice.
   */
  readonly state: 'starting' | 'alone' | 'asking'
  /** Names this run of the machine to the switch. */
  readonly runId: bigint
  /** What it gives to a backup that has nothing to boot from. Absent: such a backup is refused. */
  readonly artefacts?: BootArtefacts
  /** Index of the next log entry. Default 0. */
  readonly nextIndex?: LogEnd
  /** What a backup that went live sends again: its receivers' confirmations are still to come. */
  readonly unconfirmed?: UnconfirmedOutputs
  /** The last inbound frame in the log below `nextIndex`. */
  readonly coveredFrameId?: bigint
  /** Where this replica listens. */
  readonly address?: string
  /** Of a backup that went live. */
  readonly inheritance?: Inheritance
  readonly policy?: ReplicationPolicy
}

export interface PrimaryStatus {
  readonly state: PrimaryState
  readonly generation: Generation
  readonly logEnd: LogEnd
  readonly reach: Reach
  readonly backups: readonly BackupStatus[]
  /** A backup gets the machine's state now. */
  readonly transfer: TransferStatus | undefined
  readonly heldOutputs: number
  readonly heldBytes: number
  readonly unconfirmedOutputs: number
  readonly cpuPercent: number
  readonly pausedFor: readonly PauseReason[]
}
