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
 * for, so `run VM` and a survivor take this code too.
 */

import { assert } from '../base/assert.ts'
import { batchEnd, type LogBatch } from '../log/batch.ts'
import type { BootArtefacts } from '../log/boot-artefacts.ts'
import type { Divergence } from '../log/divergence.ts'
import { describeDivergence } from '../log/divergence.ts'
import { type LogEnd, logIndex, type MarkedOutput } from '../log/entry.ts'
import { identityMismatch, type MachineIdentity } from '../log/identity.ts'
import { obeysOutputRule } from '../log/output-rule.ts'
import { BackupLink, BackupLinks, type BackupStatus } from './backup-links.ts'
import { BootOffer } from './boot-offer.ts'
import type { ArbiterAnswer, ChannelId, HaltReason, LossCause, PauseReason, PrimaryEffect } from './effects.ts'
import { HartBrake } from './hart-brake.ts'
import type { ConfirmedKind, Generation, Message, Progress, ReplicaName } from './messages.ts'
import { OutputGate } from './output-gate.ts'
import { defaultReplicationPolicy, type ReplicationPolicy } from './policy.ts'
import { fullReach, isBetterPlaced, isSameReach, type Reach } from './reach.ts'
import { moveTo, type PrimaryState, primaryTransitions } from './roles.ts'
import { UnconfirmedOutputs } from './unconfirmed-outputs.ts'
import { UncoveredFrames } from './uncovered-frames.ts'

export interface PrimaryOptions {
  readonly identity: MachineIdentity
  readonly replica: ReplicaName
  /** The generation the arbiter granted this replica. */
  readonly generation: Generation
  /** `starting`: the hart waits for `expectedBackups`. `alone`: unprotected (`run VM`), or gone live. */
  readonly state: 'starting' | 'alone'
  /** Names this run of the machine to the switch. */
  readonly runId: bigint
  /** What it gives to a backup that has nothing to boot from. Absent: such a backup is refused. */
  readonly artefacts?: BootArtefacts
  /** How many backups a starting primary waits for. Default 1. */
  readonly expectedBackups?: number
  /** Index of the next log entry. Default 0. */
  readonly nextIndex?: LogEnd
  /** What a backup that went live sends again: its receivers' confirmations are still to come. */
  readonly unconfirmed?: UnconfirmedOutputs
  readonly policy?: ReplicationPolicy
}

/** The question to the arbiter: open, or to be asked (again) at `retryAtMs`. */
interface Question {
  readonly eligible: readonly ReplicaName[]
  retryAtMs: number | undefined
}

export interface PrimaryStatus {
  readonly state: PrimaryState
  readonly generation: Generation
  readonly logEnd: LogEnd
  readonly reach: Reach
  readonly backups: readonly BackupStatus[]
  readonly heldOutputs: number
  readonly heldBytes: number
  readonly unconfirmedOutputs: number
  readonly cpuPercent: number
  readonly pausedFor: readonly PauseReason[]
}

export class Primary {
  readonly #identity: MachineIdentity
  readonly #replica: ReplicaName
  readonly #runId: bigint
  readonly #bootOffer: BootOffer | undefined
  readonly #expectedBackups: number
  readonly #policy: ReplicationPolicy
  readonly #gate: OutputGate
  readonly #unconfirmed: UnconfirmedOutputs
  readonly #links = new BackupLinks()
  readonly #uncovered = new UncoveredFrames()
  /** Connections that have not said hello, and since when. */
  readonly #strangers = new Map<ChannelId, number>()
  #state: PrimaryState
  #generation: Generation
  #logEnd: LogEnd
  #reach: Reach = fullReach
  #question: Question | undefined
  readonly #effects: PrimaryEffect[] = []
  readonly #hart: HartBrake

