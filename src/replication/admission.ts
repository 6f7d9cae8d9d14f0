/**
 * The way from a connection to a backup of this primary (VMware FT, "Starting and restarting FT VMs").
 *
 *   stranger ──hello──► refused, with the reason
 *      │           ├──► its log ends where ours does, or we have kept what it lacks: a link, and the entries that it lacks
 *      │           └──► it has nothing of a machine that runs: a candidate ──copied──► a link that joins, and the state
 *      └─fetch─► a piece of what it is to boot from
 *
 * Nobody waits for strangers and candidates, and the arbiter does not know them: who is lost on the way is forgotten. A link is
 * waited for from the moment at which it has all that could leave without it: then the `Primary` may have it listed. That, and
 * what becomes of links, is the `Primary`'s business.
 */

import type { LogBatch } from '../log/batch.ts'
import type { LogEnd } from '../log/entry.ts'
import { BackupLink, type BackupLinks } from './backup-links.ts'
import { type Candidate, Candidates, type TransferStatus } from './candidates.ts'
import type { ChannelId, PrimaryEffect } from './effects.ts'
import { type Hello, helloOfPrimary, type Introduction } from './hello.ts'
import { InheritedTail } from './inherited-tail.ts'
import type { Generation, Message } from './messages.ts'
import type { OutputPath } from './output-path.ts'
import { defaultReplicationPolicy, type ReplicationPolicy } from './policy.ts'
import type { PrimaryLines } from './primary-lines.ts'
import type { PrimaryOptions } from './primary-options.ts'
import { fullReach, isSameReach } from './reach.ts'
import { Reception } from './reception.ts'
import { stateMessages, type TransferredState } from './transferred-state.ts'

/** How the primary stands while somebody comes. */
export interface Standing {
  /** That it holds. */
  readonly generation: Generation
  readonly isStarting: boolean
  readonly logEnd: LogEnd
  readonly heartbeat: Extract<Message, { kind: 'heartbeat' }>
}

/** What of a primary a newcomer has to do with. */
export interface AdmissionParts {
  readonly own: Introduction
  readonly links: BackupLinks
  readonly outputs: OutputPath
  readonly lines: PrimaryLines
  /** Where what follows is put, in order. */
  readonly effects: PrimaryEffect[]
}

export class Admission {
  readonly #parts: AdmissionParts
  readonly #policy: ReplicationPolicy
  readonly #runId: bigint
  /** The generation in which this primary began to write its log. */
  readonly #hold: Generation
  readonly #inherited: InheritedTail | undefined
  readonly #reception: Reception
  readonly #candidates: Candidates

  constructor(options: PrimaryOptions, parts: AdmissionParts) {
    const { policy = defaultReplicationPolicy, inheritance } = options
    this.#parts = parts
    this.#policy = policy
    this.#runId = options.runId
    this.#hold = options.generation
    this.#inherited = inheritance && new InheritedTail(inheritance, policy.callMs)
    this.#reception = new Reception(options.identity, options.artefacts, policy)
    this.#candidates = new Candidates(policy, parts.effects, parts.lines)
  }

  /** The latest time for the next tick, as far as newcomers go. */
  get dueMs(): number {
    return Math.min(this.#inherited?.dueMs ?? Number.POSITIVE_INFINITY, this.#reception.dueMs, this.#candidates.dueMs)
  }

  /** Of the one that gets the machine's state now. */
  get status(): TransferStatus | undefined {
    return this.#candidates.status ?? this.#parts.links.joining
  }

  onOpen(channel: ChannelId, nowMs: number): void {
    this.#reception.add(channel, nowMs)
  }

  /** Its channel closed by itself. */
  onClosed(channel: ChannelId): void {
    this.#reception.delete(channel)
    const candidate = this.#candidates.at(channel)
    if (candidate !== undefined) this.#candidates.lose(candidate, 'channelClosed', 'the channel closed')
  }

  /** Whoever is no link breaks the protocol. */
  onViolation(channel: ChannelId, detail: string): void {
    this.#reception.delete(channel)
    const candidate = this.#candidates.at(channel)
    if (candidate !== undefined) this.#candidates.lose(candidate, 'protocol', detail)
    else this.#parts.lines.close(channel, detail)
  }

  /** Of whoever is no link. @returns the link that it has become */
  onMessage(channel: ChannelId, message: Message, standing: Standing, nowMs: number): BackupLink | undefined {
    const candidate = this.#candidates.at(channel)
    if (candidate !== undefined) this.#onCandidateMessage(candidate, message, nowMs)
    else if (this.#reception.has(channel)) {
      if (message.kind === 'hello') return this.#onHello(channel, message, standing, nowMs)
      if (message.kind === 'fetch') this.#onFetch(channel, message, nowMs)
      else this.onViolation(channel, `${message.kind} before hello`)
    }
    return undefined
  }

  #onFetch(channel: ChannelId, fetch: Extract<Message, { kind: 'fetch' }>, nowMs: number): void {
    const answer = this.#reception.answer(channel, fetch, nowMs)
    if (answer.kind !== 'refuse') this.#parts.lines.say(channel, answer)
    else {
      this.#reception.delete(channel)
      this.#parts.lines.refuse(channel, answer.reason)
    }
  }

