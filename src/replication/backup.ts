/**
 * The backup's side of VMware FT's *exact* discipline, sans I/O: facts come in through `onX`, effects go out. It knows log
 * batches and outputs, never machines; time is an argument (monotonic milliseconds).
 *
 *   ┌─────────────────┐ message  ┌───────────────────────────────┐ replay    ┌──────────────────────┐
 *   │ logging channel │─────────►│ Backup                        │──────────►│ hart's thread:       │
 *   │                 │◄─────────│   acknowledge on receipt      │ outputs   │ Machine + Replayer   │
 *   └─────────────────┘ ack      │   UnconfirmedOutputs: kept    │◄──────────│                      │
 *              arbiter ◄─────────│   FailureDetector, Failover   │ goLive    │ Replayer.goLive()    │
 *                     testAndSet └───────────────────────────────┘──────────►└──────────────────────┘
 *
 * Rules held here: it acknowledges when entries are in its buffer, not when they are executed, and only while it replays:
 * before it asks the arbiter it stops, for good (invariant 7); each output it regenerates is kept until its receiver confirmed
 * it (invariant 6). What it does from the suspicion to the go-live, as winner or loser, is in `Failover`.
 */

import { assert, WorldError } from '../base/assert.ts'
import type { LogBatch } from '../log/batch.ts'
import type { BootArtefacts } from '../log/boot-artefacts.ts'
import { type Divergence, describeDivergence } from '../log/divergence.ts'
import { logIndex } from '../log/entry.ts'
import { BackupLine } from './backup-line.ts'
import type { BackupOptions, BackupStatus, ReplayReport } from './backup-options.ts'
import { BackupRole } from './backup-role.ts'
import type { ArbiterAnswer, BackupEffect, ChannelId } from './effects.ts'
import { Eligibility } from './eligibility.ts'
import { Failover } from './failover.ts'
import { type Hello, type Introduction, judgeAnswer } from './hello.ts'
import { isToFollower, type Message, type ReplicaName } from './messages.ts'
import { PeerLines } from './peer-lines.ts'
import { defaultReplicationPolicy, type ReplicationPolicy } from './policy.ts'
import { Primary } from './primary.ts'
import type { Reach } from './reach.ts'
import { ReadStall } from './read-stall.ts'
import { ReceivedLog } from './received-log.ts'
import type { BackupState } from './roles.ts'
import { StateReceipt } from './state-receipt.ts'
import type { TransferredState } from './transferred-state.ts'
import { UnconfirmedOutputs } from './unconfirmed-outputs.ts'

/** Said by a backup that was never eligible: the machine is not its own to save. */
const unfinished = 'the primary was lost before this backup had the whole machine'

export class Backup {
  readonly #own: Introduction
  readonly #policy: ReplicationPolicy
  readonly #artefacts: BootArtefacts | undefined
  readonly #effects: BackupEffect[] = []
  readonly #line: BackupLine
  readonly #peers = new PeerLines(this.#effects)
  readonly #eligibility: Eligibility
  readonly #unconfirmed = new UnconfirmedOutputs()
  readonly #readStall: ReadStall
  /** While it gets a machine that runs already. */
  readonly #receipt = new StateReceipt()
  /** What was received, and acknowledged in the same breath. */
  readonly #log: ReceivedLog
  readonly #role: BackupRole
  readonly #failover: Failover