  constructor(options: PrimaryOptions) {
    this.#identity = options.identity
    this.#replica = options.replica
    this.#generation = options.generation
    this.#state = options.state
    this.#runId = options.runId
    this.#bootOffer = options.artefacts && new BootOffer(options.identity, options.artefacts)
    this.#expectedBackups = options.expectedBackups ?? 1
    this.#logEnd = options.nextIndex ?? logIndex(0n)
    this.#policy = options.policy ?? defaultReplicationPolicy
    this.#gate = new OutputGate(this.#policy.gate)
    this.#hart = new HartBrake(this.#policy.lag, this.#effects)
    this.#unconfirmed = options.unconfirmed ?? new UnconfirmedOutputs()
    assert(this.#expectedBackups > 0, 'a starting primary expects a backup')
  }

  get state(): PrimaryState {
    return this.#state
  }

  get status(): PrimaryStatus {
    return {
      state: this.#state,
      generation: this.#generation,
      logEnd: this.#logEnd,
      reach: this.#reach,
      backups: this.#links.statuses,
      heldOutputs: this.#gate.heldOutputs,
      heldBytes: this.#gate.heldBytes,
      unconfirmedOutputs: this.#unconfirmed.count,
      cpuPercent: this.#hart.cpuPercent,
      pausedFor: this.#hart.pausedFor,
    }
  }

  /** The latest time (`nowMs`) for the next tick; infinite when nothing waits for time. */
  get dueMs(): number {
    let dueMs = this.#question?.retryAtMs ?? Number.POSITIVE_INFINITY
    for (const sinceMs of this.#strangers.values()) dueMs = Math.min(dueMs, sinceMs + this.#policy.helloTimeoutMs)
    return Math.min(dueMs, this.#links.dueMs(this.#policy))
  }

  // ---- facts from the host -------------------------------------------------------------------------------------------

  /** Call once, first. A primary that is alone runs at once; a starting one waits for its backups. */
  start(): PrimaryEffect[] {
    if (this.#state === 'alone') this.#hart.resume('starting')
    return this.#takeEffects()
  }

  /** A starting primary's operator does not want to wait for backups any longer. */
  runAlone(): PrimaryEffect[] {
    assert(this.#state === 'starting', `a primary that is ${this.#state} does not choose to run alone`)
    for (const { channel } of this.#links.all) this.#close(channel, 'the machine runs unprotected')
    this.#links.clear()
    this.#moveTo('alone')
    this.#hart.resume('starting')
    return this.#takeEffects()
  }

  /** Someone connected to the logging channel. The backup speaks first. */
  onChannelOpen(channel: ChannelId, nowMs: number): PrimaryEffect[] {
    if (this.#state === 'halted') this.#close(channel, 'halted')
    else this.#strangers.set(channel, nowMs)
    return this.#takeEffects()
  }

  onChannelClosed(channel: ChannelId, nowMs: number): PrimaryEffect[] {
    this.#strangers.delete(channel)
    const link = this.#links.at(channel)
    if (link !== undefined) this.#lose(link, 'channelClosed', 'the channel closed', nowMs)
    return this.#takeEffects()
  }

  /** The channel delivered bytes that are no message (`WorldError` of the decoder). */
  onBadMessage(channel: ChannelId, detail: string, nowMs: number): PrimaryEffect[] {
    this.#violation(channel, detail, nowMs)
    return this.#takeEffects()
  }

  onMessage(channel: ChannelId, message: Message, nowMs: number): PrimaryEffect[] {
    const link = this.#links.at(channel)
    if (link !== undefined) {
      if (!link.isLost) this.#onBackupMessage(link, message, nowMs)
    } else if (this.#strangers.has(channel)) {
      if (message.kind === 'hello') this.#onHello(channel, message, nowMs)
      else if (message.kind === 'fetch') this.#onFetch(channel, message, nowMs)
      else this.#violation(channel, `${message.kind} before hello`, nowMs)
    }
    return this.#takeEffects()
  }

  /** The hart wrote log entries. They are sent at once. */
  onBatch(batch: LogBatch, nowMs: number): PrimaryEffect[] {
    if (this.#state === 'halted') return []
    assert(this.#state !== 'starting', 'the hart stands still, and nothing enters it, until the first resumeHart')
    assert(batch.firstIndex === this.#logEnd, `batch starts at ${batch.firstIndex}, ${this.#logEnd} is due`)
    this.#logEnd = batchEnd(batch)
    if (batch.lastFrameId !== undefined) this.#uncovered.onLogged(this.#logEnd, batch.lastFrameId)
    for (const link of this.#links.present) {
      this.#sendConfirmed(link, nowMs)
      this.#send(link, { kind: 'entries', batch }, nowMs)
      link.buffer.onSent(this.#logEnd, batch.bytes.length)
      link.detector.setOwes(true, nowMs)
    }
    this.#flush()
    return this.#takeEffects()
  }

  /** The machine made outputs. May come before or after the batch that holds their markers. */
  onOutputs(outputs: readonly MarkedOutput[]): PrimaryEffect[] {
    if (this.#state === 'halted') return []
    const free = outputs.filter(({ output }) => !obeysOutputRule(output))
    if (free.length > 0) this.#effects.push({ kind: 'release', outputs: free, afterAcknowledged: undefined })
    for (const marked of outputs) if (obeysOutputRule(marked.output)) this.#gate.hold(marked)
    this.#flush()
    return this.#takeEffects()
  }

  /**
   * The receiver has every output of this kind up to `sequence`. Whoever consumes console output or frames must call it,
   * even if it throws them away: a backup keeps them until then, and too many unconfirmed outputs stop the hart.
   */
  onConfirmed(kind: ConfirmedKind, sequence: bigint): PrimaryEffect[] {
    if (this.#state === 'halted') return []
    this.#unconfirmed.confirmReleased(kind, sequence)
    for (const link of this.#links.present) link.owesConfirmed = true
    this.#controlHart()
    return this.#takeEffects()
  }

  /** What this replica's host reaches now. A change is told at once; nothing else follows from it on this side. */
  onReach(reach: Reach, nowMs: number): PrimaryEffect[] {
    if (this.#state === 'halted' || isSameReach(reach, this.#reach)) return []
    this.#reach = reach
    for (const link of this.#links.present) this.#sendHeartbeat(link, nowMs)
    return this.#takeEffects()
  }

  onArbiterAnswer(answer: ArbiterAnswer, nowMs: number): PrimaryEffect[] {
    const question = this.#question
    if (this.#state !== 'asking' || question === undefined) return []
    switch (answer.result) {
      case 'unreachable':
        question.retryAtMs = nowMs + this.#policy.arbiterRetryMs
        break
      case 'refused':
        this.#halt('lostArbitration', answer.detail)
        break
      case 'granted':
        this.#onGranted(question, answer.generation, nowMs)
    }
    return this.#takeEffects()
  }

  /** Call at `dueMs`, or at any time before. */
  onTick(nowMs: number): PrimaryEffect[] {
    if (this.#state === 'halted') return []
    for (const [channel, sinceMs] of this.#strangers) {
      if (nowMs - sinceMs >= this.#policy.helloTimeoutMs) this.#violation(channel, 'no hello', nowMs)
    }
    for (const link of this.#links.present) {
      const suspicion = link.detector.suspicion(nowMs)
      if (suspicion !== undefined) {
        const detail = suspicion === 'silent' ? 'not heard of' : 'does not acknowledge'
        this.#lose(link, suspicion, `${detail} for ${this.#policy.detector.timeoutMs} ms`, nowMs)
        continue
      }
      this.#sendConfirmed(link, nowMs)
      if (link.detector.isHeartbeatDue(nowMs)) this.#sendHeartbeat(link, nowMs)
    }
    const question = this.#question
    if (question?.retryAtMs !== undefined && nowMs >= question.retryAtMs) this.#ask(question.eligible)
    this.#hart.onLag(this.#links.longestLagMs, nowMs)
    return this.#takeEffects()
  }

  /**
   * The operator wants the machine unprotected. Outputs go on waiting for the backups, and their acknowledgements count,
   * until the arbiter has dropped them; then they are told to end. Nothing happens unless the machine is protected.
   */
  unprotect(): PrimaryEffect[] {
    if (this.#state !== 'protected') return []
    for (const link of this.#links.present) link.isDismissed = true
    this.#moveTo('asking')
    this.#ask([])
    return this.#takeEffects()
  }

  /** Ends in good order (power-off, `down`): the backups end too, and nobody fails over. */
  onShutdown(reason: string, nowMs: number): PrimaryEffect[] {
    if (this.#state === 'halted') return []
    for (const link of this.#links.present) this.#sayGoodbye(link, reason, nowMs)
    this.#halt('shutdown', reason)
    return this.#takeEffects()
  }

  // ---- backups come and go -------------------------------------------------------------------------------------------

  #onHello(channel: ChannelId, hello: Extract<Message, { kind: 'hello' }>, nowMs: number): void {
    this.#strangers.delete(channel)
    const refusal = this.#refusalOf(hello)
    if (refusal !== undefined) {
      this.#refuse(channel, refusal)
      return
    }
    const link = new BackupLink({ channel, replica: hello.replica, logEnd: this.#logEnd }, this.#policy, nowMs)
    // From here on outputs are held for it: BEFORE the arbiter is asked to list it (invariant 8).
    this.#links.add(link)
    const accept: Message = {
      kind: 'hello',
      identity: this.#identity,
      replica: this.#replica,
      role: 'primary',
      generation: this.#generation + 1,
      nextIndex: this.#logEnd,
      runId: this.#runId,
    }
    this.#send(link, accept, nowMs)
    if (!isSameReach(this.#reach, fullReach)) this.#sendHeartbeat(link, nowMs)
    const isComplete = this.#state === 'alone' || this.#links.size >= this.#expectedBackups
    if (this.#state !== 'asking' && isComplete) this.#changeBackups()
  }

  /** A backup to be asks for what it is to boot from. It is heard, and so its time to say hello begins anew. */
  #onFetch(channel: ChannelId, fetch: Extract<Message, { kind: 'fetch' }>, nowMs: number): void {
    const answer = this.#bootOffer?.answer(fetch)
    if (this.#state !== 'starting') this.#refuse(channel, `it needs the machine's present state: it runs already`)
    else if (answer === undefined) this.#refuse(channel, 'this primary has no machine to give: name a VM file')
    else if (answer.kind === 'refuse') this.#refuse(channel, answer.reason)
    else {
      this.#strangers.set(channel, nowMs)
      this.#effects.push({ kind: 'send', channel, message: answer })
    }
  }

  #refuse(channel: ChannelId, reason: string): void {
    this.#strangers.delete(channel)
    this.#effects.push({ kind: 'send', channel, message: { kind: 'refuse', reason } })
    this.#close(channel, reason)
  }

  #refusalOf(hello: Extract<Message, { kind: 'hello' }>): string | undefined {
    const mismatch = identityMismatch(this.#identity, hello.identity)
    if (mismatch !== undefined) return mismatch
    if (hello.role !== 'backup') return 'another primary'
    const names = [this.#replica, ...this.#links.all.map(({ replica }) => replica)]
    if (names.includes(hello.replica)) return `replica "${hello.replica}" is here already`
    if (this.#state === 'protected') return 'the machine is protected already'
    if (hello.nextIndex !== this.#logEnd) {
      return `the log is at entry ${this.#logEnd}, the backup at ${hello.nextIndex}: it needs the machine's present state`
    }
    return undefined
  }

  #onBackupMessage(link: BackupLink, message: Message, nowMs: number): void {
    link.detector.onHeard(nowMs)
    switch (message.kind) {
      case 'ack':
        link.reach = message.reach
        this.#onAck(link, message.progress, nowMs)
        return
      case 'diverged':
        this.#onDiverged(link, message.divergence, nowMs)
        return
      case 'goodbye':
        this.#lose(link, 'goodbye', message.reason, nowMs)
        return
      case 'fetch':
      case 'artefacts':
      case 'hello':
      case 'refuse':
      case 'welcome':
      case 'entries':
      case 'heartbeat':
      case 'confirmed':
        this.#violation(link.channel, `unexpected ${message.kind}`, nowMs)
    }
  }

  #onAck(link: BackupLink, progress: Progress, nowMs: number): void {
    const before = link.buffer.receivedEnd
    if (!link.buffer.onProgress(progress.receivedEnd, progress.replayedEnd)) {
      this.#violation(link.channel, `acknowledged ${progress.receivedEnd} of ${link.buffer.sentEnd}`, nowMs)
      return
    }
    link.progress = progress
    if (link.buffer.receivedEnd > before) link.detector.onLogTraffic(nowMs)
    link.detector.setOwes(link.buffer.receivedEnd < link.buffer.sentEnd, nowMs)
    this.#flush()
    this.#hart.onLag(this.#links.longestLagMs, nowMs)
  }

  #onDiverged(link: BackupLink, divergence: Divergence, nowMs: number): void {
    this.#effects.push({ kind: 'reportDivergence', backup: link.replica, divergence })
    this.#lose(link, 'diverged', describeDivergence(divergence), nowMs)
  }

  #violation(channel: ChannelId, detail: string, nowMs: number): void {
    this.#strangers.delete(channel)
    const link = this.#links.at(channel)
    if (link === undefined) this.#close(channel, detail)
    else this.#lose(link, 'protocol', detail, nowMs)
  }

  /** One path for every loss: stop listening to it, go on holding for it, have the arbiter drop it, then stop holding. */
  #lose(link: BackupLink, cause: LossCause, detail: string, nowMs: number): void {
    const { headStartMs } = this.#policy
    if (link.isLost || this.#state === 'halted') return
    link.isLost = true
    this.#close(link.channel, detail)
    this.#effects.push({ kind: 'backupLost', backup: link.replica, cause, detail })
    // Nobody named it to the arbiter yet: there is nothing to be dropped from.
    if (this.#state === 'starting') this.#links.delete(link)
    else if (this.#state === 'protected') {
      const asksToo = cause !== 'goodbye' && cause !== 'diverged'
      this.#changeBackups(asksToo && isBetterPlaced(link.reach, this.#reach) ? nowMs + headStartMs : undefined)
    }
    // `asking`: the open question is answered first; what is lost by then takes another one. `alone` has no backups.
    this.#controlHart()
    this.#hart.onLag(this.#links.longestLagMs, nowMs)
  }

  /**
   * Asks for the next generation, with the backups that are here now.
   * @param atMs not before: a lost backup that is better placed shall be heard first
   */
  #changeBackups(atMs?: number): void {
    this.#moveTo('asking')
    const eligible = this.#links.present.map(({ replica }) => replica)
    if (atMs === undefined) this.#ask(eligible)
    else this.#question = { eligible, retryAtMs: atMs }
  }

  #ask(eligible: readonly ReplicaName[]): void {
    this.#question = { eligible, retryAtMs: undefined }
    this.#effects.push({ kind: 'openGeneration', generation: this.#generation, eligible })
  }

  #onGranted({ eligible }: Question, generation: Generation, nowMs: number): void {
    assert(generation === this.#generation + 1, `generation ${generation} granted after ${this.#generation}`)
    this.#question = undefined
    this.#generation = generation
    this.#effects.push({ kind: 'enterGeneration', generation, eligible })
    for (const link of this.#links.all) {
      const isListed = eligible.includes(link.replica)
      // The record has dropped it: only now outputs stop waiting for it (invariant 8).
      if (link.isLost && !isListed) this.#links.delete(link)
      else if (link.isDismissed && !isListed) this.#sayGoodbye(link, 'the operator unprotects the machine', nowMs)
      else if (isListed && !link.isLost) this.#send(link, { kind: 'welcome', generation }, nowMs)
    }
    const present = this.#links.present.map(({ replica }) => replica)
    const isSettled = present.length === this.#links.size && present.every((replica) => eligible.includes(replica))
    if (isSettled) this.#moveTo(present.length > 0 ? 'protected' : 'alone')
    else this.#ask(present)
    this.#hart.resume('starting')
    this.#flush()
  }

  // ---- outputs, covered frames, the hart -----------------------------------------------------------------------------

  /** Releases what the acknowledgements allow. */
  #flush(): void {
    if (this.#state === 'starting' || this.#state === 'halted') return
    const afterAcknowledged = this.#links.acknowledgedEnd
    assert(
      afterAcknowledged !== undefined || this.#state === 'alone',
      `a primary that is ${this.#state} waits for somebody`,
    )
    if (this.#policy.tellsAcknowledged) this.#effects.push({ kind: 'acknowledged', end: afterAcknowledged })
    const outputs = this.#gate.release(afterAcknowledged)
    for (const marked of outputs) this.#unconfirmed.add(marked)
    if (outputs.length > 0) this.#effects.push({ kind: 'release', outputs, afterAcknowledged })
    const frameId = this.#uncovered.takeCovered(afterAcknowledged)
    if (frameId !== undefined) this.#effects.push({ kind: 'covered', frameId })
    this.#controlHart()
  }

  /** Full gate or full log buffer: the hart stops. */
  #controlHart(): void {
    const isAlone = this.#links.size === 0
    const gateFill = isAlone ? 0 : this.#gate.fill(this.#unconfirmed.bytes, this.#unconfirmed.count)
    this.#hart.pauseByFill('gateFull', gateFill)
    this.#hart.pauseByFill('logFull', this.#links.logFill(this.#policy))
  }

  // ---- small change --------------------------------------------------------------------------------------------------

  #send(link: BackupLink, message: Message, nowMs: number): void {
    this.#effects.push({ kind: 'send', channel: link.channel, message })
    link.detector.onSent(nowMs)
  }

  #sendHeartbeat(link: BackupLink, nowMs: number): void {
    const { isRunning } = this.#hart
    this.#send(link, { kind: 'heartbeat', logEnd: this.#logEnd, isRunning, reach: this.#reach }, nowMs)
  }

  #sendConfirmed(link: BackupLink, nowMs: number): void {
    if (!link.owesConfirmed) return
    link.owesConfirmed = false
    link.confirmedAtMs = nowMs
    this.#send(link, { kind: 'confirmed', ends: this.#unconfirmed.confirmedEnds }, nowMs)
  }

  /** The backup ends, in good order. */
  #sayGoodbye(link: BackupLink, reason: string, nowMs: number): void {
    this.#send(link, { kind: 'goodbye', reason }, nowMs)
    this.#close(link.channel, reason)
    this.#links.delete(link)
  }

  #close(channel: ChannelId, reason: string): void {
    this.#effects.push({ kind: 'closeChannel', channel, reason })
  }

  #halt(reason: HaltReason, detail: string): void {
    this.#moveTo('halted')
    this.#question = undefined
    for (const { channel, isLost } of this.#links.all) if (!isLost) this.#close(channel, detail)
    this.#links.clear()
    this.#effects.push({ kind: 'halt', reason, detail })
  }

  #moveTo(state: PrimaryState): void {
    this.#state = moveTo(primaryTransitions, this.#state, state)
  }

  #takeEffects(): PrimaryEffect[] {
    return this.#effects.splice(0)
  }
}
