/** What a replica says of itself when asked, and how the parts of a failover are timed. */

import type { Discipline } from '../log/discipline.ts'
import type { BytesByCause } from '../log/entry.ts'
import type { TransferStatus } from '../replication/candidates.ts'
import type { FailoverTiming } from '../replication/effects.ts'
import type { PrimaryStatus } from '../replication/primary-options.ts'
import type { Reach } from '../replication/reach.ts'
import type { PrimaryState } from '../replication/roles.ts'
import type { KeeperStatus } from './backup-keeper.ts'
import type { ChannelBytes } from './channel-traffic.ts'
import type { DelaySummary } from './delay-histogram.ts'
import type { OutputDelaySummaries } from './output-delays.ts'
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

export interface FlowStatus {
  /** Log sent to the backup that it has not acknowledged. */
  readonly unacknowledgedBytes: number
  /** Outputs that wait for an acknowledgement. */
  readonly heldOutputs: number
  readonly heldBytes: number
  /** Outputs that left and that their receivers have not confirmed. */
  readonly unconfirmedOutputs: number
  /** The share of real time that the hart may run. */
  readonly cpuPercent: number
}

/** What a replica that went live found done, or did again. The switch counts repeated frames itself. */
export interface Repeats {
  /** Console outputs that its primary had written: left out. */
  readonly console: number
  /** Disk requests without an answer: issued again. They repeat harmlessly. */
  readonly disk: number
}

/** A backup, as its primary sees it. */
export interface BackupSummary {
  readonly name: string
  /** The arbiter lists it: it may take over. */
  readonly isListed: boolean
  readonly lagMs: number | undefined
}

export interface ReplicaStatus {
  readonly name: ReplicaName
  readonly pid: number
  readonly role: 'primary' | 'backup' | 'halted'
  readonly state: string
  readonly isProtected: boolean
  /** Of a backup: the arbiter lists it, and it follows its primary. */
  readonly isListed: boolean
  /** Of a primary: a backup to be gets the machine's state. */
  readonly transfer: TransferStatus | undefined
  /** Of a primary: how long the guest stood still when its machine was copied the last time. */
  readonly copyPauseMs: number | undefined
  readonly reach: Reach
  readonly generation: number
  /** Undefined until the machine is known. */
  readonly discipline: Discipline | undefined
  readonly instructions: number
  readonly guestSeconds: number
  /** What the slowest backup has received but not replayed, in milliseconds of log. */
  readonly lagMs: number | undefined
  /** Of a primary: its backups. */
  readonly backups: readonly BackupSummary[]
  /** How many the machine is to have. */
  readonly wantedBackups: number
  /** Of a primary: what is on its way. */
  readonly flow: FlowStatus | undefined
  readonly logBytesByCause: BytesByCause
  /** Bytes of messages on the logging channel, to and from all other replicas, since this process began. */
  readonly channelBytes: ChannelBytes
  /** How long outputs waited for backups since this replica went live, and for what. */
  readonly outputDelays: OutputDelaySummaries
  /** How long frames waited for their log entry since this replica went live. */
  readonly frameDelays: DelaySummary
  /** Digests of the primary's log that this replica's machine agreed with, as a backup. */
  readonly digestChecks: number
  readonly divergences: number
  readonly repeats: Repeats
  readonly failover: FailoverTimes | undefined
  /** The guest switched itself off. */
  readonly isOff: boolean
  readonly haltReason: string | undefined
  /** What its process does for the machine's protection; undefined: nothing. */
  readonly keeper?: KeeperStatus | undefined
}

/** What whoever keeps the machine protected has to know of a primary. */
export interface ReplicaProtection {
  readonly state: PrimaryState
  /** It has as many backups as are wanted. */
  readonly isComplete: boolean
  /** A backup to be gets the machine's state. */
  readonly hasTransfer: boolean
}

/** Now, as `FailoverTimes` counts. */
export function nowMs(): number {
  return performance.timeOrigin + performance.now()
}

/** The flow of a primary's log and outputs. */
export function flowOf({ backups, heldOutputs, heldBytes, unconfirmedOutputs, cpuPercent }: PrimaryStatus): FlowStatus {
  const unacknowledgedBytes = Math.max(0, ...backups.map(({ unreceivedBytes }) => unreceivedBytes))
  return { unacknowledgedBytes, heldOutputs, heldBytes, unconfirmedOutputs, cpuPercent }
}

export function failoverTimes(timing: FailoverTiming): Omit<FailoverTimes, 'cause'> {
  const origin = performance.timeOrigin
  return {
    detectedAt: origin + timing.detectedMs,
    arbitratedAt: origin + timing.wonMs,
    replayedAt: origin + timing.replayedMs,
    firstOutputAt: undefined,
  }
}

/** Of the slowest backup, in milliseconds. */
export function longestLagMs({ backups }: PrimaryStatus): number | undefined {
  const lags = backups.flatMap(({ progress }) => (progress ? [progress.lagMs] : []))
  return lags.length > 0 ? Math.max(...lags) : undefined
}

export function backupsOf({ backups }: PrimaryStatus): readonly BackupSummary[] {
  return backups.map(({ replica, isListed, progress }) => ({ name: replica, isListed, lagMs: progress?.lagMs }))
}
