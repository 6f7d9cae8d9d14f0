/**
 * The backups of a primary, one link each: what it was sent, how far it has come, whether it is there. From its hello on a
 * backup has a link, and as long as it has one, outputs wait for it: lost ones are waited for too, until the arbiter's
 * record drops them (invariant 8).
 *
 * It decides nothing: who becomes a link, who is lost, and when a link ends is the `Primary`'s business.
 */

import type { LogEnd } from '../log/entry.ts'
import type { TransferStatus } from './candidates.ts'
import type { ChannelId } from './effects.ts'
import { FailureDetector } from './failure-detector.ts'
import { LogBuffer } from './log-buffer.ts'
import type { Progress, ReplicaName } from './messages.ts'
import type { ReplicationPolicy } from './policy.ts'
import { fullReach, type Reach } from './reach.ts'

/** One backup, as its primary sees it. */
export class BackupLink {
  readonly channel: ChannelId
  readonly replica: ReplicaName
  readonly buffer: LogBuffer
  readonly detector: FailureDetector
  progress: Progress | undefined
  reach: Reach = fullReach
  /**
   * What it waits for before the arbiter may list it, after a state transfer: that its machine is whole, and that what its
   * disks answered before is safe. Outputs wait for it already.
   */
  readonly joinsAfter = new Set<'restored' | 'disksFlushed'>()
  /** Lost: its acknowledgements no longer come, but outputs wait for it until the arbiter has dropped it. */
  isLost = false
  /** The operator wants it gone. It is a backup in every way until the arbiter has dropped it. */
  isDismissed = false
  /** The receivers confirmed something this backup does not know yet. */
  owesConfirmed = true
  /** When it was told last. */
  confirmedAtMs: number

  /** The arbiter does not know it yet. */
  get isJoining(): boolean {
    return this.joinsAfter.size > 0
  }

  /** @param logEnd index of the first entry that it is sent */
  constructor(
    { channel, replica, logEnd }: { channel: ChannelId; replica: ReplicaName; logEnd: LogEnd },
    policy: ReplicationPolicy,
    nowMs: number,
  ) {
    this.channel = channel
    this.replica = replica
    this.buffer = new LogBuffer(logEnd)
    this.detector = new FailureDetector(policy.detector, nowMs)
    this.confirmedAtMs = nowMs
  }

  get status(): BackupStatus {
    const { replica, isLost, progress, reach, buffer } = this
    const { unreceivedBytes, unreplayedBytes } = buffer
    return { replica, isLost, progress, reach, unreceivedBytes, unreplayedBytes }
  }
}

export interface BackupStatus {
  readonly replica: ReplicaName
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

  /** Those that the arbiter may list: outputs wait for them, and their machine is whole. */
  get fit(): readonly BackupLink[] {
    return this.present.filter(({ isJoining }) => !isJoining)
  }

  /** One that joins. */
  get joining(): TransferStatus | undefined {
    const link = this.present.find(({ isJoining }) => isJoining)
    return link && { replica: link.replica, sentBytes: undefined }
  }

  get statuses(): readonly BackupStatus[] {
    return this.all.map(({ status }) => status)
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
    for (const { buffer } of this.#links.values()) {
      if (end === undefined || buffer.receivedEnd < end) end = buffer.receivedEnd
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

  /** Of the backup that is furthest behind, in milliseconds. */
  get longestLagMs(): number {
    return Math.max(0, ...this.present.map(({ progress }) => progress?.lagMs ?? 0))
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
