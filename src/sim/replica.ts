/**
 * A replica in the fake world: the real `Primary` or `Backup` between a fake hart and fake connections. It carries effects out
 * as `host/replica.ts` does, in the same order; what it adds is telling the witness.
 */

import { assert } from '../base/assert.ts'
import type { ArbiterAnswerOf, ArbiterQuestion } from '../disk/arbiter.ts'
import { NbdError } from '../disk/nbd-error.ts'
import type { Interrupt } from '../hypervisor/epoch/interrupts.ts'
import type { Output } from '../log/entry.ts'
import type { FromHart } from '../replica/hart-messages.ts'
import type { HartPolicy } from '../replica/hart-world.ts'
import { Backup } from '../replication/backup.ts'
import { EffectQueue } from '../replication/effect-queue.ts'
import type { ArbiterAnswer, BackupEffect, ChannelId, PrimaryEffect } from '../replication/effects.ts'
import { encodeMessage, MessageDecoder } from '../replication/message-codec.ts'
import type { Message, Sibling } from '../replication/messages.ts'
import type { ReplicationPolicy } from '../replication/policy.ts'
import { Primary } from '../replication/primary.ts'
import type { ReachPolicy } from '../replication/reach-probe.ts'
import { ReachProbe } from '../replication/reach-probe.ts'
import type { Actor } from './actor.ts'
import { ArbiterLine } from './arbiter-line.ts'
import type { Chance } from './chance.ts'
import { DiskLine } from './disk-line.ts'
import { SimHart } from './hart.ts'
import { identity } from './identity.ts'
import { LanLine } from './lan-line.ts'
import type { End, Network } from './network.ts'
import { TinyMachine } from './tiny-machine.ts'
import type { Witness } from './witness.ts'

/** The numbers of a simulation. */
export interface Times {
  readonly policy: ReplicationPolicy
  readonly reach: ReachPolicy
  readonly hart: HartPolicy
  readonly arbiterAnswerMs: number
  readonly digestEveryMs: number
  /** Messages of the logging channel go through the codec. */
  readonly asBytes: boolean
}

export interface ReplicaOptions {
  readonly actor: Actor
  readonly network: Network
  readonly chance: Chance
  readonly witness: Witness
  readonly times: Times
  readonly role: 'primary' | 'backup'
  /** Of a backup: the host of its primary. */
  readonly primaryHost?: string
  readonly runId: bigint
  readonly calendarOffsetMs: () => number
}

type Role =
  | { readonly kind: 'none' }
  | { readonly kind: 'primary'; readonly primary: Primary }
  | { readonly kind: 'backup'; readonly backup: Backup }
  | { readonly kind: 'halted'; readonly reason: string }

type Wire = Message | Uint8Array

/** A tenth of the product's, as all times of a simulation. */
const tickIntervalMs = 25
const connectAgainMs = 30
const callAgainMs = 20

export class SimReplica {
  readonly name: string
  readonly actor: Actor
  readonly machine = new TinyMachine()
  readonly hart: SimHart
  readonly disk: DiskLine
  readonly lan: LanLine
  readonly arbiter: ArbiterLine
  readonly #options: ReplicaOptions
  readonly #probe: ReachProbe
  readonly #peers = new Map<ChannelId, End<Wire, Wire>>()
  #questions = 0
  #toPrimary: End<Wire, Wire> | undefined
  #role: Role = { kind: 'none' }
  #isPoweredOn = false
  #nextChannel: ChannelId = 1
  readonly #effects = new EffectQueue()
  #alarmRingsAtMs = Number.POSITIVE_INFINITY

