/**
 * What `Primary` and `Backup` ask of their host, as closed unions. They are carried out in the order in which they are
 * returned. Where a rule of the protocol orders things, the effect exists only after its condition holds: there is no
 * `release` before its acknowledgements, no `goLive` before the arbiter's word and the last entry's replay.
 *
 * A fact that arises while a list is carried out (a console that confirms at once) may be reported at once, but the
 * effects it returns come AFTER the rest of the list: otherwise an older `pauseHart` could overtake a newer `resumeHart`.
 * `closeChannel` may name a channel that is closed already.
 */

import { ExitCode } from '../base/assert.ts'
import type { LogBatch } from '../log/batch.ts'
import type { Divergence } from '../log/divergence.ts'
import type { DiskRequest, LogEnd, MarkedOutput } from '../log/entry.ts'
import type { Generation, Message, ReplicaName, Sibling } from './messages.ts'
import type { Joiner } from './tail-fetch.ts'
import type { TransferredState } from './transferred-state.ts'
import type { UnconfirmedOutput } from './unconfirmed-outputs.ts'

/** The host's number for one connection of the logging channel; never reused. */
export type ChannelId = number

/** Why a replica stopped taking part, for good. */
export type HaltReason =
  /** Another replica holds the machine. */
  | 'lostArbitration'
  /** Its machine does not do what the log says. */
  | 'diverged'
  /** The primary refused it. */
  | 'refused'
  /** The channel ended before it was accepted. */
  | 'neverPaired'
  /** The primary ended in good order. */
  | 'goodbye'
  /** It gave the machine to its backup. */
  | 'handedOver'
  /** Its own host asked for it. */
  | 'shutdown'
  /** Its disk does not give what its primary's gave. */
  | 'diskStalled'

export function exitCodeOfHalt(reason: HaltReason): ExitCode {
  switch (reason) {
    case 'lostArbitration':
      return ExitCode.lostArbitration
    case 'diverged':
      return ExitCode.divergence
    case 'refused':
    case 'neverPaired':
      return ExitCode.failure
    case 'diskStalled':
      return ExitCode.diskOrArbiterUnreachable
    case 'goodbye':
    case 'handedOver':
    case 'shutdown':
      return ExitCode.ok
  }
}

export type LossCause =
  | 'channelClosed'
  | 'silent'
  | 'stalled'
  | 'tooSlow'
  | 'diverged'
  | 'goodbye'
  | 'protocol'
  | 'disk'

/** Why the hart is paused. Several may hold at once; it runs when none does. */
export type PauseReason =
  /** The backups have not joined yet. A hart starts paused for this reason. */
  | 'starting'
  /** Too much output is held, or released and not confirmed. */
  | 'gateFull'
  /** Too many log bytes are not acknowledged, or not replayed. */
  | 'logFull'

export type PrimaryEffect =
  | { readonly kind: 'send'; readonly channel: ChannelId; readonly message: Message }
  | { readonly kind: 'closeChannel'; readonly channel: ChannelId; readonly reason: string }
  /** Send these to the outside now: every entry below `afterAcknowledged` is acknowledged (undefined: nobody to wait for). */
  | {
      readonly kind: 'release'
      readonly outputs: readonly MarkedOutput[]
      readonly afterAcknowledged: LogEnd | undefined
    }
  /** Issue these disk requests again: a replica that went live found them without an answer in its log. */
  | { readonly kind: 'reissue'; readonly requests: readonly DiskRequest[] }
  /**
   * For a hart that waits for acknowledgements itself (epoch discipline, P2): every entry below `end` is acknowledged by
   * every backup; undefined: nobody to wait for.
   */
  | { readonly kind: 'acknowledged'; readonly end: LogEnd | undefined }
  /** The switch may forget inbound frames up to this one: the entries that hold them are acknowledged. */
  | { readonly kind: 'covered'; readonly frameId: bigint }
  /**
   * Ask the arbiter, as holder of `generation`, to open the next one with exactly these backups. Answer with
   * `onArbiterAnswer`. At most one question is open; the same one may come again after `unreachable`.
   */
  | { readonly kind: 'openGeneration'; readonly generation: Generation; readonly eligible: readonly ReplicaName[] }
  /** Granted: we hold `generation`, with these backups. Disk and switch connections go on in it. */
  | { readonly kind: 'enterGeneration'; readonly generation: Generation; readonly eligible: readonly ReplicaName[] }
  | { readonly kind: 'pauseHart'; readonly reason: PauseReason }
  /** No reason to pause is left. The first one starts the hart (and boots the machine, if it is off). */
  | { readonly kind: 'resumeHart' }
  /** Let the hart run this share of real time (lag control); 100 is all of it. */
  | { readonly kind: 'setCpuPercent'; readonly percent: number }
  /** Begin to copy the machine, named `copy`, and let at most so many bytes of pages out. Answer with `onPages`, `onCopied`. */
  | { readonly kind: 'startCopy'; readonly copy: ChannelId; readonly creditBytes: number }
  /** So many bytes of pages more. */
  | { readonly kind: 'allowPages'; readonly copy: ChannelId; readonly bytes: number }
  /** Nobody wants this copy any more. */
  | { readonly kind: 'endCopy'; readonly copy: ChannelId }
  /**
   * Flush every disk: what it has answered so far must not be lost, since the backup of this copy does not know it. Answer
   * with `onDisksFlushed`.
   */
  | { readonly kind: 'flushDisks'; readonly copy: ChannelId }
  | { readonly kind: 'backupLost'; readonly backup: ReplicaName; readonly cause: LossCause; readonly detail: string }
  | { readonly kind: 'reportDivergence'; readonly backup: ReplicaName; readonly divergence: Divergence }
  /** Stop the hart, release nothing more, end. Always the last effect. */
  | { readonly kind: 'halt'; readonly reason: HaltReason; readonly detail: string }

