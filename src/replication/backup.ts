/**
 * The backup's side of VMware FT's *exact* discipline, sans I/O: facts come in through `onX`, effects go out. It knows log
 * batches and outputs, never machines; time is an argument (monotonic milliseconds).
 *
 *   ┌─────────────────┐ message  ┌───────────────────────────────┐ replay    ┌──────────────────────┐
 *   │ logging channel │─────────►│ Backup                        │──────────►│ hart's thread:       │
 *   │                 │◄─────────│   acknowledge on receipt      │ outputs   │ Machine + Replayer   │
 *   └─────────────────┘ ack      │   UnconfirmedOutputs: kept    │◄──────────│                      │
 *              arbiter ◄─────────│   FailureDetector             │ goLive    │ Replayer.goLive()    │
 *                     testAndSet └───────────────────────────────┘──────────►└──────────────────────┘
 *
 * Rules held here: it acknowledges when entries are in its buffer, not when they are executed; before it asks the arbiter
 * it stops acknowledging, for good; it goes live only after the arbiter granted its generation AND everything it ever
 * acknowledged is replayed (invariant 7); an arbiter out of reach is asked again, never guessed about (invariant 8); each
 * output it regenerates is kept until its receiver confirmed it (invariant 6).
 */

import { assert, WorldError } from '../base/assert.ts'
import type { LogBatch } from '../log/batch.ts'
import type { BootArtefacts } from '../log/boot-artefacts.ts'
import { type Divergence, describeDivergence } from '../log/divergence.ts'
import { logIndex } from '../log/entry.ts'
import { BackupLine } from './backup-line.ts'
import type { BackupOptions, BackupStatus, ReplayReport } from './backup-options.ts'
import type { ArbiterAnswer, BackupEffect, ChannelId, FailoverTiming, HaltReason } from './effects.ts'
import { Eligibility } from './eligibility.ts'
import { type Hello, helloOfBackup, type Introduction, judgeAnswer } from './hello.ts'
import { type Generation, isToFollower, type Message, type ReplicaName } from './messages.ts'
import { PeerLines } from './peer-lines.ts'
import { defaultReplicationPolicy, type ReplicationPolicy } from './policy.ts'
import { Primary } from './primary.ts'
import type { Reach } from './reach.ts'
import { ReadStall } from './read-stall.ts'
import { ReceivedLog } from './received-log.ts'
import { type BackupState, backupTransitions, moveTo } from './roles.ts'
import { StateReceipt } from './state-receipt.ts'
import { TailFetch } from './tail-fetch.ts'
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
  #state: BackupState = 'joining'
  /** What was received, and acknowledged in the same breath. */
  #log: ReceivedLog
  /** Of the primary whose log that is. */
  #hold: Generation = 0
  #runId = 0n
  /** How long it stays as it is, when nobody speaks to it: while it joins, rejoins, or is to ask (again). */
  #waitsUntilMs = Number.POSITIVE_INFINITY
  #timing: FailoverTiming | undefined
  /** Of a winner that had siblings. */
  #fetch: TailFetch | undefined

  constructor(options: BackupOptions, nowMs: number) {
    const { identity, replica, address = '', policy = defaultReplicationPolicy } = options
    this.#own = { identity, replica, address, discipline: policy.discipline }
    this.#policy = policy
    this.#artefacts = options.artefacts
    this.#line = new BackupLine(policy, this.#effects, nowMs)
    this.#eligibility = new Eligibility(replica)
    this.#readStall = new ReadStall(policy.readStallMs)
    this.#log = new ReceivedLog(options.nextIndex ?? logIndex(0n), options.coveredFrameId)
  }

  get state(): BackupState {
    return this.#state
  }

  status(nowMs: number): BackupStatus {
    return {
      state: this.#state,
      generation: this.#eligibility.known,
      isListed: this.#state === 'replaying' && this.#eligibility.isListed,
      progress: this.#log.progress(nowMs),
      reach: this.#line.reach,
      unconfirmedOutputs: this.#unconfirmed.count,
    }
  }

  /** The latest time (`nowMs`) for the next tick; infinite when nothing waits for time. */
  get dueMs(): number {
    if (this.#state === 'restoring') return this.#line.dueMs
    if (this.#state === 'replaying') return Math.min(this.#line.dueMs, this.#readStall.dueMs)
    if (this.#state === 'goingLive')
      return Math.min(this.#fetch?.deadlineMs ?? Number.POSITIVE_INFINITY, this.#readStall.dueMs)
    return this.#waitsUntilMs
  }

  // ---- facts from the host, by state --------------------------------------------------------------------------------

  onMessage(message: Message, nowMs: number): BackupEffect[] {
    if (this.#state === 'joining' || this.#state === 'rejoining') this.#onFirstMessage(message, nowMs)
    else if (this.#state === 'restoring') this.#onRestoringMessage(message, nowMs)
    else if (this.#state === 'replaying') this.#onPrimaryMessage(message, nowMs)
    // In every later state the primary has nothing to say any more: what it sends now was never acknowledged.
    return this.#takeEffects()
  }

  onChannelClosed(nowMs: number): BackupEffect[] {
    if (this.#state === 'joining')
      this.#halt('neverPaired', 'the channel closed before the primary accepted this backup')
    else if (this.#state === 'restoring') this.#halt('neverPaired', `${unfinished}: the channel closed`)
    else if (this.#state === 'replaying') this.#suspect('the channel closed', nowMs)
    // The winner may call again, at once; or it is lost, too.
    else if (this.#state === 'rejoining')
      this.#waitsUntilMs = Math.min(this.#waitsUntilMs, nowMs + this.#policy.headStartMs)
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
    switch (this.#state) {
      case 'joining':
        // It may have died without a word: whoever starts backups is to start another one, where the primary is now.
        if (nowMs >= this.#waitsUntilMs)
          this.#halt('neverPaired', `no answer to its hello for ${this.#policy.helloTimeoutMs} ms`)
        break
      case 'restoring':
        this.#onRestoringTick(nowMs)
        break
      case 'replaying':
        this.#onReplayingTick(nowMs)
        break
      case 'asking':
        if (nowMs >= this.#waitsUntilMs) this.#ask()
        break
      case 'rejoining':
        if (nowMs >= this.#waitsUntilMs) this.#askAsHeir(nowMs)
        break
      case 'goingLive':
        if (!this.#hasDiverged(nowMs)) this.#goLiveIfReady(nowMs)
    }
    return this.#takeEffects()
  }

  #violation(detail: string, nowMs: number): void {
    const isUnpaired = this.#state === 'joining' || this.#state === 'restoring' || this.#state === 'rejoining'
    if (isUnpaired) this.#halt('neverPaired', detail)
    else if (this.#state === 'replaying') this.#suspect(detail, nowMs)
  }

  // ---- pairing ------------------------------------------------------------------------------------------------------

  /** Connected to the primary: introduces itself. */
  onChannelOpen(nowMs: number): BackupEffect[] {
    assert(this.#state === 'joining', 'a backup connects once')
    this.#waitsUntilMs = nowMs + this.#policy.helloTimeoutMs
    this.#sayHello(nowMs)
    return this.#takeEffects()
  }

  #sayHello(nowMs: number): void {
    this.#line.send(helloOfBackup(this.#own, this.#hold, this.#log.end, this.#log.replayedEnd), nowMs)
  }

  #onFirstMessage(message: Message, nowMs: number): void {
    const { known: generation } = this.#eligibility
    const log = generation === undefined ? undefined : { generation, runId: this.#runId, nextIndex: this.#log.end }
    const answer = judgeAnswer(message, this.#own, log)
    if (answer.kind === 'refused') this.#halt('refused', answer.detail)
    else if (answer.kind === 'violation') this.#violation(answer.detail, nowMs)
    else this.#follow(answer, nowMs)
  }

  #follow(primary: Hello, nowMs: number): void {
    this.#eligibility.onAccepted(primary, this.#state === 'rejoining')
    this.#runId = primary.runId
    this.#hold = primary.hold
    this.#line.restart(nowMs)
    this.#moveTo(primary.nextIndex === this.#log.end ? 'replaying' : 'restoring')
  }

  // ---- a machine that runs already ----------------------------------------------------------------------------------

  #onRestoringMessage(message: Message, nowMs: number): void {
    this.#line.onHeard(nowMs)
    if (message.kind === 'pages') this.#effects.push({ kind: 'loadPages', bytes: message.bytes })
    else if (message.kind === 'state') this.#onState(message, nowMs)
    else if (message.kind === 'heartbeat') this.#line.onPrimaryReach(message.reach)
    else if (message.kind === 'goodbye') this.#halt('goodbye', message.reason)
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
    this.#log = new ReceivedLog(state.nextIndex, state.coveredFrameId)
    this.#eligibility.onState(state.generation)
    for (const marked of state.unconfirmed) this.#unconfirmed.add(marked)
    this.#effects.push({ kind: 'loadState', state })
  }

  /** So many bytes of pages more are in the machine. */
  onPagesLoaded(bytes: number, nowMs: number): BackupEffect[] {
    this.#receipt.onLoaded(bytes)
    if (this.#state === 'restoring') this.#sendTaken(nowMs)
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
    return this.#state === 'restoring' ? this.#receipt.isInMachine : this.#state !== 'joining'
  }

  /**
   * The machine is whole, has the digest of the primary's, and disks as good as the primary's: now this is a backup, and what
   * it has received counts.
   */
  onRestored(nowMs: number): BackupEffect[] {
    if (this.#state !== 'restoring') return []
    this.#readStall.restart(nowMs)
    this.#line.listen(nowMs)
    this.#moveTo('replaying')
    this.#acknowledge(nowMs)
    return this.#takeEffects()
  }

  /** What came does not make the primary's machine. */
  onRestoreFailed(detail: string, nowMs: number): BackupEffect[] {
    if (this.#state !== 'restoring') return []
    this.#line.send({ kind: 'goodbye', reason: detail }, nowMs)
    this.#halt('neverPaired', detail)
    return this.#takeEffects()
  }

  #sendTaken(nowMs: number): void {
    this.#line.send({ kind: 'taken', totalBytes: this.#receipt.loadedBytes }, nowMs)
  }

  #onRestoringTick(nowMs: number): void {
    const suspicion = this.#line.suspicion(nowMs)
    if (suspicion !== undefined) this.#halt('neverPaired', `${unfinished}: it was ${suspicion}`)
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
        this.#suspect(message.reason, nowMs, true)
        return
      case 'goodbye':
        this.#halt('goodbye', message.reason)
    }
  }

  #onEntries(batch: LogBatch, nowMs: number): void {
    if (batch.firstIndex !== this.#log.end) {
      this.#violation(`log entry ${batch.firstIndex} came where ${this.#log.end} is due`, nowMs)
      return
    }
    this.#receive(batch, nowMs)
    this.#line.onEntries(nowMs)
    if (this.#state === 'replaying') this.#acknowledge(nowMs)
  }

  #receive(batch: LogBatch, nowMs: number): void {
    this.#log.receive(batch, nowMs)
    this.#effects.push({ kind: 'replay', batch })
  }

  #onReplayingTick(nowMs: number): void {
    const suspicion = this.#line.suspicion(nowMs)
    if (suspicion !== undefined) this.#suspect(suspicion, nowMs)
    else if (this.#hasDiverged(nowMs)) return
    else if (this.#readStall.hasEnded(nowMs)) this.#leaveForDisk(nowMs)
    else if (this.#line.isHeartbeatDue(nowMs)) this.#acknowledge(nowMs)
  }

  /** A promise: whatever happens, these entries are replayed before this replica goes live. */
  #acknowledge(nowMs: number): void {
    assert(this.#state === 'replaying', `a backup that is ${this.#state} acknowledges nothing`)
    this.#line.send({ kind: 'ack', progress: this.#log.progress(nowMs), reach: this.#line.reach }, nowMs)
  }

  /** The replayer came further. */
  onReplayed(report: ReplayReport, nowMs: number): BackupEffect[] {
    const { replayedEnd, count, outputs, hasRead = false, need } = report
    if (this.#state === 'halted' || !this.hasMachine) return []
    assert(this.#state !== 'live', 'a live machine replays nothing')
    this.#log.onReplayed(replayedEnd, count)
    for (const marked of outputs) this.#unconfirmed.add(marked)
    this.#readStall.onNeed(need, nowMs)
    if (hasRead && this.#state === 'replaying') this.#acknowledge(nowMs)
    this.#goLiveIfReady(nowMs)
    return this.#takeEffects()
  }

  /** The replayer found a divergence: reported, never papered over (invariant 11). This replica is done. */
  onDivergence(divergence: Divergence, nowMs: number): BackupEffect[] {
    if (this.#state !== 'halted') this.#diverge(divergence, nowMs)
    return this.#takeEffects()
  }

  #diverge(divergence: Divergence, nowMs: number): void {
    this.#effects.push({ kind: 'reportDivergence', divergence })
    if (this.#state === 'replaying') this.#line.send({ kind: 'diverged', divergence }, nowMs)
    this.#halt('diverged', describeDivergence(divergence))
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
    this.#halt('diskStalled', reason)
  }

  /** What this replica's host reaches now. */
  onReach(reach: Reach, nowMs: number): BackupEffect[] {
    if (this.#line.onReach(reach) && this.#state === 'replaying') {
      this.#line.compareReach(this.#eligibility.isListed, nowMs)
      this.#acknowledge(nowMs)
    }
    return this.#takeEffects()
  }

  // ---- failover -----------------------------------------------------------------------------------------------------

  /**
   * The primary seems lost. From here on there is no way back to following it: it wins, or its role here is over.
   * @param hasEnded it said so itself: nobody else asks
   */
  #suspect(detail: string, nowMs: number, hasEnded = false): void {
    this.#beginAsking(detail, nowMs)
    if (!hasEnded && this.#line.isOutplaced) this.#waitsUntilMs = nowMs + this.#policy.headStartMs
    else this.#ask()
  }

  /** Whom it followed is lost: it hears that one no more, and its failover begins. */
  #beginAsking(reason: string, nowMs: number): void {
    this.#moveTo('asking')
    this.#timing = { lastHeardMs: this.#line.lastHeardMs, detectedMs: nowMs, wonMs: nowMs, replayedMs: nowMs }
    this.#line.close(reason)
  }

  #ask(): void {
    this.#waitsUntilMs = Number.POSITIVE_INFINITY
    this.#effects.push({ kind: 'testAndSet', generation: this.#eligibility.generation })
  }

  onArbiterAnswer(answer: ArbiterAnswer, nowMs: number): BackupEffect[] {
    if (this.#state !== 'asking') return []
    switch (answer.result) {
      case 'unreachable':
        this.#waitsUntilMs = nowMs + this.#policy.arbiterRetryMs
        break
      case 'refused':
        this.#onRefused(answer, nowMs)
        break
      case 'granted':
        this.#eligibility.onGranted(answer.generation)
        this.#timing = { ...this.#timing!, wonMs: nowMs }
        this.#moveTo('goingLive')
        this.#callSiblings(nowMs)
        this.#goLiveIfReady(nowMs)
    }
    return this.#takeEffects()
  }

  #onRefused(answer: Extract<ArbiterAnswer, { result: 'refused' }>, nowMs: number): void {
    switch (this.#eligibility.onRefused(answer)) {
      case 'askAgain':
        this.#ask()
        return
      case 'rejoin':
        this.#moveTo('rejoining')
        this.#waitsUntilMs = nowMs + this.#policy.callMs
        return
      case 'nothing':
        this.#halt('lostArbitration', answer.detail)
    }
  }

  /** The winner has not called, or its call ended. */
  #askAsHeir(nowMs: number): void {
    if (this.#eligibility.onWinnerLost()) {
      this.#beginAsking('the winner is lost, too', nowMs)
      this.#ask()
    } else this.#halt('lostArbitration', 'another backup won, and has not called this one')
  }

  #goLiveIfReady(nowMs: number): void {
    if (this.#state !== 'goingLive' || !this.#log.isReplayed) return
    if (this.#fetch && !this.#fetch.isOver(nowMs)) return
    assert(this.#timing !== undefined, 'goes live after a granted question')
    this.#moveTo('live')
    this.#fetch?.closeSilent()
    this.#effects.push({
      kind: 'goLive',
      generation: this.#eligibility.generation,
      runId: this.#runId,
      logEnd: this.#log.end,
      coveredFrameId: this.#log.coveredFrameId,
      unconfirmed: this.#unconfirmed.inOrder(),
      joiners: this.#fetch?.joiners ?? [],
      timing: { ...this.#timing, replayedMs: nowMs },
    })
  }

  /** AFTER the `goLive` effect: the same replica as the machine's primary, alone. */
  toPrimary(): Primary {
    assert(this.#state === 'live', `a backup that is ${this.#state} is no primary`)
    return new Primary({
      ...this.#own,
      generation: this.#eligibility.generation,
      state: this.#eligibility.hasHeirs ? 'asking' : 'alone',
      runId: this.#runId,
      ...(this.#artefacts ? { artefacts: this.#artefacts } : {}),
      nextIndex: this.#log.end,
      unconfirmed: this.#unconfirmed,
      ...(this.#log.coveredFrameId === undefined ? {} : { coveredFrameId: this.#log.coveredFrameId }),
      inheritance: {
        hold: this.#hold,
        logEnd: this.#log.end,
        tail: this.#log.tail,
        siblings: this.#eligibility.siblings.map(({ replica }) => replica),
      },
      policy: this.#policy,
    })
  }

  // ---- siblings -----------------------------------------------------------------------------------------------------

  /** It won: what its siblings have more of the log comes first. */
  #callSiblings(nowMs: number): void {
    const { siblings, generation } = this.#eligibility
    if (siblings.length === 0) return
    const call = { replica: this.#own.replica, generation, log: this.#log, hold: this.#hold }
    this.#fetch = new TailFetch(call, siblings, nowMs + this.#policy.tailTimeoutMs, this.#peers)
    this.#effects.push({ kind: 'callSiblings', siblings })
  }

  /** This host has connected to a sibling, because of `callSiblings`. */
  onSiblingOpen(channel: ChannelId, replica: ReplicaName): BackupEffect[] {
    if (this.#state === 'goingLive' && this.#fetch) this.#fetch.onOpen(channel, replica)
    else this.#peers.close(channel, 'not going live')
    return this.#takeEffects()
  }

  /** It will be tried again, but not waited for. */
  onSiblingUnreachable(replica: ReplicaName, nowMs: number): BackupEffect[] {
    this.#fetch?.onUnreachable(replica)
    this.#goLiveIfReady(nowMs)
    return this.#takeEffects()
  }

  /** A message on a connection that is not (yet) the logging channel: a sibling's, or a stranger's. */
  onPeerMessage(channel: ChannelId, message: Message, nowMs: number): BackupEffect[] {
    if (this.#state === 'halted') this.#peers.close(channel, 'halted')
    else if (message.kind === 'call') this.#onCall(channel, message, nowMs)
    else if (this.#fetch?.has(channel)) {
      for (const batch of this.#fetch.onMessage(channel, message))
        if (batch.firstIndex === this.#log.end) this.#receive(batch, nowMs)
      this.#goLiveIfReady(nowMs)
    } else this.#peers.turnAway(channel, message)
    return this.#takeEffects()
  }

  /** Bytes that are no message. */
  onBadPeerMessage(channel: ChannelId, detail: string, nowMs: number): BackupEffect[] {
    this.#peers.close(channel, detail)
    return [...this.#takeEffects(), ...this.onPeerClosed(channel, nowMs)]
  }

  onPeerClosed(channel: ChannelId, nowMs: number): BackupEffect[] {
    this.#fetch?.onClosed(channel)
    this.#goLiveIfReady(nowMs)
    return this.#takeEffects()
  }

  /**
   * A sibling holds the machine: whatever this backup was about to do in its generation is over. It gives what it has of
   * the log, and wants to follow. From the moment it answers it acknowledges nothing to its old primary, so that the winner
   * gets all that it ever received.
   */
  #onCall(channel: ChannelId, call: Extract<Message, { kind: 'call' }>, nowMs: number): void {
    const isRejoining = this.#state === 'rejoining'
    const isFollower = isRejoining || this.#state === 'replaying' || this.#state === 'asking'
    if (!isFollower || !this.#eligibility.onCalled(call.generation, isRejoining)) {
      this.#peers.refuse(channel, `this replica does not follow generation ${call.generation}`)
      return
    }
    if (!isRejoining) this.#moveTo('rejoining')
    this.#waitsUntilMs = nowMs + this.#policy.callMs
    this.#line.close(`replica "${call.replica}" holds the machine`)
    this.#effects.push({ kind: 'adoptPeer', channel })
    const tail = call.tailFrom === undefined ? [] : (this.#log.tail.from(call.tailFrom) ?? [])
    for (const batch of tail) this.#line.send({ kind: 'entries', batch, commonEnd: batch.firstIndex }, nowMs)
    this.#sayHello(nowMs)
  }

  // ---- the end ------------------------------------------------------------------------------------------------------

  /** Its own host wants it to end. The primary goes on without it. */
  onShutdown(reason: string, nowMs: number): BackupEffect[] {
    if (this.#state === 'halted') return []
    const hasPrimary = this.#state === 'joining' || this.#state === 'restoring' || this.#state === 'replaying'
    if (hasPrimary) this.#line.send({ kind: 'goodbye', reason }, nowMs)
    this.#halt('shutdown', reason)
    return this.#takeEffects()
  }

  #halt(reason: HaltReason, detail: string): void {
    this.#moveTo('halted')
    this.#line.close(detail)
    this.#effects.push({ kind: 'halt', reason, detail })
  }

  #moveTo(state: BackupState): void {
    this.#state = moveTo(backupTransitions, this.#state, state)
    this.#waitsUntilMs = Number.POSITIVE_INFINITY
  }

  #takeEffects(): BackupEffect[] {
    return this.#effects.splice(0)
  }
}
