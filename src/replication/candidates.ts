/**
 * Backups to be: they were accepted, and get the machine's present state, one after the other. Nobody waits for them yet and
 * the arbiter does not know them, so one that is lost meanwhile is simply forgotten. When the state is complete a candidate
 * becomes a link, and the `Primary` holds outputs for it from then on.
 *
 *   accepted ──► copying: pages, as many as the candidate takes ──► copied ──► a link that joins
 *
 * Flow control is by credit: what is sent and not loaded on the other side stays below `windowBytes`. So neither side ever
 * has more than that of the machine's memory waiting, and heartbeats and log entries never wait long behind pages.
 */

import type { Newcomer } from './backup-links.ts'
import type { ChannelId, LossCause, PrimaryEffect } from './effects.ts'
import { FailureDetector } from './failure-detector.ts'
import type { ReplicaName } from './messages.ts'
import type { ReplicationPolicy } from './policy.ts'
import type { PrimaryLines } from './primary-lines.ts'

export class Candidate {
  readonly newcomer: Newcomer
  readonly detector: FailureDetector
  #sentBytes = 0
  #takenBytes = 0
  /** Its copy has begun. */
  isCopying = false

  constructor(newcomer: Newcomer, policy: ReplicationPolicy, nowMs: number) {
    this.newcomer = newcomer
    this.detector = new FailureDetector(policy.detector, nowMs)
  }

  get channel(): ChannelId {
    return this.newcomer.channel
  }

  get replica(): ReplicaName {
    return this.newcomer.replica
  }

  get sentBytes(): number {
    return this.#sentBytes
  }

  onSent(bytes: number): void {
    this.#sentBytes += bytes
  }

  /** @returns how much was loaded since the last time; undefined: that cannot be */
  onTaken(totalBytes: number): number | undefined {
    if (totalBytes < this.#takenBytes || totalBytes > this.#sentBytes) return undefined
    const more = totalBytes - this.#takenBytes
    this.#takenBytes = totalBytes
    return more
  }
}

/** How far a backup to be has come. */
export interface TransferStatus {
  readonly replica: ReplicaName
  /** Memory that it was sent; undefined: all of it, and the state. It joins. */
  readonly sentBytes: number | undefined
}

export class Candidates {
  readonly #policy: ReplicationPolicy
  readonly #effects: PrimaryEffect[]
  readonly #lines: PrimaryLines
  /** In the order in which they came: the first is being copied for. */
  readonly #candidates = new Map<ChannelId, Candidate>()

  /** @param effects where what follows for the hart is put, in order */
  constructor(policy: ReplicationPolicy, effects: PrimaryEffect[], lines: PrimaryLines) {
    this.#policy = policy
    this.#effects = effects
    this.#lines = lines
  }

  get all(): readonly Candidate[] {
    return [...this.#candidates.values()]
  }

  get size(): number {
    return this.#candidates.size
  }

  get status(): TransferStatus | undefined {
    const copying = this.#copying
    return copying && { replica: copying.replica, sentBytes: copying.sentBytes }
  }

  /** When the first of them has to be looked at. */
  get dueMs(): number {
    return Math.min(Number.POSITIVE_INFINITY, ...this.all.map(({ detector }) => detector.dueMs))
  }

  at(channel: ChannelId): Candidate | undefined {
    return this.#candidates.get(channel)
  }

  add(newcomer: Newcomer, nowMs: number): Candidate {
    const candidate = new Candidate(newcomer, this.#policy, nowMs)
    this.#candidates.set(newcomer.channel, candidate)
    this.#copyForNext()
    return candidate
  }

  /** Pages of the copy left the hart. Undefined: of one that was given up. */
  onPages(copy: ChannelId, bytes: number): Candidate | undefined {
    const candidate = this.#candidates.get(copy)
    candidate?.onSent(bytes)
    return candidate
  }

  /** Its pages are in its machine, up to this many bytes. @returns false: that cannot be */
  onTaken(candidate: Candidate, totalBytes: number): boolean {
    const more = candidate.onTaken(totalBytes)
    if (more === undefined) return false
    if (more > 0) this.#effects.push({ kind: 'allowPages', copy: candidate.channel, bytes: more })
    return true
  }

  onTick(nowMs: number): void {
    const { timeoutMs } = this.#policy.detector
    for (const candidate of this.all) {
      const isSilent = candidate.detector.suspicion(nowMs) !== undefined
      if (isSilent) this.lose(candidate, 'silent', `not heard of for ${timeoutMs} ms`)
    }
  }

  /** Nobody waits for it and the arbiter does not know it: nothing follows. */
  lose(candidate: Candidate, cause: LossCause, detail: string): void {
    this.#delete(candidate, detail)
    this.#effects.push({ kind: 'backupLost', backup: candidate.replica, cause, detail })
    this.#copyForNext()
  }

  /** They are told to end, in good order. */
  dismissAll(reason: string): void {
    for (const candidate of this.all) {
      this.#lines.say(candidate.channel, { kind: 'goodbye', reason })
      this.#delete(candidate, reason)
    }
  }

  closeAll(reason: string): void {
    for (const candidate of this.all) this.#delete(candidate, reason)
  }

  #delete(candidate: Candidate, reason: string): void {
    const { channel, isCopying } = candidate
    this.#candidates.delete(channel)
    if (isCopying) this.#effects.push({ kind: 'endCopy', copy: channel })
    this.#lines.close(channel, reason)
  }

  /** Its copy is complete: it is a candidate no longer. Undefined: it was given up before. */
  takeCopied(copy: ChannelId): Candidate | undefined {
    const candidate = this.#candidates.get(copy)
    this.#candidates.delete(copy)
    this.#copyForNext()
    return candidate
  }

  get #copying(): Candidate | undefined {
    return this.all.find(({ isCopying }) => isCopying)
  }

  #copyForNext(): void {
    const next = this.all[0]
    if (next === undefined || this.#copying !== undefined) return
    next.isCopying = true
    this.#effects.push({ kind: 'startCopy', copy: next.channel, creditBytes: this.#policy.transferWindowBytes })
  }
}
