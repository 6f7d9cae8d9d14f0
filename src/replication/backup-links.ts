/**
 * The backups of a primary, one link each: what it was sent, how far it has come, whether it is there.
 *
 *   catching up ──has all that was there at its hello──► waited for ──has all that could leave before──► may be listed
 *
 * A backup that joins a running machine may lack entries whose outputs have left. So first it catches up; then outputs wait
 * for it; then it acknowledges everything that was written before they did: only now the arbiter may list it (invariant 8:
 * holding begins BEFORE eligibility is recorded). Lost ones are waited for too, until the record drops them.
 *
 * It decides nothing: who becomes a link, who is lost, and when a link ends is the `Primary`'s business.
 */

import type { LogEnd } from '../log/entry.ts'
import type { TransferStatus } from './candidates.ts'
import type { ChannelId } from './effects.ts'
import { FailureDetector } from './failure-detector.ts'
import { LogBuffer } from './log-buffer.ts'
import type { Progress, ReplicaName, Sibling } from './messages.ts'
import type { ReplicationPolicy } from './policy.ts'
import { fullReach, type Reach } from './reach.ts'

/** One backup, as its primary sees it. */
export class BackupLink {
  readonly channel: ChannelId
  readonly replica: ReplicaName
  readonly address: string
  readonly buffer: LogBuffer
  readonly detector: FailureDetector
  /** Outputs wait for its acknowledgements. */
  #isWaitedFor = false
  /** What it has to acknowledge for its next step. */
  #barrier: LogEnd
  #progress: Progress | undefined
  reach: Reach = fullReach
  /**
   * What it waits for before the arbiter may list it, after a state transfer: that its machine is whole, and that what its
   * disks answered before is safe. Outputs wait for it already.
   */
  readonly joinsAfter = new Set<'restored' | 'disksFlushed'>()
  /** Lost: its acknowledgements no longer come, but outputs wait for it until the arbiter has dropped it. */
  isLost = false
  /** Why it is to go. It is a backup in every way until the arbiter has dropped it; then it is told so. */
  dismissal: string | undefined
  /** The receivers confirmed something this backup does not know yet. */
  owesConfirmed = true
  /** When it was told last. */
  confirmedAtMs: number

  /** Its machine is being made of the primary's. */
  get isJoining(): boolean {
    return this.joinsAfter.size > 0
  }

  constructor(newcomer: Newcomer, logEnd: LogEnd, policy: ReplicationPolicy, nowMs: number) {
    this.channel = newcomer.channel
    this.replica = newcomer.replica
    this.address = newcomer.address
    this.buffer = new LogBuffer(newcomer.nextIndex, newcomer.replayedEnd)
    this.detector = new FailureDetector(policy.detector, nowMs)
    this.confirmedAtMs = nowMs
    this.#barrier = logEnd
    this.advance(logEnd)
  }

  get progress(): Progress | undefined {
    return this.#progress
  }

  get isWaitedFor(): boolean {
    return this.#isWaitedFor
  }

  /** It has acknowledged whatever could be released without it: the arbiter may list it. */
  get mayBeListed(): boolean {
    return this.#isWaitedFor && this.buffer.receivedEnd >= this.#barrier
  }