/** When a failover's phases ended, on the host's monotonic clock. The host adds bind and first output. */
export interface FailoverTiming {
  /** The last sign of life of the primary. */
  readonly lastHeardMs: number
  /** Detection ended: the arbiter was asked. */
  readonly detectedMs: number
  /** Arbitration ended. */
  readonly wonMs: number
  /** Everything acknowledged was replayed. */
  readonly replayedMs: number
}

export type BackupEffect =
  | { readonly kind: 'send'; readonly message: Message }
  | { readonly kind: 'closeChannel'; readonly reason: string }
  /** Give the batch to the replayer. It comes BEFORE the acknowledgement that covers it. */
  | { readonly kind: 'replay'; readonly batch: LogBatch }
  /** Put these pages into the machine. Answer with `onPagesLoaded`. */
  | { readonly kind: 'loadPages'; readonly bytes: Uint8Array }
  /** All pages came: the rest of the machine, and what the host has to know. Answer with `onRestored` or `onRestoreFailed`. */
  | { readonly kind: 'loadState'; readonly state: TransferredState }
  /** Ask the arbiter, as a backup that may take over `generation`. Answer with `onArbiterAnswer`. */
  | { readonly kind: 'testAndSet'; readonly generation: Generation }
  /**
   * Connect to each of them, again and again for a while. Report `onSiblingOpen` or `onSiblingUnreachable`, to this backup
   * or to the primary it has become by then.
   */
  | { readonly kind: 'callSiblings'; readonly siblings: readonly Sibling[] }
  /** For a connection that somebody opened to this backup, or that it opened to a sibling. */
  | { readonly kind: 'sendPeer'; readonly channel: ChannelId; readonly message: Message }
  | { readonly kind: 'closePeer'; readonly channel: ChannelId; readonly reason: string }
  /** This connection is the logging channel to its new primary from here on: what comes is for `onMessage`. */
  | { readonly kind: 'adoptPeer'; readonly channel: ChannelId }
  /**
   * AFTER the arbiter granted, the siblings' tails are here, and everything acknowledged was replayed: `Replayer.goLive()`, bind the network identity in
   * `generation` with `coveredFrameId`, send `unconfirmed` again in order, issue the replayer's disk requests again, and
   * go on as `Backup.toPrimary()`.
   */
  | {
      readonly kind: 'goLive'
      readonly generation: Generation
      /** The primary's name for this run of the machine. */
      readonly runId: bigint
      /** Index of the first entry the new primary writes. */
      readonly logEnd: LogEnd
      /** The last inbound frame in the log; undefined if there is none. */
      readonly coveredFrameId: bigint | undefined
      readonly unconfirmed: readonly UnconfirmedOutput[]
      /** Siblings that want to follow: the new primary hears their hellos before anything else. */
      readonly joiners: readonly Joiner[]
      readonly timing: FailoverTiming
    }
  | { readonly kind: 'reportDivergence'; readonly divergence: Divergence }
  | { readonly kind: 'halt'; readonly reason: HaltReason; readonly detail: string }

/** The arbiter's answer to the last `openGeneration` or `testAndSet`; answers to older ones are not reported. */
export type ArbiterAnswer =
  | { readonly result: 'granted'; readonly generation: Generation }
  | {
      readonly result: 'refused'
      readonly detail: string
      /** Who holds the machine. */
      readonly holder?: ReplicaName
      /** Whoever asked may take over a later generation than the one it asked for: this. */
      readonly eligibleIn?: Generation
    }
  /** No answer: never a reason to guess. The question is asked again. */
  | { readonly result: 'unreachable'; readonly detail: string }