  constructor(options: ReplicaOptions) {
    this.#options = options
    const { actor, network, chance, times, witness } = options
    this.name = actor.name
    this.actor = actor
    const onFenced = (): void => this.#halt('lostArbitration')
    this.hart = new SimHart({
      actor,
      chance,
      machine: this.machine,
      mode: options.role === 'primary' ? 'live' : 'replaying',
      calendarOffsetMs: options.calendarOffsetMs,
      policy: times.hart,
      digestEveryMs: times.digestEveryMs,
      onMessage: (message) => this.#onHart(message),
      onRecorded: (batch) => {
        witness.onRecorded(this.name, batch)
        witness.onBoundary('recorded')
      },
    })
    this.disk = new DiskLine({
      actor,
      network,
      replica: this.name,
      onAnswer: (answer) => this.#input(answer),
      onRestoreRefused: () => witness.onRestoreRefused(),
      onFenced,
    })
    this.lan = new LanLine({
      actor,
      network,
      replica: this.name,
      reach: times.reach,
      onFrame: (frameId, bytes) => this.#input({ kind: 'frame', frameId, bytes }),
      onConfirmed: (sequence) => this.#withPrimary((primary) => primary.onConfirmed('frame', sequence)),
      onFenced,
    })
    this.arbiter = new ArbiterLine({
      actor,
      network,
      replica: this.name,
      answerTimeoutMs: times.arbiterAnswerMs,
      onFenced,
    })
    this.#probe = new ReachProbe(() => {
      this.arbiter.ask({ op: 'read' }, (answer) => {
        if (answer) this.#probe.onAnswer()
      })
    }, times.reach)
  }

  get primary(): Primary | undefined {
    return this.#role.kind === 'primary' ? this.#role.primary : undefined
  }

  get backup(): Backup | undefined {
    return this.#role.kind === 'backup' ? this.#role.backup : undefined
  }

  get haltReason(): string | undefined {
    return this.#role.kind === 'halted' ? this.#role.reason : undefined
  }

  /** Runs the machine for the world, as far as it knows. */
  get isLive(): boolean {
    return !this.actor.isDead && this.#role.kind === 'primary' && this.#isPoweredOn
  }

  /** Ended, or will do nothing more. */
  get isGone(): boolean {
    return this.actor.isDead || this.#role.kind === 'halted'
  }

  /** A backup that has not found its primary yet: it waits, for ever if need be. */
  get isWaiting(): boolean {
    return this.#role.kind === 'none' && this.#options.role === 'backup'
  }

  start(): void {
    this.lan.connect()
    this.arbiter.connect()
    this.#tick()
    if (this.#options.role === 'primary') this.#takeGeneration()
    else {
      this.#listenForPeers()
      this.#connectToPrimary()
    }
  }

  /** The operator presses the machine's power button. */
  pressPowerButton(): void {
    this.#input({ kind: 'powerButton' })
  }

  type(bytes: Uint8Array): void {
    this.#input({ kind: 'consoleInput', bytes })
  }

  /** The operator takes the backups away. */
  unprotect(): void {
    this.#withPrimary((primary) => primary.unprotect())
  }

  // ---- start ---------------------------------------------------------------------------------------------------------

  #takeGeneration(): void {
    this.arbiter.ask({ op: 'start', holderHasEnded: true }, (answer) => {
      if (!answer || !('granted' in answer) || !answer.granted) {
        this.actor.after(connectAgainMs * 1000, () => this.#takeGeneration())
        return
      }
      this.#becomePrimary(answer.generation)
    })
  }

  #becomePrimary(generation: number): void {
    const { runId, times, witness } = this.#options
    witness.onHolds(this.name, generation)
    this.lan.place.bind(BigInt(generation), runId, 0n)
    this.disk.connect(generation)
    const { policy } = times
    const primary = new Primary({
      identity,
      replica: this.name,
      address: this.name,
      generation,
      runId,
      state: 'starting',
      policy,
    })
    this.#role = { kind: 'primary', primary }
    this.#listenForPeers()
    this.#withPrimary(() => primary.start())
  }

  #listenForPeers(): void {
    const { network } = this.#options
    network.listen<Wire, Wire>(`log-${this.name}`, this.actor, (end) =>
      this.#onPeer(end, (id) => this.#withPrimary((primary) => primary.onChannelOpen(id, this.actor.nowMs))),
    )
  }

  /** Somebody connected, or a sibling was called: see host/peer-channels.ts. */
  #onPeer(end: End<Wire, Wire>, opened: (id: ChannelId) => void): void {
    const id = this.#nextChannel++
    this.#peers.set(id, end)
    opened(id)
    end.listen({
      onMessage: this.#decoded((message) => {
        if (this.#toPrimary === end) {
          this.#withBackup((backup) => backup.onMessage(message, this.actor.nowMs))
          return
        }
        this.#withPrimary((primary) => primary.onMessage(id, message, this.actor.nowMs))
        this.#withBackup((backup) => backup.onPeerMessage(id, message, this.actor.nowMs))
      }),
      onClosed: () => {
        this.#peers.delete(id)
        if (this.#toPrimary === end) {
          this.#withBackup((backup) => backup.onChannelClosed(this.actor.nowMs))
          return
        }
        this.#withPrimary((primary) => primary.onChannelClosed(id, this.actor.nowMs))
        this.#withBackup((backup) => backup.onPeerClosed(id, this.actor.nowMs))
      },
    })
  }

  #connectToPrimary(): void {
    const { primaryHost, network, times } = this.#options
    network.connect<Wire, Wire>(this.actor, primaryHost!, `log-${primaryHost}`, (end) => {
      if (!end) {
        this.actor.after(connectAgainMs * 1000, () => this.#connectToPrimary())
        return
      }
      this.#toPrimary = end
      const { policy } = times
      const backup = new Backup({ identity, replica: this.name, address: this.name, policy }, this.actor.nowMs)
      this.#role = { kind: 'backup', backup }
      end.listen({
        onMessage: this.#decoded((message) => this.#withBackup(() => backup.onMessage(message, this.actor.nowMs))),
        onClosed: () => this.#withBackup(() => backup.onChannelClosed(this.actor.nowMs)),
      })
      this.#withBackup(() => backup.onChannelOpen(this.actor.nowMs))
    })
  }

  /** As host/sibling-caller.ts: again and again for a while. */
  #callSibling({ replica, address }: Sibling, untilMs: number): void {
    if (this.actor.nowMs >= untilMs) return
    const again = (): void => {
      this.actor.after(callAgainMs * 1000, () => this.#callSibling({ replica, address }, untilMs))
    }
    this.#options.network.connect<Wire, Wire>(this.actor, address, `log-${address}`, (end) => {
      if (!end) {
        this.#withBackup((backup) => backup.onSiblingUnreachable(replica, this.actor.nowMs))
        again()
        return
      }
      this.#onPeer(end, (id) => {
        this.#withPrimary((primary) => primary.onSiblingOpen(id, this.actor.nowMs))
        this.#withBackup((backup) => backup.onSiblingOpen(id, replica))
        const look = (): void => {
          if (this.#peers.has(id)) this.actor.after(callAgainMs * 1000, look)
          else again()
        }
        look()
      })
    })
  }

  /** The role hears the answer to its last question only. */
  #ask(question: ArbiterQuestion, verdictOf: (answer: ArbiterAnswerOf) => ArbiterAnswer): void {
    const number = ++this.#questions
    this.arbiter.ask(question, (answer) => {
      if (number !== this.#questions) return
      const verdict: ArbiterAnswer = answer ? verdictOf(answer) : { result: 'unreachable', detail: 'no answer' }
      this.#withPrimary((primary) => primary.onArbiterAnswer(verdict, this.actor.nowMs))
      this.#withBackup((backup) => backup.onArbiterAnswer(verdict, this.actor.nowMs))
    })
  }

  #decoded(onMessage: (message: Message) => void): (wire: Wire) => void {
    const decoder = new MessageDecoder()
    return (wire) => {
      if (wire instanceof Uint8Array) for (const message of decoder.push(wire)) onMessage(message)
      else onMessage(wire)
    }
  }

  #encoded(message: Message): Wire {
    return this.#options.times.asBytes ? encodeMessage(message) : message
  }

  // ---- facts ---------------------------------------------------------------------------------------------------------

  #tick(): void {
    this.actor.after(tickIntervalMs * 1000, () => this.#tick())
    if (this.#role.kind === 'halted') return
    const nowMs = this.actor.nowMs
    this.#probe.onTick()
    const reach = { disk: this.#probe.isInReach, lan: this.lan.onTick() }
    this.#withPrimary((primary) => primary.onReach(reach, nowMs))
    this.#withBackup((backup) => backup.onReach(reach, nowMs))
    this.#tickRole()
  }

  /** The protocol's own time: a heartbeat, a suspicion, a question to be asked again. */
  #tickRole(): void {
    this.#withPrimary((primary) => primary.onTick(this.actor.nowMs))
    this.#withBackup((backup) => backup.onTick(this.actor.nowMs))
  }

  /** As host/alarm.ts: rings once, at the earliest time it was set to. */
  #setAlarm(): void {
    const role = this.#role
    const dueMs = role.kind === 'primary' ? role.primary.dueMs : role.kind === 'backup' ? role.backup.dueMs : undefined
    if (dueMs === undefined || dueMs === Number.POSITIVE_INFINITY || dueMs >= this.#alarmRingsAtMs) return
    this.#alarmRingsAtMs = dueMs
    this.actor.after(Math.max(1, Math.ceil(dueMs - this.actor.nowMs)) * 1000, () => {
      if (this.#alarmRingsAtMs !== dueMs) return
      this.#alarmRingsAtMs = Number.POSITIVE_INFINITY
      this.#tickRole()
    })
  }

  /** Only the live machine hears the world, and only once it is switched on. */
  #input(input: Interrupt): void {
    if (this.#role.kind === 'primary' && this.#isPoweredOn)
      this.hart.send({ kind: 'input', input, arrivedNs: this.hart.nowNs })
  }

  #onHart(message: FromHart): void {
    const nowMs = this.actor.nowMs
    if (this.actor.isDead) return
    switch (message.kind) {
      case 'recorded':
        if (message.batches.length > 0) this.#options.witness.onBoundary('sending')
        for (const batch of message.batches) this.#withPrimary((primary) => primary.onBatch(batch, nowMs))
        if (message.outputs.length > 0) this.#withPrimary((primary) => primary.onOutputs(message.outputs))
        return
      case 'replayed': {
        const { replayedEnd, outputs, diskAnswers } = message
        this.#options.witness.onBoundary('replayed')
        this.disk.onReplayed(outputs, diskAnswers)
        const report = { replayedEnd, outputs, count: this.machine.count }
        this.#withBackup((backup) => backup.onReplayed(report, nowMs))
        return
      }
      case 'diverged':
        this.#options.witness.onDivergence(this.name, message.divergence)
        this.#withBackup((backup) => backup.onDivergence(message.divergence, nowMs))
        return
      case 'pages':
        this.#withPrimary((primary) => primary.onPages(message.copy, message.bytes, nowMs))
        return
      case 'copied':
        this.#withPrimary((primary) => primary.onCopied(message.copy, message.state, new Uint8Array(), nowMs))
        return
      case 'pagesLoaded':
        this.#withBackup((backup) => backup.onPagesLoaded(message.bytes, nowMs))
        return
      case 'restored':
        this.disk.follow(message.inFlight)
        this.#options.witness.onRestored()
        this.#withBackup((backup) => backup.onRestored(nowMs))
        return
      case 'restoreFailed':
        this.#options.witness.onRestoreFailed(this.name, message.detail)
        this.#withBackup((backup) => backup.onRestoreFailed(message.detail, nowMs))
        return
      case 'live':
        for (const request of message.reissue) this.disk.issue(request)
        this.#options.witness.onReissued(this.name, message.reissue)
        return
      case 'off':
        return
    }
  }

  #withPrimary(fact: (primary: Primary) => PrimaryEffect[]): void {
    if (this.#role.kind !== 'primary' || this.actor.isDead) return
    this.#effects.run(fact(this.#role.primary), (effect) => this.#carryOutPrimary(effect))
    this.#setAlarm()
  }

  #withBackup(fact: (backup: Backup) => BackupEffect[]): void {
    if (this.#role.kind !== 'backup' || this.actor.isDead) return
    this.#effects.run(fact(this.#role.backup), (effect) => this.#carryOutBackup(effect))
    this.#setAlarm()
  }

  // ---- effects -------------------------------------------------------------------------------------------------------

  #carryOutPrimary(effect: PrimaryEffect): void {
    // A fault may have killed it between two effects.
    if (this.actor.isDead) return
    switch (effect.kind) {
      case 'send':
        this.#peers.get(effect.channel)?.send(this.#encoded(effect.message))
        return
      case 'closeChannel':
        this.#peers.get(effect.channel)?.close()
        this.#peers.delete(effect.channel)
        return
      case 'release':
        this.#options.witness.onBoundary('releasing')
        for (const { output } of effect.outputs) if (!this.actor.isDead) this.#release(output)
        this.#options.witness.onBoundary('released')
        return
      case 'covered':
        this.lan.place.covered(effect.frameId)
        return
      case 'openGeneration': {
        const { generation, eligible } = effect
        this.#ask({ op: 'openGeneration', generation, eligible }, (answer) =>
          'accepted' in answer && answer.accepted
            ? { result: 'granted', generation: answer.generation }
            : { result: 'refused', detail: 'the machine is held by another replica' },
        )
        return
      }
      case 'enterGeneration':
        this.#options.witness.onHolds(this.name, effect.generation)
        if (effect.eligible.length === 0) this.#options.witness.onBackupDropped(this.name)
        else this.#options.witness.onListed()
        return
      case 'pauseHart':
        if (effect.reason === 'logFull') this.#options.witness.onHeldBack('log_full')
        this.hart.send({ kind: 'pause', isPaused: true })
        return
      case 'resumeHart':
        this.hart.send({ kind: 'pause', isPaused: false })
        if (!this.#isPoweredOn) this.hart.send({ kind: 'powerOn' })
        this.#isPoweredOn = true
        return
      case 'setCpuPercent':
        this.#options.witness.onHeldBack('lag_control')
        this.hart.send({ kind: 'cpuPercent', percent: effect.percent })
        return
      case 'startCopy':
      case 'allowPages':
      case 'endCopy':
        this.hart.send(effect)
        return
      case 'flushDisks':
        this.disk.steady.request({ operation: 'flush' }, (outcome) =>
          this.#withPrimary((primary) =>
            outcome instanceof NbdError
              ? primary.onFlushFailed(effect.copy, outcome.message, this.actor.nowMs)
              : primary.onDisksFlushed(effect.copy),
          ),
        )
        return
      case 'acknowledged':
        // For a hart in the epoch discipline.
        return
      case 'backupLost':
      case 'reportDivergence':
        return
      case 'halt':
        this.#halt(effect.reason)
    }
  }

  #release(output: Output): void {
    switch (output.kind) {
      case 'frame':
        this.lan.place.send(output.sequence, output.bytes)
        return
      case 'disk':
        this.disk.issue(output)
        return
      case 'console':
        this.#showConsole(output)
        return
      case 'power':
      case 'entropyRequest':
        return
    }
  }

  #showConsole({ sequence, bytes }: Extract<Output, { kind: 'console' }>): void {
    this.#options.witness.onConsoleOutput(this.name, sequence, bytes)
    this.#withPrimary((primary) => primary.onConfirmed('console', sequence))
  }

  #carryOutBackup(effect: BackupEffect): void {
    if (this.actor.isDead) return
    switch (effect.kind) {
      case 'send':
        this.#toPrimary?.send(this.#encoded(effect.message))
        return
      case 'closeChannel':
        this.#toPrimary?.close()
        this.#toPrimary = undefined
        return
      case 'replay':
        this.hart.send({ kind: 'append', batch: effect.batch })
        this.#options.witness.onBoundary('received')
        return
      case 'loadPages':
        this.hart.send(effect)
        return
      case 'loadState':
        this.hart.send({ kind: 'loadState', state: effect.state.hart })
        return
      case 'testAndSet':
        this.#options.witness.onAsks(this.#backupLag() > 0)
        this.#ask({ op: 'testAndSet', generation: effect.generation }, (answer) => {
          if (!('won' in answer)) return { result: 'unreachable', detail: 'an answer to something else' }
          if (answer.won) return { result: 'granted', generation: answer.generation }
          return {
            result: 'refused',
            detail: 'another replica holds it',
            ...(answer.holder === null ? {} : { holder: answer.holder }),
            ...(answer.isEligible ? { eligibleIn: answer.generation } : {}),
          }
        })
        return
      case 'callSiblings':
        for (const sibling of effect.siblings) {
          this.#callSibling(sibling, this.actor.nowMs + this.#options.times.policy.callMs)
        }
        return
      case 'sendPeer':
        this.#peers.get(effect.channel)?.send(this.#encoded(effect.message))
        return
      case 'closePeer':
        this.#peers.get(effect.channel)?.close()
        this.#peers.delete(effect.channel)
        return
      case 'adoptPeer': {
        const end = this.#peers.get(effect.channel)
        this.#peers.delete(effect.channel)
        if (end) this.#toPrimary = end
        return
      }
      case 'goLive':
        this.#goLive(effect)
        return
      case 'reportDivergence':
        return
      case 'halt':
        this.#halt(effect.reason)
    }
  }

  /** Entries that it has and has not replayed. */
  #backupLag(): number {
    const progress = this.backup?.status(this.actor.nowMs).progress
    return progress ? Number(progress.receivedEnd - progress.replayedEnd) : 0
  }

  #goLive(effect: Extract<BackupEffect, { kind: 'goLive' }>): void {
    assert(this.#role.kind === 'backup', 'a backup goes live')
    const primary = this.#role.backup.toPrimary()
    this.#role = { kind: 'primary', primary }
    this.#isPoweredOn = true
    this.#options.witness.onHolds(this.name, effect.generation)
    this.#options.witness.onLive(this.name, effect.generation, effect.logEnd)
    this.hart.send({ kind: 'goLive' })
    for (const { output } of effect.unconfirmed) {
      if (output.kind === 'frame') this.#release(output)
      else this.#showConsole(output)
    }
    for (const { channel, hello } of effect.joiners) {
      this.#withPrimary(() => primary.onChannelOpen(channel, this.actor.nowMs))
      this.#withPrimary(() => primary.onMessage(channel, hello, this.actor.nowMs))
    }
    this.#withPrimary(() => primary.start())
    this.lan.place.bind(BigInt(effect.generation), effect.runId, effect.coveredFrameId ?? 0n)
    this.disk.connect(effect.generation)
  }

  #halt(reason: string): void {
    if (this.#role.kind === 'halted') return
    this.#role = { kind: 'halted', reason }
    this.disk.steady.drop()
    this.hart.hang()
    this.lan.close()
    this.#toPrimary?.close()
    for (const end of this.#peers.values()) end.close()
    this.arbiter.close()
    this.actor.after(1000, () => this.actor.kill('process'))
  }
}
