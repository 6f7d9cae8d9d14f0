/**
 * The primary's side of VMware FT's *exact* discipline, sans I/O: facts come in through `onX`, effects go out. It knows
 * log batches and outputs, never machines; time is an argument (monotonic milliseconds).
 *
 *            hart's thread                     main thread of the primary's process
 *   ┌────────────────────────────┐  batches   ┌──────────────────────────────────┐ send    ┌─────────────────┐
 *   │ Machine + Recorder +       │───────────►│ Primary                          │────────►│ logging channel │
 *   │ ClockKeeper                │  outputs   │   OutputGate: hold … release     │◄────────│  (one a backup) │
 *   │                            │───────────►│   LogBuffer, FailureDetector,    │ message └─────────────────┘
 *   │   apply(input) ◄───────────│── inputs ──│   LagControl                     │ release ► switch, disk, console
 *   │   pause / resume ◄─────────│────────────│                                  │ covered ► switch
 *   └────────────────────────────┘            └──────────────────────────────────┘ openGeneration ► arbiter
 *
 * Rules held here: the Output Rule over *every* backup (invariant 5); holding begins before a backup is named to the
 * arbiter and ends only after the arbiter's record drops it, and backup lost, diverged and silent are one path
 * (invariant 8); once it has asked in generation g it releases nothing that waits for the lost backup until it holds
 * g + 1, and halts if it does not get it (invariant 7); a primary without backups is the same class with nobody to wait
 * for, so `run VM` and a survivor take this code too. How a connection becomes a backup is in `Admission`.
 */

import { assert } from '../base/assert.ts'
import { batchEnd, type LogBatch } from '../log/batch.ts'
import { describeDivergence } from '../log/divergence.ts'
import { type LogEnd, logIndex, type MarkedOutput, type ReissuedRequest } from '../log/entry.ts'
import { Admission, type Standing } from './admission.ts'
import { type BackupLink, BackupLinks } from './backup-links.ts'
import type { ArbiterAnswer, ChannelId, HaltReason, LossCause, PrimaryEffect } from './effects.ts'
import { HartBrake } from './hart-brake.ts'
import type { Introduction } from './hello.ts'
import { ListedBackups } from './listed-backups.ts'
import { type ConfirmedKind, type Generation, isFromFollower, type Message, type Progress } from './messages.ts'
import { OutputPath } from './output-path.ts'
import { defaultReplicationPolicy, type ReplicationPolicy } from './policy.ts'
import { PrimaryLines } from './primary-lines.ts'
import type { PrimaryOptions, PrimaryStatus } from './primary-options.ts'
import { fullReach, isBetterPlaced, isSameReach, type Reach } from './reach.ts'
import { moveTo, type PrimaryState, primaryTransitions } from './roles.ts'

const unprotectReason = 'the operator unprotects the machine'

export class Primary {
  readonly #own: Introduction
  readonly #policy: ReplicationPolicy
  readonly #outputs: OutputPath
  readonly #links = new BackupLinks()
  readonly #admission: Admission
  #state: PrimaryState
  readonly #listed: ListedBackups
  #logEnd: LogEnd
  #reach: Reach = fullReach
  readonly #effects: PrimaryEffect[] = []
  readonly #lines = new PrimaryLines(this.#effects)
  readonly #hart: HartBrake

