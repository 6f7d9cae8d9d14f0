/** The numbers of the protocol, in one place. Each has its reason where it is declared. */

import { type Discipline, exactDiscipline } from '../log/discipline.ts'
import { type DetectorPolicy, defaultDetectorPolicy } from './failure-detector.ts'
import { defaultLagPolicy, type LagPolicy } from './lag-control.ts'
import { defaultGateLimits, type GateLimits } from './output-gate.ts'

export interface ReplicationPolicy {
  readonly detector: DetectorPolicy
  readonly gate: GateLimits
  readonly lag: LagPolicy
  /** The primary stops when so much of its log is not acknowledged. */
  readonly maxUnreceivedBytes: number
  /** The primary stops when the backup has so much of the log to replay yet: it is the backup's memory. */
  readonly maxUnreplayedBytes: number
  /** Confirmations that no entries take along go out by themselves after this time, so that a backup keeps little. */
  readonly confirmEveryMs: number
  /** How long to wait before an unreachable arbiter is asked again. */
  readonly arbiterRetryMs: number
  /** When the two part, a replica that knows the other to be better placed (reach.ts) asks so much later. */
  readonly headStartMs: number
  /** How much of a machine's memory may be on its way to a backup to be: at most so much waits in any process or socket. */
  readonly transferWindowBytes: number
  /** How many backups the machine is to have. A starting primary waits for them; more are refused. */
  readonly backups: number
  /** A backup so far behind, while another one keeps up, is dropped: it would slow the machine for ever. */
  readonly slowBackupMs: number
  /** A backup whose disk has not given for so long what its primary's gave leaves: it would stall the machine for ever. */
  readonly readStallMs: number
  /** A winner waits so long for the tails of its siblings: each is reachable within this time, or late. */
  readonly tailTimeoutMs: number
  /** So long a new primary calls its siblings, and a backup that lost waits to be called. */
  readonly callMs: number
  /** A connection that says no hello for this long is closed. */
  readonly helloTimeoutMs: number
  /**
   * How the hart lets the world in: the same on all replicas of a machine. In the epoch discipline the hart itself waits for
   * acknowledgements (P2), and is told of them.
   */
  readonly discipline: Discipline
}

export const defaultReplicationPolicy: ReplicationPolicy = {
  detector: defaultDetectorPolicy,
  gate: defaultGateLimits,
  lag: defaultLagPolicy,
  maxUnreceivedBytes: 16 * 1024 * 1024,
  maxUnreplayedBytes: 128 * 1024 * 1024,
  confirmEveryMs: 20,
  arbiterRetryMs: 200,
  headStartMs: 1000,
  transferWindowBytes: 8 * 1024 * 1024,
  backups: 1,
  slowBackupMs: 5000,
  readStallMs: 5000,
  tailTimeoutMs: 300,
  callMs: 10_000,
  helloTimeoutMs: 5000,
  discipline: exactDiscipline,
}