  /** The arbiter may list it when it has acknowledged this, too. */
  mustReceive(end: LogEnd): void {
    if (end > this.#barrier) this.#barrier = end
  }

  /** An acknowledgement. @returns false: of what it was never sent */
  onProgress(progress: Progress, nowMs: number): boolean {
    const before = this.buffer.receivedEnd
    if (!this.buffer.onProgress(progress.receivedEnd, progress.replayedEnd)) return false
    this.#progress = progress
    if (this.buffer.receivedEnd > before) this.detector.onLogTraffic(nowMs)
    this.detector.setOwes(this.buffer.receivedEnd < this.buffer.sentEnd, nowMs)
    return true
  }

  /** Call after each acknowledgement. */
  advance(logEnd: LogEnd): void {
    if (this.#isWaitedFor || this.buffer.receivedEnd < this.#barrier) return
    this.#isWaitedFor = true
    this.#barrier = logEnd
  }
}

/** What a backup says of itself in its hello. */
export interface Newcomer extends Sibling {
  readonly channel: ChannelId
  /** Index of the first entry that it is sent. */
  readonly nextIndex: LogEnd
  /** It has replayed every entry below this, and done its reads. */
  readonly replayedEnd: LogEnd
}

export interface BackupStatus {
  readonly replica: ReplicaName
  /** It may take over. */
  readonly isListed: boolean
  readonly isLost: boolean
  readonly progress: Progress | undefined
  readonly reach: Reach
  readonly unreceivedBytes: number
  readonly unreplayedBytes: number
}

export class BackupLinks {
  readonly #links = new Map<ChannelId, BackupLink>()

  get size(): number {
    return this.#links.size
  }

  /** Lost ones included. */
  get all(): readonly BackupLink[] {
    return [...this.#links.values()]
  }

  /** The backups that are here. */
  get present(): readonly BackupLink[] {
    return this.all.filter(({ isLost }) => !isLost)
  }

  /** Those of these names: who they are, and where they listen. */
  siblings(names: readonly ReplicaName[]): readonly Sibling[] {
    const links = this.all.filter(({ replica }) => names.includes(replica))
    return links.map(({ replica, address }) => ({ replica, address }))
  }

  /** One that joins. */
  get joining(): TransferStatus | undefined {
    const link = this.present.find(({ isJoining }) => isJoining)
    return link && { replica: link.replica, sentBytes: undefined }
  }

  /** @param listed whom the arbiter's record names */
  statuses(listed: readonly ReplicaName[]): readonly BackupStatus[] {
    return this.all.map(({ replica, isLost, progress, reach, buffer }) => {
      const { unreceivedBytes, unreplayedBytes } = buffer
      const isListed = listed.includes(replica) && !isLost
      return { replica, isListed, isLost, progress, reach, unreceivedBytes, unreplayedBytes }
    })
  }

  at(channel: ChannelId): BackupLink | undefined {
    return this.#links.get(channel)
  }

  add(link: BackupLink): void {
    this.#links.set(link.channel, link)
  }

  delete({ channel }: BackupLink): void {
    this.#links.delete(channel)
  }

  clear(): void {
    this.#links.clear()
  }

  /**
   * The Output Rule's bound (invariant 5): every entry below it is acknowledged by every backup that outputs wait for, lost
   * ones included. Undefined: there is nobody to wait for.
   */
  get acknowledgedEnd(): LogEnd | undefined {
    let end: LogEnd | undefined
    for (const { buffer, isWaitedFor } of this.#links.values()) {
      if (isWaitedFor && (end === undefined || buffer.receivedEnd < end)) end = buffer.receivedEnd
    }
    return end
  }

  /**
   * Every entry below it is replayed by every backup, lost ones and those that catch up included: what is read there has
   * been read. Undefined: there is no backup.
   */
  get replayedEnd(): LogEnd | undefined {
    let end: LogEnd | undefined
    for (const { buffer } of this.#links.values()) {
      if (end === undefined || buffer.replayedEnd < end) end = buffer.replayedEnd
    }
    return end
  }

  /** The latest time for the next tick, as far as these backups go. */
  dueMs({ confirmEveryMs }: ReplicationPolicy): number {
    let dueMs = Number.POSITIVE_INFINITY
    for (const { isLost, owesConfirmed, confirmedAtMs, detector } of this.#links.values()) {
      if (isLost) continue
      dueMs = Math.min(dueMs, detector.dueMs)
      if (owesConfirmed) dueMs = Math.min(dueMs, confirmedAtMs + confirmEveryMs)
    }
    return dueMs
  }

  /** Every entry below it is acknowledged by every backup, also by those that catch up still. */
  commonEnd(logEnd: LogEnd): LogEnd {
    let end = logEnd
    for (const { buffer } of this.#links.values()) if (buffer.receivedEnd < end) end = buffer.receivedEnd
    return end
  }

  /** Who is here, and may be listed. */
  get listable(): readonly BackupLink[] {
    return this.present.filter(({ mayBeListed, isJoining, dismissal }) => {
      return mayBeListed && !isJoining && dismissal === undefined
    })
  }

  get listableNames(): readonly ReplicaName[] {
    return this.listable.map(({ replica }) => replica)
  }

  /** The record names just those who are here: nobody is lost, and nobody new has come. */
  isSettledWith(listed: readonly ReplicaName[]): boolean {
    const names = this.listableNames
    const isSame = names.length === listed.length && names.every((replica) => listed.includes(replica))
    return isSame && this.all.every(({ isLost }) => !isLost)
  }

  /** A backup that holds the machine back although another one shows that it could go faster. */
  slowOne({ slowBackupMs }: ReplicationPolicy): BackupLink | undefined {
    const lagOf = ({ progress }: BackupLink): number => progress?.lagMs ?? 0
    const listable = this.listable
    const isKeptUpWith = listable.some((link) => lagOf(link) < slowBackupMs / 2)
    return isKeptUpWith ? listable.find((link) => lagOf(link) > slowBackupMs) : undefined
  }

  /** Of the backup that is furthest behind, in milliseconds; undefined without one. */
  get longestLagMs(): number | undefined {
    const { present } = this
    return present.length === 0 ? undefined : Math.max(...present.map(({ progress }) => progress?.lagMs ?? 0))
  }

  /** How full the fullest log buffer is, of either side: 1 is full. */
  logFill({ maxUnreceivedBytes, maxUnreplayedBytes }: ReplicationPolicy): number {
    let fill = 0
    for (const { buffer } of this.present) {
      const { unreceivedBytes, unreplayedBytes } = buffer
      fill = Math.max(fill, unreceivedBytes / maxUnreceivedBytes, unreplayedBytes / maxUnreplayedBytes)
    }
    return fill
  }
}
