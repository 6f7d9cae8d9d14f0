/**
 * What the checkers see: everything that leaves a replica, where it arrives, and what replicas say they do. Called by the
 * fake world, never by the code under test.
 */

import type { ArbiterAnswerOf, ArbiterQuestion } from '../disk/arbiter.ts'
import type { DiskWork } from '../disk/steady-requests.ts'
import type { LogBatch } from '../log/batch.ts'
import type { Divergence } from '../log/divergence.ts'
import type { LogEnd } from '../log/entry.ts'
import type { DiskRequest } from './tiny-machine.ts'

/** One connection to the disk. */
export interface DiskVisitor {
  readonly replica: string
  readonly generation: number
}

/** What the switch did with an output. */
export type FrameFate = 'forwarded' | 'repeated' | 'fenced'

/**
 * `recorded`: written by the hart, told nobody. `sending`: on their way into the channel. `received`: given to the backup's
 * replayer, not acknowledged. `replayed`: by the backup's hart. `releasing`: acknowledged, their outputs still here.
 * `released`: outputs on their way.
 */
export type Boundary = 'recorded' | 'sending' | 'received' | 'replayed' | 'releasing' | 'released'

export interface Witness {
  onArbiterAnswer(replica: string, question: ArbiterQuestion, answer: ArbiterAnswerOf): void
  /** A request touches the image from here … */
  onDiskEntered(visitor: DiskVisitor, work: DiskWork): void
  /** … to here. */
  onDiskLeft(visitor: DiskVisitor, work: DiskWork): void
  /** The disk gave this to whoever writes the log, which may leave it out. */
  onRead(data: Uint8Array): void
  /** A backup stands still until it has read what its primary read; `isAfterPrimary`: its primary is gone. */
  onReadNeeded(isAfterPrimary: boolean): void
  /** A request of an older generation was refused. */
  onFencedRequest(): void
  onFrameOutput(replica: string, sequence: bigint, frame: Uint8Array, fate: FrameFate): void
  /** The switch listens to this replica now, and gives it frames that it had given to another one. */
  onBound(replica: string, generation: number, redelivered: number): void
  /** A replica has written to the console. */
  onConsoleOutput(replica: string, sequence: bigint, bytes: Uint8Array): void
  /** The writer of the log has written these entries. */
  onRecorded(replica: string, batch: LogBatch): void
  /** Log entries are about to go a step further: who dies here, dies between two things that belong together. */
  onBoundary(boundary: Boundary): void
  /** A replica that went live issues these again. */
  onReissued(replica: string, requests: readonly DiskRequest[]): void
  /** A backup asks the arbiter, and may have something left to replay. */
  onAsks(isLagging: boolean): void
  /** The primary's hart is stopped, or slowed down, for its backup's sake. */
  onHeldBack(how: 'log_full' | 'lag_control'): void
  /** A backup has a machine that ran elsewhere. */
  onRestored(): void
  onRestoreFailed(replica: string, detail: string): void
  /** The arbiter lists a backup: from here on it may take over. */
  onListed(): void
  /** The disk lost a write and does not take it again: from here on what it holds says nothing. */
  onRestoreRefused(): void
  /** What the disk answered before a new backup came could not be made safe: there is no backup. */
  onFlushFailed(): void
  /** A backup's own copy of the disk is nearly as good as its primary's … */
  onCopied(): void
  /** … and, after the state of a running machine, all that this state knows of is on it. */
  onCopySynchronized(): void
  /** A replica has ended because its own copy failed. */
  onCopyRemoved(replica: string): void
  /** A replica has entered this generation as its holder. */
  onHolds(replica: string, generation: number): void
  /** The arbiter has dropped the last backup. */
  onBackupDropped(replica: string): void
  /** A backup has become the primary; the log of who began to write in generation `hold` goes on at this entry. */
  onLive(replica: string, generation: number, hold: number, logEnd: LogEnd): void
  onDivergence(replica: string, divergence: Divergence): void
}