  constructor(options: PrimaryOptions) {
    this.#state = options.state
    this.#logEnd = options.nextIndex ?? logIndex(0n)
    const { identity, replica, address = '', policy = defaultReplicationPolicy } = options
    this.#own = { identity, replica, address, discipline: policy.discipline }
    this.#policy = policy
    const { artefacts, unconfirmed, coveredFrameId } = options
    this.#outputs = new OutputPath({ gate: policy.gate, artefacts, unconfirmed, coveredFrameId }, this.#effects)
    this.#listed = new ListedBackups(this.#links, options.generation, options.state === 'asking', this.#effects)
    // An heir may lack them: the switch keeps them until those that are named have the log.
    if (this.#listed.hasHeirs && coveredFrameId !== undefined) this.#outputs.onLoggedFrame(this.#logEnd, coveredFrameId)
    this.#hart = new HartBrake(policy.lag, this.#effects)
    const { outputs, lines, effects } = { outputs: this.#outputs, lines: this.#lines, effects: this.#effects }
    this.#admission = new Admission(options, { own: this.#own, links: this.#links, outputs, lines, effects })
    assert(this.#state !== 'starting' || policy.backups > 0, 'a starting primary waits for a backup')
  }

  get state(): PrimaryState {
    return this.#state
  }

  get status(): PrimaryStatus {
    return {
      state: this.#state,
      generation: this.#listed.generation,
      logEnd: this.#logEnd,
      reach: this.#reach,
      backups: this.#links.statuses(this.#listed.names),
      transfer: this.#admission.status,
      ...this.#outputs.status,
      cpuPercent: this.#hart.cpuPercent,
      pausedFor: this.#hart.pausedFor,
    }
  }

  /** The latest time (`nowMs`) for the next tick; infinite when nothing waits for time. */
  get dueMs(): number {
    return Math.min(this.#listed.dueMs, this.#admission.dueMs, this.#links.dueMs(this.#policy))
  }

  /** Call once, first. A primary that is alone runs at once; a starting one waits for its backups. */
  start(nowMs: number): PrimaryEffect[] {
    if (this.#state !== 'starting') this.#hart.resume('starting')
    if (this.#state === 'asking') this.#listed.askFirstBy(nowMs + this.#policy.tailTimeoutMs)
    return this.#takeEffects()
  }

  // ---- the log, and the outputs that wait for it (Output Rule) ------------------------------------------------------

  /** The hart wrote log entries. They are sent at once. */
  onBatch(batch: LogBatch, nowMs: number): PrimaryEffect[] {
    if (this.#state === 'halted') return []
    assert(this.#state !== 'starting', 'the hart stands still, and nothing enters it, until the first resumeHart')
    assert(batch.firstIndex === this.#logEnd, `batch starts at ${batch.firstIndex}, ${this.#logEnd} is due`)
    this.#logEnd = batchEnd(batch)
    this.#admission.onBatch(batch)
    if (batch.lastFrameId !== undefined) this.#outputs.onLoggedFrame(this.#logEnd, batch.lastFrameId)
    for (const link of this.#links.present) {
      this.#lines.sendConfirmed(link, this.#outputs.confirmedEnds, nowMs)
      this.#lines.sendEntries(link, batch, this.#links.commonEnd(this.#logEnd), nowMs)
    }
    this.#flush()
    return this.#takeEffects()
  }

  /** The machine made outputs. May come before or after the batch that holds their markers. */
  onOutputs(outputs: readonly MarkedOutput[]): PrimaryEffect[] {
    if (this.#state === 'halted') return []
    const { joining, replayedEnd } = this.#links
    this.#outputs.take(outputs, joining && { replayedEnd })
    this.#flush()
    return this.#takeEffects()
  }

  /** Went live: these disk requests have a start and no answer in the log. The `reissue` effect says when to issue which again. */
  onReissue(requests: readonly ReissuedRequest[]): PrimaryEffect[] {
    if (this.#state === 'halted') return []
    this.#outputs.reissue(requests)
    this.#flush()
    return this.#takeEffects()
  }

  /**
   * The receiver has every output of this kind up to `sequence`. Whoever consumes console output or frames must call it,
   * even if it throws them away: a backup keeps them until then, and too many unconfirmed outputs stop the hart.
   */
  onConfirmed(kind: ConfirmedKind, sequence: bigint): PrimaryEffect[] {
    if (this.#state === 'halted') return []
    this.#outputs.onConfirmed(kind, sequence)
    for (const link of this.#links.present) link.owesConfirmed = true
    this.#controlHart()
    return this.#takeEffects()
  }

  /** Releases what the acknowledgements allow. */
  #flush(): void {
    if (this.#state === 'starting' || this.#state === 'halted') return
    if (this.#listed.hasHeirs) {
      this.#controlHart()
      return
    }
    const afterAcknowledged = this.#links.acknowledgedEnd
    assert(
      afterAcknowledged !== undefined || this.#state === 'alone',
      `a primary that is ${this.#state} waits for somebody`,
    )
    if (this.#policy.discipline.kind === 'epoch') this.#effects.push({ kind: 'acknowledged', end: afterAcknowledged })
    this.#outputs.release(afterAcknowledged, this.#links.replayedEnd)
    this.#controlHart()
  }

  /** Full gate or full log buffer: the hart stops. */
  #controlHart(): void {
    const isAlone = this.#links.size === 0 && !this.#listed.hasHeirs
    this.#hart.pauseByFill('gateFull', isAlone ? 0 : this.#outputs.fill)
    this.#hart.pauseByFill('logFull', this.#links.logFill(this.#policy))
  }

  // ---- the logging channels -----------------------------------------------------------------------------------------

  /** Someone connected to the logging channel. The backup speaks first. */
  onChannelOpen(channel: ChannelId, nowMs: number): PrimaryEffect[] {
    if (this.#state === 'halted') this.#lines.close(channel, 'halted')
    else this.#admission.onOpen(channel, nowMs)
    return this.#takeEffects()
  }

  /** This host connected to a sibling that the last primary had too. It is told to follow, and says hello. */
  onSiblingOpen(channel: ChannelId, nowMs: number): PrimaryEffect[] {
    if (this.#state === 'halted') return this.onChannelOpen(channel, nowMs)
    this.#admission.onOpen(channel, nowMs)
    const caller = { generation: this.#listed.generation, replica: this.#own.replica }
    this.#lines.say(channel, { kind: 'call', ...caller, tailFrom: undefined })
    return this.#takeEffects()
  }

  onMessage(channel: ChannelId, message: Message, nowMs: number): PrimaryEffect[] {
    const link = this.#links.at(channel)
    if (link === undefined) {
      const joined = this.#admission.onMessage(channel, message, this.#standing, nowMs)
      if (joined !== undefined) this.#listIfReady()
    } else if (!link.isLost) this.#onBackupMessage(link, message, nowMs)
    return this.#takeEffects()
  }

  #onBackupMessage(link: BackupLink, message: Message, nowMs: number): void {
    link.detector.onHeard(nowMs)
    if (!isFromFollower(message)) {
      this.#violation(link.channel, `unexpected ${message.kind}`, nowMs)
      return
    }
    switch (message.kind) {
      case 'ack':
        link.reach = message.reach
        this.#onAck(link, message.progress, nowMs)
        return
      case 'diverged':
        this.#effects.push({ kind: 'reportDivergence', backup: link.replica, divergence: message.divergence })
        this.#lose(link, 'diverged', describeDivergence(message.divergence), nowMs)
        return
      case 'goodbye':
        this.#lose(link, 'goodbye', message.reason, nowMs)
        return
      case 'taken':
        // The last pages; only what it acknowledges counts now.
        if (!link.isJoining) this.#violation(link.channel, 'unexpected taken', nowMs)
    }
  }

  #onAck(link: BackupLink, progress: Progress, nowMs: number): void {
    if (!link.onProgress(progress, nowMs)) {
      this.#violation(link.channel, `acknowledged ${progress.receivedEnd} of ${link.buffer.sentEnd}`, nowMs)
      return
    }
    link.advance(this.#logEnd)
    // Its own copies of disks were made until now: they may have changes whose entries are still under way to it.
    if (link.joinsAfter.has('restored')) link.mustReceive(this.#logEnd)
    this.#join(link, 'restored')
    this.#flush()
    this.#hart.onLag(this.#links.longestLagMs, nowMs)
  }

  /** The channel delivered bytes that are no message (`WorldError` of the decoder). */
  onBadMessage(channel: ChannelId, detail: string, nowMs: number): PrimaryEffect[] {
    this.#violation(channel, detail, nowMs)
    return this.#takeEffects()
  }

  onChannelClosed(channel: ChannelId, nowMs: number): PrimaryEffect[] {
    const link = this.#links.at(channel)
    if (link === undefined) this.#admission.onClosed(channel)
    else this.#lose(link, 'channelClosed', 'the channel closed', nowMs)
    return this.#takeEffects()
  }

  #violation(channel: ChannelId, detail: string, nowMs: number): void {
    const link = this.#links.at(channel)
    if (link === undefined) this.#admission.onViolation(channel, detail)
    else this.#lose(link, 'protocol', detail, nowMs)
  }

  /** What this replica's host reaches now. A change is told at once; nothing else follows from it on this side. */
  onReach(reach: Reach, nowMs: number): PrimaryEffect[] {
    if (this.#state === 'halted' || isSameReach(reach, this.#reach)) return []
    this.#reach = reach
    for (const link of this.#links.present) this.#lines.send(link, this.#heartbeat, nowMs)
    return this.#takeEffects()
  }

  /** Call at `dueMs`, or at any time before. */
  onTick(nowMs: number): PrimaryEffect[] {
    if (this.#state === 'halted') return []
    this.#admission.onTick(this.#standing, nowMs)
    for (const link of this.#links.present) {
      const suspicion = link.detector.suspicion(nowMs)
      if (suspicion !== undefined) {
        const detail = suspicion === 'silent' ? 'not heard of' : 'does not acknowledge'
        this.#lose(link, suspicion, `${detail} for ${this.#policy.detector.timeoutMs} ms`, nowMs)
        continue
      }
      this.#lines.sendConfirmed(link, this.#outputs.confirmedEnds, nowMs)
      if (link.detector.isHeartbeatDue(nowMs)) this.#lines.send(link, this.#heartbeat, nowMs)
    }
    this.#dropSlowOne()
    this.#listed.onTick(nowMs)
    this.#hart.onLag(this.#links.longestLagMs, nowMs)
    return this.#takeEffects()
  }

  get #heartbeat(): Extract<Message, { kind: 'heartbeat' }> {
    return { kind: 'heartbeat', logEnd: this.#logEnd, isRunning: this.#hart.isRunning, reach: this.#reach }
  }

  // ---- a backup joins -----------------------------------------------------------------------------------------------

  get #standing(): Standing {
    const { generation } = this.#listed
    return { generation, isStarting: this.#state === 'starting', logEnd: this.#logEnd, heartbeat: this.#heartbeat }
  }

  /** Some of the memory of the machine that is being copied. */
  onPages(copy: ChannelId, bytes: Uint8Array, nowMs: number): PrimaryEffect[] {
    this.#admission.onPages(copy, bytes, nowMs)
    return this.#takeEffects()
  }

  /**
   * The copy is complete: `hart` is the rest of the machine as it is at the end of the log, before any entry that was not
   * given to `onBatch` yet; `host` is what the other host has to know besides.
   */
  onCopied(copy: ChannelId, hart: Uint8Array, host: Uint8Array, nowMs: number): PrimaryEffect[] {
    if (this.#state !== 'halted') this.#admission.onCopied(copy, hart, host, this.#standing, nowMs)
    return this.#takeEffects()
  }

  /** Every disk was flushed, after it was asked for with this copy. */
  onDisksFlushed(copy: ChannelId): PrimaryEffect[] {
    this.#join(this.#links.at(copy), 'disksFlushed')
    return this.#takeEffects()
  }

  /** A disk cannot promise what it has answered: the backup of this copy must not be counted on. */
  onFlushFailed(copy: ChannelId, detail: string, nowMs: number): PrimaryEffect[] {
    const link = this.#links.at(copy)
    if (link !== undefined) this.#lose(link, 'disk', `the disks cannot be flushed: ${detail}`, nowMs)
    return this.#takeEffects()
  }

  /** One of the conditions is met under which the arbiter may list a backup that was given the machine's state. */
  #join(link: BackupLink | undefined, condition: 'restored' | 'disksFlushed'): void {
    link?.joinsAfter.delete(condition)
    this.#listIfReady()
  }

  /** Names newcomers to the arbiter: only those for whom outputs have been held for long enough (invariant 8). */
  #listIfReady(): void {
    this.#listed.askFirst()
    const isComplete = this.#state !== 'starting' || this.#links.listable.length >= this.#policy.backups
    if (this.#listed.hasNewcomers && isComplete && this.#state !== 'asking') this.#changeBackups()
  }

  // ---- a backup is lost, and the arbiter's record follows -----------------------------------------------------------

  /** One path for every loss: stop listening to it, go on holding for it, have the arbiter drop it, then stop holding. */
  #lose(link: BackupLink, cause: LossCause, detail: string, nowMs: number): void {
    const { headStartMs } = this.#policy
    if (link.isLost || this.#state === 'halted') return
    link.isLost = true
    this.#lines.close(link.channel, detail)
    this.#effects.push({ kind: 'backupLost', backup: link.replica, cause, detail })
    // Nobody has named it to the arbiter: there is nothing to be dropped from.
    if (!this.#listed.mayName(link.replica)) {
      this.#links.delete(link)
      this.#flush()
    } else if (this.#state === 'protected') {
      const asksToo = cause !== 'goodbye' && cause !== 'diverged'
      this.#changeBackups(asksToo && isBetterPlaced(link.reach, this.#reach) ? nowMs + headStartMs : undefined)
    }
    // `asking`: the open question is answered first; what is lost by then takes another one.
    this.#listed.askFirst()
    this.#controlHart()
    this.#hart.onLag(this.#links.longestLagMs, nowMs)
  }

  /** A slow one is dropped from the record, then no longer waited for; it is told to end. */
  #dropSlowOne(): void {
    const slow = this.#links.slowOne(this.#policy)
    if (slow === undefined || this.#state !== 'protected') return
    const detail = `${Math.round(slow.progress?.lagMs ?? 0)} ms behind, while another backup keeps up`
    slow.dismissal = `too slow: ${detail}`
    this.#effects.push({ kind: 'backupLost', backup: slow.replica, cause: 'tooSlow', detail })
    this.#changeBackups()
  }

  /**
   * Asks for the next generation, with the backups that are here now.
   * @param atMs not before: a lost backup that is better placed shall be heard first
   */
  #changeBackups(atMs?: number): void {
    this.#moveTo('asking')
    this.#listed.ask(atMs)
  }

  onArbiterAnswer(answer: ArbiterAnswer, nowMs: number): PrimaryEffect[] {
    if (this.#state !== 'asking' || !this.#listed.isAsking) return []
    switch (answer.result) {
      case 'unreachable':
        this.#listed.retryAt(nowMs + this.#policy.arbiterRetryMs)
        break
      case 'refused':
        this.#halt('lostArbitration', answer.detail)
        break
      case 'granted':
        this.#onGranted(answer.generation, nowMs)
    }
    return this.#takeEffects()
  }

  #onGranted(generation: Generation, nowMs: number): void {
    const eligible = this.#listed.onGranted(generation)
    const welcome: Message = { kind: 'welcome', generation, backups: this.#links.siblings(eligible) }
    for (const link of this.#links.all) {
      const isListed = eligible.includes(link.replica)
      // The record has dropped it: only now outputs stop waiting for it (invariant 8).
      if (link.isLost && !isListed) this.#links.delete(link)
      else if (link.dismissal !== undefined && !isListed) this.#dismiss(link, link.dismissal)
      else if (isListed && !link.isLost) this.#lines.send(link, welcome, nowMs)
    }
    if (this.#links.isSettledWith(eligible)) this.#moveTo(eligible.length > 0 ? 'protected' : 'alone')
    else this.#listed.ask()
    this.#hart.resume('starting')
    this.#flush()
  }

  // ---- what the operator wants, and the end -------------------------------------------------------------------------

  /** A starting primary's operator does not want to wait for backups any longer. */
  runAlone(): PrimaryEffect[] {
    assert(this.#state === 'starting', `a primary that is ${this.#state} does not choose to run alone`)
    for (const { channel } of this.#links.all) this.#lines.close(channel, 'the machine runs unprotected')
    this.#links.clear()
    this.#moveTo('alone')
    this.#hart.resume('starting')
    return this.#takeEffects()
  }

  /**
   * The operator wants the machine unprotected. Outputs go on waiting for the backups, and their acknowledgements count,
   * until the arbiter has dropped them; then they are told to end. Those that it does not know yet are told at once.
   */
  unprotect(): PrimaryEffect[] {
    this.#admission.dismissAll(unprotectReason)
    for (const link of this.#links.present)
      if (!this.#listed.mayName(link.replica)) this.#dismiss(link, unprotectReason)
    if (this.#state === 'alone') this.#flush()
    if (this.#state !== 'protected') return this.#takeEffects()
    for (const link of this.#links.present) link.dismissal = unprotectReason
    this.#changeBackups()
    return this.#takeEffects()
  }

  /**
   * The operator wants a backup to be the primary. This one ends as one that dies, at whatever entry it has come to, and says
   * so: nothing is lost by the rules that hold for any failover, and nobody has to find out.
   * @returns nothing when there is no backup that could take over
   */
  handOver(nowMs: number): PrimaryEffect[] {
    const heir = this.#links.listable.find(({ reach }) => !isBetterPlaced(this.#reach, reach))
    if (this.#state !== 'protected' || heir === undefined) return []
    const reason = `the operator moves the machine to replica ${heir.replica}`
    this.#lines.send(heir, { kind: 'takeOver', reason }, nowMs)
    this.#admission.dismissAll(reason)
    this.#halt('handedOver', reason)
    return this.#takeEffects()
  }

  /** Ends in good order (power-off, `down`): the backups end too, and nobody fails over. */
  onShutdown(reason: string, _nowMs: number): PrimaryEffect[] {
    if (this.#state === 'halted') return []
    for (const link of this.#links.present) this.#dismiss(link, reason)
    this.#admission.dismissAll(reason)
    this.#halt('shutdown', reason)
    return this.#takeEffects()
  }

  /** It ends in good order, and is no backup any more. */
  #dismiss(link: BackupLink, reason: string): void {
    this.#lines.dismiss(link.channel, reason)
    this.#links.delete(link)
  }

  #halt(reason: HaltReason, detail: string): void {
    this.#moveTo('halted')
    this.#listed.forgetQuestion()
    for (const { channel, isLost } of this.#links.all) if (!isLost) this.#lines.close(channel, detail)
    this.#links.clear()
    this.#admission.closeAll(detail)
    this.#effects.push({ kind: 'halt', reason, detail })
  }

  #moveTo(state: PrimaryState): void {
    this.#state = moveTo(primaryTransitions, this.#state, state)
  }

  #takeEffects(): PrimaryEffect[] {
    return this.#effects.splice(0)
  }
}