  constructor(options: BackupOptions, nowMs: number) {
    const { identity, replica, address = '', policy = defaultReplicationPolicy } = options
    this.#own = { identity, replica, address, discipline: policy.discipline }
    this.#policy = policy
    this.#artefacts = options.artefacts
    this.#line = new BackupLine(policy, this.#effects, nowMs)
    this.#eligibility = new Eligibility(replica)
    this.#readStall = new ReadStall(policy.readStallMs)
    this.#log = new ReceivedLog(options.nextIndex ?? logIndex(0n), options.coveredFrameId, this.#effects)
    this.#role = new BackupRole(this.#line, this.#effects)
    this.#failover = new Failover({
      own: this.#own,
      policy,
      role: this.#role,
      line: this.#line,
      peers: this.#peers,
      eligibility: this.#eligibility,
      log: this.#log,
      unconfirmed: this.#unconfirmed,
      effects: this.#effects,
    })
  }

  get state(): BackupState {
    return this.#role.state
  }

  status(nowMs: number): BackupStatus {
    return {
      state: this.#role.state,
      generation: this.#eligibility.known,
      hold: this.#log.hold,
      isListed: this.#role.state === 'replaying' && this.#eligibility.isListed,
      progress: this.#log.progress(nowMs),
      reach: this.#line.reach,
      unconfirmedOutputs: this.#unconfirmed.count,
    }
  }

  /** The latest time (`nowMs`) for the next tick; infinite when nothing waits for time. */
  get dueMs(): number {
    if (this.#role.state === 'restoring') return this.#line.dueMs
    if (this.#role.state === 'replaying') return Math.min(this.#line.dueMs, this.#readStall.dueMs)
    if (this.#role.state === 'goingLive') return Math.min(this.#failover.deadlineMs, this.#readStall.dueMs)
    return this.#role.waitsUntilMs
  }

  // ---- facts from the host, by state --------------------------------------------------------------------------------

  onMessage(message: Message, nowMs: number): BackupEffect[] {
    if (this.#role.state === 'joining' || this.#role.state === 'rejoining') this.#onFirstMessage(message, nowMs)
    else if (this.#role.state === 'restoring') this.#onRestoringMessage(message, nowMs)
    else if (this.#role.state === 'replaying') this.#onPrimaryMessage(message, nowMs)
    // In every later state the primary has nothing to say any more: what it sends now was never acknowledged.
    return this.#takeEffects()
  }

  onChannelClosed(nowMs: number): BackupEffect[] {
    if (this.#role.state === 'joining')
      this.#role.halt('neverPaired', 'the channel closed before the primary accepted this backup')
    else if (this.#role.state === 'restoring') this.#role.halt('neverPaired', `${unfinished}: the channel closed`)
    else if (this.#role.state === 'replaying') this.#failover.begin('the channel closed', nowMs)
    // The winner may call again, at once; or it is lost, too.
    else if (this.#role.state === 'rejoining')
      this.#role.waitsUntilMs = Math.min(this.#role.waitsUntilMs, nowMs + this.#policy.headStartMs)
    return this.#takeEffects()
  }

  /** The channel delivered bytes that are no message (`WorldError` of the decoder). The stream is lost with them. */
  onBadMessage(detail: string, nowMs: number): BackupEffect[] {
    this.#violation(detail, nowMs)
    return this.#takeEffects()
  }

  /** Call at `dueMs`, or at any time before. */
  onTick(nowMs: number): BackupEffect[] {
    this.#readStall.onTick(nowMs)
    switch (this.#role.state) {
      case 'joining':
        // It may have died without a word: whoever starts backups is to start another one, where the primary is now.
        if (nowMs >= this.#role.waitsUntilMs)
          this.#role.halt('neverPaired', `no answer to its hello for ${this.#policy.helloTimeoutMs} ms`)
        break
      case 'restoring':
        this.#onRestoringTick(nowMs)
        break
      case 'replaying':
        this.#onReplayingTick(nowMs)
        break
      case 'asking':
        if (nowMs >= this.#role.waitsUntilMs) this.#failover.ask()
        break
      case 'rejoining':
        if (nowMs >= this.#role.waitsUntilMs) this.#failover.askAsHeir(nowMs)
        break
      case 'goingLive':
        if (!this.#hasDiverged(nowMs)) this.#failover.goLiveIfReady(nowMs)
    }
    return this.#takeEffects()
  }

  #violation(detail: string, nowMs: number): void {
    const isUnpaired =
      this.#role.state === 'joining' || this.#role.state === 'restoring' || this.#role.state === 'rejoining'
    if (isUnpaired) this.#role.halt('neverPaired', detail)
    else if (this.#role.state === 'replaying') this.#failover.begin(detail, nowMs)
  }

  // ---- pairing ------------------------------------------------------------------------------------------------------

  /** Connected to the primary: introduces itself. */
  onChannelOpen(nowMs: number): BackupEffect[] {
    assert(this.#role.state === 'joining', 'a backup connects once')
    this.#role.waitsUntilMs = nowMs + this.#policy.helloTimeoutMs
    this.#line.sayHello(this.#own, this.#log, nowMs)
    return this.#takeEffects()
  }

  #onFirstMessage(message: Message, nowMs: number): void {
    const { known: generation } = this.#eligibility
    const log = generation === undefined ? undefined : { generation, runId: this.#log.runId, nextIndex: this.#log.end }
    const answer = judgeAnswer(message, this.#own, log)
    if (answer.kind === 'refused') this.#role.halt('refused', answer.detail)
    else if (answer.kind === 'violation') this.#violation(answer.detail, nowMs)
    else this.#follow(answer, nowMs)
  }

  #follow(primary: Hello, nowMs: number): void {
    this.#eligibility.onAccepted(primary, this.#role.state === 'rejoining')
    this.#log.onAccepted(primary)
    this.#line.restart(nowMs)
    this.#role.moveTo(primary.nextIndex === this.#log.end ? 'replaying' : 'restoring')
  }

  // ---- a machine that runs already ----------------------------------------------------------------------------------

  #onRestoringMessage(message: Message, nowMs: number): void {
    this.#line.onHeard(nowMs)
    if (message.kind === 'pages') this.#effects.push({ kind: 'loadPages', bytes: message.bytes })
    else if (message.kind === 'state') this.#onState(message, nowMs)
    else if (message.kind === 'heartbeat') this.#line.onPrimaryReach(message.reach)
    else if (message.kind === 'goodbye') this.#role.halt('goodbye', message.reason)
    else if (message.kind === 'confirmed' && this.#receipt.state) this.#unconfirmed.confirm(message.ends)
    // Entries follow the state at once. They are acknowledged as soon as there is a machine for them.
    else if (message.kind === 'entries' && this.#receipt.state) this.#onEntries(message.batch, nowMs)
    else this.#violation(`unexpected ${message.kind}`, nowMs)
  }

  #onState(piece: Extract<Message, { kind: 'state' }>, nowMs: number): void {
    let state: TransferredState | undefined
    try {
      state = this.#receipt.onPiece(piece)
    } catch (error) {
      if (!(error instanceof WorldError)) throw error
      this.#violation(error.message, nowMs)
    }
    if (state === undefined) return
    this.#log.restart(state.nextIndex, state.coveredFrameId)
    this.#eligibility.onState(state.generation)
    for (const marked of state.unconfirmed) this.#unconfirmed.add(marked)
    this.#effects.push({ kind: 'loadState', state })
  }

  /** So many bytes of pages more are in the machine. */
  onPagesLoaded(bytes: number, nowMs: number): BackupEffect[] {
    this.#receipt.onLoaded(bytes)
    if (this.#role.state === 'restoring') this.#sendTaken(nowMs)
    return this.#takeEffects()
  }

  /**
   * The hart has a machine of the primary's, and not the empty one any more that it began with: what it replays from here on
   * counts, also before `onRestored`.
   */
  onStateLoaded(): void {
    this.#receipt.onStateLoaded()
  }

  /** What the hart replays, if anything, is the primary's machine. */
  get hasMachine(): boolean {
    return this.#role.state === 'restoring' ? this.#receipt.isInMachine : this.#role.state !== 'joining'
  }

  /**
   * The machine is whole, has the digest of the primary's, and disks as good as the primary's: now this is a backup, and what
   * it has received counts.
   */
  onRestored(nowMs: number): BackupEffect[] {
    if (this.#role.state !== 'restoring') return []
    this.#readStall.restart(nowMs)
    this.#line.listen(nowMs)
    this.#role.moveTo('replaying')
    this.#acknowledge(nowMs)
    return this.#takeEffects()
  }

  /** What came does not make the primary's machine. */
  onRestoreFailed(detail: string, nowMs: number): BackupEffect[] {
    if (this.#role.state !== 'restoring') return []
    this.#line.send({ kind: 'goodbye', reason: detail }, nowMs)
    this.#role.halt('neverPaired', detail)
    return this.#takeEffects()
  }

  #sendTaken(nowMs: number): void {
    this.#line.send({ kind: 'taken', totalBytes: this.#receipt.loadedBytes }, nowMs)
  }

  #onRestoringTick(nowMs: number): void {
    const suspicion = this.#line.suspicion(nowMs)
    if (suspicion !== undefined) this.#role.halt('neverPaired', `${unfinished}: it was ${suspicion}`)
    else if (this.#line.isHeartbeatDue(nowMs)) this.#sendTaken(nowMs)
  }

  // ---- following the primary ----------------------------------------------------------------------------------------

  #onPrimaryMessage(message: Message, nowMs: number): void {
    this.#line.onHeard(nowMs)
    if (!isToFollower(message)) {
      this.#violation(`unexpected ${message.kind}`, nowMs)
      return
    }
    switch (message.kind) {
      case 'entries':
        this.#onEntries(message.batch, nowMs)
        this.#log.tail.forgetBelow(message.commonEnd)
        return
      case 'heartbeat':
        this.#line.onAnnounced(message.logEnd > this.#log.end, message.isRunning, nowMs)
        this.#line.onPrimaryReach(message.reach)
        this.#line.compareReach(this.#eligibility.isListed, nowMs)
        return
      case 'confirmed':
        this.#unconfirmed.confirm(message.ends)
        return
      case 'welcome':
        if (this.#eligibility.onWelcome(message)) this.#line.compareReach(this.#eligibility.isListed, nowMs)
        else this.#violation(`welcome to generation ${message.generation} in ${this.#eligibility.generation}`, nowMs)
        return
      case 'takeOver':
        this.#failover.begin(message.reason, nowMs, true)
        return
      case 'goodbye':
        this.#role.halt('goodbye', message.reason)
    }
  }

  #onEntries(batch: LogBatch, nowMs: number): void {
    if (batch.firstIndex !== this.#log.end) {
      this.#violation(`log entry ${batch.firstIndex} came where ${this.#log.end} is due`, nowMs)
      return
    }
    this.#log.receive(batch, nowMs)
    this.#line.onEntries(nowMs)
    if (this.#role.state === 'replaying') this.#acknowledge(nowMs)
  }

  #onReplayingTick(nowMs: number): void {
    const suspicion = this.#line.suspicion(nowMs)
    if (suspicion !== undefined) this.#failover.begin(suspicion, nowMs)
    else if (this.#hasDiverged(nowMs)) return
    else if (this.#readStall.hasEnded(nowMs)) this.#leaveForDisk(nowMs)
    else if (this.#line.isHeartbeatDue(nowMs)) this.#acknowledge(nowMs)
  }

  /** A promise: whatever happens, these entries are replayed before this replica goes live. */
  #acknowledge(nowMs: number): void {
    assert(this.#role.state === 'replaying', `a backup that is ${this.#role.state} acknowledges nothing`)
    this.#line.send({ kind: 'ack', progress: this.#log.progress(nowMs), reach: this.#line.reach }, nowMs)
  }

  /** The replayer came further. */
  onReplayed(report: ReplayReport, nowMs: number): BackupEffect[] {
    const { replayedEnd, count, outputs, hasRead = false, need } = report
    if (this.#role.state === 'halted' || !this.hasMachine) return []
    assert(this.#role.state !== 'live', 'a live machine replays nothing')
    this.#log.onReplayed(replayedEnd, count)
    for (const marked of outputs) this.#unconfirmed.add(marked)
    this.#readStall.onNeed(need, nowMs)
    if (hasRead && this.#role.state === 'replaying') this.#acknowledge(nowMs)
    this.#failover.goLiveIfReady(nowMs)
    return this.#takeEffects()
  }

  /** The replayer found a divergence: reported, never papered over (invariant 11). This replica is done. */
  onDivergence(divergence: Divergence, nowMs: number): BackupEffect[] {
    if (this.#role.state !== 'halted') this.#diverge(divergence, nowMs)
    return this.#takeEffects()
  }

  #diverge(divergence: Divergence, nowMs: number): void {
    this.#effects.push({ kind: 'reportDivergence', divergence })
    if (this.#role.state === 'replaying') this.#line.send({ kind: 'diverged', divergence }, nowMs)
    this.#role.halt('diverged', describeDivergence(divergence))
  }

  /** Its disk gave something else, and for too long. */
  #hasDiverged(nowMs: number): boolean {
    const divergence = this.#readStall.divergence(nowMs)
    if (divergence) this.#diverge(divergence, nowMs)
    return divergence !== undefined
  }

  /** Its primary lives and has a disk; this one only holds the machine back. */
  #leaveForDisk(nowMs: number): void {
    const reason = `the disk has not given this backup for ${this.#policy.readStallMs} ms what it gave its primary`
    this.#line.send({ kind: 'goodbye', reason }, nowMs)
    this.#role.halt('diskStalled', reason)
  }

  /** What this replica's host reaches now. */
  onReach(reach: Reach, nowMs: number): BackupEffect[] {
    if (this.#line.onReach(reach) && this.#role.state === 'replaying') {
      this.#line.compareReach(this.#eligibility.isListed, nowMs)
      this.#acknowledge(nowMs)
    }
    return this.#takeEffects()
  }

  // ---- failover -----------------------------------------------------------------------------------------------------

  onArbiterAnswer(answer: ArbiterAnswer, nowMs: number): BackupEffect[] {
    this.#failover.onArbiterAnswer(answer, nowMs)
    return this.#takeEffects()
  }

  /** AFTER the `goLive` effect: the same replica as the machine's primary: alone, or with heirs that it has to replace first. */
  toPrimary(): Primary {
    assert(this.#role.state === 'live', `a backup that is ${this.#role.state} is no primary`)
    return new Primary({
      ...this.#own,
      generation: this.#eligibility.generation,
      state: this.#eligibility.hasHeirs ? 'asking' : 'alone',
      runId: this.#log.runId,
      ...(this.#artefacts ? { artefacts: this.#artefacts } : {}),
      nextIndex: this.#log.end,
      unconfirmed: this.#unconfirmed,
      ...(this.#log.coveredFrameId === undefined ? {} : { coveredFrameId: this.#log.coveredFrameId }),
      inheritance: {
        hold: this.#log.hold,
        logEnd: this.#log.end,
        tail: this.#log.tail,
        siblings: this.#eligibility.siblings.map(({ replica }) => replica),
      },
      policy: this.#policy,
    })
  }

  // ---- siblings -----------------------------------------------------------------------------------------------------

  /** This host has connected to a sibling, because of `callSiblings`. */
  onSiblingOpen(channel: ChannelId, replica: ReplicaName): BackupEffect[] {
    this.#failover.onSiblingOpen(channel, replica)
    return this.#takeEffects()
  }

  /** It will be tried again, but not waited for. */
  onSiblingUnreachable(replica: ReplicaName, nowMs: number): BackupEffect[] {
    this.#failover.onSiblingUnreachable(replica, nowMs)
    return this.#takeEffects()
  }

  /** A message on a connection that is not (yet) the logging channel: a sibling's, or a stranger's. */
  onPeerMessage(channel: ChannelId, message: Message, nowMs: number): BackupEffect[] {
    if (this.#role.state === 'halted') this.#peers.close(channel, 'halted')
    else if (message.kind === 'call') this.#failover.onCall(channel, message, nowMs)
    else if (!this.#failover.onSiblingMessage(channel, message, nowMs)) this.#peers.turnAway(channel, message)
    return this.#takeEffects()
  }

  /** Bytes that are no message. */
  onBadPeerMessage(channel: ChannelId, detail: string, nowMs: number): BackupEffect[] {
    this.#peers.close(channel, detail)
    return [...this.#takeEffects(), ...this.onPeerClosed(channel, nowMs)]
  }

  onPeerClosed(channel: ChannelId, nowMs: number): BackupEffect[] {
    this.#failover.onSiblingClosed(channel, nowMs)
    return this.#takeEffects()
  }

  // ---- the end ------------------------------------------------------------------------------------------------------

  /** Its own host wants it to end. The primary goes on without it. */
  onShutdown(reason: string, nowMs: number): BackupEffect[] {
    if (this.#role.state === 'halted') return []
    const hasPrimary =
      this.#role.state === 'joining' || this.#role.state === 'restoring' || this.#role.state === 'replaying'
    if (hasPrimary) this.#line.send({ kind: 'goodbye', reason }, nowMs)
    this.#role.halt('shutdown', reason)
    return this.#takeEffects()
  }

  #takeEffects(): BackupEffect[] {
    return this.#effects.splice(0)
  }
}