  #onHello(channel: ChannelId, hello: Hello, standing: Standing, nowMs: number): BackupLink | undefined {
    const { own, links, lines } = this.#parts
    const { logEnd, heartbeat } = standing
    this.#reception.delete(channel)
    const missing = this.#missingOf(hello, logEnd)
    const refusal = this.#reception.refusalOf(hello, {
      names: [own.replica, ...[...links.all, ...this.#candidates.all].map(({ replica }) => replica)],
      backups: this.#policy.backups,
      isComplete: !standing.isStarting && links.present.length + this.#candidates.size >= this.#policy.backups,
      logEnd,
      canFollow: missing !== undefined,
      surplus: this.#inherited?.surplusOf(hello) ?? 0n,
    })
    if (refusal !== undefined) {
      lines.refuse(channel, refusal)
      return undefined
    }
    const terms = { generation: standing.generation + 1, runId: this.#runId, hold: this.#hold }
    if (missing === undefined) {
      // It has nothing of a machine that runs already: it gets the present state, and nobody waits for it until then.
      const candidate = this.#candidates.add({ ...hello, channel }, nowMs)
      lines.send(candidate, helloOfPrimary(own, { ...terms, nextIndex: logEnd }), nowMs)
      return undefined
    }
    this.#inherited?.onJoined(hello.replica)
    const link = new BackupLink({ ...hello, channel }, logEnd, this.#policy, nowMs)
    links.add(link)
    lines.send(link, helloOfPrimary(own, { ...terms, nextIndex: hello.nextIndex }), nowMs)
    if (!isSameReach(heartbeat.reach, fullReach)) lines.send(link, heartbeat, nowMs)
    for (const batch of missing) lines.sendEntries(link, batch, links.commonEnd(logEnd), nowMs)
    return link
  }

  /**
   * The entries between a backup's end and ours. Undefined: it has executed what is not in our log, or we have forgotten
   * what it lacks.
   */
  #missingOf(hello: Hello, logEnd: LogEnd): readonly LogBatch[] | undefined {
    // What it has yet to read may have been overwritten.
    if (hello.hold !== 0 && !this.#parts.outputs.canStillRead(hello.replayedEnd)) return undefined
    const isAtOurEnd = hello.nextIndex === logEnd && (hello.hold === 0 || hello.hold === this.#hold)
    return isAtOurEnd ? [] : this.#inherited?.missingOf(hello, this.#hold)
  }

  /** A backup to be: it takes pages, or leaves. */
  #onCandidateMessage(candidate: Candidate, message: Message, nowMs: number): void {
    candidate.detector.onHeard(nowMs)
    if (message.kind === 'goodbye') this.#candidates.lose(candidate, 'goodbye', message.reason)
    else if (message.kind !== 'taken') this.onViolation(candidate.channel, `unexpected ${message.kind}`)
    else if (!this.#candidates.onTaken(candidate, message.totalBytes)) {
      this.onViolation(candidate.channel, `took ${message.totalBytes} of ${candidate.sentBytes} bytes`)
    }
  }

  /** This primary wrote log entries. */
  onBatch(batch: LogBatch): void {
    this.#inherited?.onBatch(batch)
  }

  /** Some of the memory of the machine that is being copied. */
  onPages(copy: ChannelId, bytes: Uint8Array, nowMs: number): void {
    const candidate = this.#candidates.onPages(copy, bytes.length)
    if (candidate !== undefined) this.#parts.lines.send(candidate, { kind: 'pages', bytes }, nowMs)
  }

  /** The copy is complete: outputs are held for its candidate from here on, and the disks flushed. */
  onCopied(copy: ChannelId, hart: Uint8Array, host: Uint8Array, standing: Standing, nowMs: number): void {
    const candidate = this.#candidates.takeCopied(copy)
    if (candidate === undefined) return
    const { links, outputs, lines, effects } = this.#parts
    const { logEnd } = standing
    const newcomer = { ...candidate.newcomer, nextIndex: logEnd, replayedEnd: logEnd }
    const link = new BackupLink(newcomer, logEnd, this.#policy, nowMs)
    link.joinsAfter.add('restored').add('disksFlushed')
    // All that went out before is in the state, or among its unconfirmed outputs.
    links.add(link)
    const state: TransferredState = {
      nextIndex: logEnd,
      generation: standing.generation + 1,
      ...outputs.ofState,
      hart,
      host,
    }
    for (const piece of stateMessages(state)) lines.send(link, piece, nowMs)
    effects.push({ kind: 'flushDisks', copy })
  }

  /** Who is silent leaves; who is being copied for hears that the primary lives. */
  onTick({ heartbeat }: Standing, nowMs: number): void {
    for (const channel of this.#reception.silent(nowMs)) this.onViolation(channel, 'no hello')
    this.#candidates.onTick(nowMs)
    for (const candidate of this.#candidates.all) {
      if (candidate.detector.isHeartbeatDue(nowMs)) this.#parts.lines.send(candidate, heartbeat, nowMs)
    }
    this.#inherited?.onTick(nowMs)
  }

  /** Backups to be are told to end, in good order. */
  dismissAll(reason: string): void {
    this.#candidates.dismissAll(reason)
  }

  closeAll(reason: string): void {
    this.#candidates.closeAll(reason)
  }
}
