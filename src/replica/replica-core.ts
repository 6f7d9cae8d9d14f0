/**
 * One replica, sans I/O: the role objects of `replication/` between a hart and a host.
 *
 *   hart ──log batches, outputs──► Primary ──effects──► logging channel, disks, network, console
 *   channel ──messages──► Backup ──effects──► hart (replay), arbiter (test-and-set), go live
 *
 * Every fact goes to the role, every effect that it returns is carried out in order, on what the host gives
 * (replica-world.ts). What follows for the parts of a replica is decided here, once: for the product and for the simulator. A
 * replica that goes live changes its role object and keeps everything else.
 */

import { assert, unreachable, WorldError } from '../base/assert.ts'
import type { Interrupt } from '../hypervisor/epoch/interrupts.ts'
import type { Output } from '../log/entry.ts'
import type { Backup } from '../replication/backup.ts'
import { EffectQueue } from '../replication/effect-queue.ts'
import type { ArbiterAnswer, BackupEffect, ChannelId, PrimaryEffect } from '../replication/effects.ts'
import type { ConfirmedKind, Message, ReplicaName } from '../replication/messages.ts'
import type { Primary } from '../replication/primary.ts'
import type { Reach } from '../replication/reach.ts'
import type { TransferredState } from '../replication/transferred-state.ts'
import type { FromHart } from './hart-messages.ts'
import type { ConsoleOutput, ReplicaEffect, ReplicaWorld } from './replica-world.ts'

export type ReplicaRole =
  | { readonly kind: 'none' }
  | { readonly kind: 'primary'; readonly primary: Primary }
  | { readonly kind: 'backup'; readonly backup: Backup }
  | { readonly kind: 'halted'; readonly reason: string }

export class ReplicaCore {
  readonly #world: ReplicaWorld
  readonly #effects = new EffectQueue()
  #role: ReplicaRole = { kind: 'none' }
  #isPoweredOn = false
  /** Of a backup that went live: what its receivers may lack, until it is sent. */
  #inheritedOutputs: Pick<Extract<BackupEffect, { kind: 'goLive' }>, 'runId' | 'unconfirmed'> | undefined
  /** Asked of the arbiter so far. */
  #questions = 0

  constructor(world: ReplicaWorld) {
    this.#world = world
  }

  get role(): ReplicaRole {
    return this.#role
  }

  get primary(): Primary | undefined {
    return this.#role.kind === 'primary' ? this.#role.primary : undefined
  }

  get backup(): Backup | undefined {
    return this.#role.kind === 'backup' ? this.#role.backup : undefined
  }

  /** It runs the machine for the world, as far as it knows: the machine was switched on. */
  get isLive(): boolean {
    return this.#role.kind === 'primary' && this.#isPoweredOn
  }

  // ---- roles -------------------------------------------------------------------------------------------------------------

  /** It holds the machine's next generation, and nobody has switched the machine on. Call `startPrimary` when it listens. */
  becomePrimary(primary: Primary): void {
    this.#role = { kind: 'primary', primary }
  }

  startPrimary(): void {
    this.#withPrimary((primary, nowMs) => primary.start(nowMs))
  }

  /** It has found a primary. Call `onPrimaryOpen` when its messages are listened to. */
  becomeBackup(backup: Backup): void {
    this.#role = { kind: 'backup', backup }
  }

  /**
   * Nothing is done any more.
   * @returns false: it had ended already
   */
  halt(reason: string): boolean {
    if (this.#role.kind === 'halted') return false
    this.#role = { kind: 'halted', reason }
    return true
  }

  /** The operator ends it in good order. */
  shutDown(reason: string): void {
    this.#withPrimary((primary, nowMs) => primary.onShutdown(reason, nowMs))
    this.#withBackup((backup, nowMs) => backup.onShutdown(reason, nowMs))
  }

  /**
   * The backups leave, in order; the machine goes on without. That takes the arbiter's word: `status` says when it is done.
   * @returns false: there is no backup to leave, or the set of backups is changing already
   */
  unprotect(): boolean {
    if (this.#role.kind !== 'primary' || this.#role.primary.state === 'asking') return false
    this.#withPrimary((primary) => primary.unprotect())
    return true
  }

  /**
   * The backup takes the machine over; this replica ends.
   * @returns false: there is no backup that could
   */
  handOver(): boolean {
    this.#withPrimary((primary, nowMs) => primary.handOver(nowMs))
    return this.#role.kind === 'halted'
  }

  // ---- facts of connections ------------------------------------------------------------------------------------------------

  /** Somebody has connected. */
  onPeerOpen(channel: ChannelId): void {
    this.#withPrimary((primary, nowMs) => primary.onChannelOpen(channel, nowMs))
  }

  onPeerMessage(channel: ChannelId, message: Message): void {
    this.#withPrimary((primary, nowMs) => primary.onMessage(channel, message, nowMs))
    this.#withBackup((backup, nowMs) => backup.onPeerMessage(channel, message, nowMs))
  }

  onBadPeerMessage(channel: ChannelId, detail: string): void {
    this.#withPrimary((primary, nowMs) => primary.onBadMessage(channel, detail, nowMs))
    this.#withBackup((backup, nowMs) => backup.onBadPeerMessage(channel, detail, nowMs))
  }

  onPeerClosed(channel: ChannelId): void {
    this.#withPrimary((primary, nowMs) => primary.onChannelClosed(channel, nowMs))
    this.#withBackup((backup, nowMs) => backup.onPeerClosed(channel, nowMs))
  }

  /** A sibling that was called. Whoever this replica is by then, backup or primary, hears of it. */
  onSiblingOpen(channel: ChannelId, replica: ReplicaName): void {
    this.#withPrimary((primary, nowMs) => primary.onSiblingOpen(channel, nowMs))
    this.#withBackup((backup) => backup.onSiblingOpen(channel, replica))
  }

  onSiblingUnreachable(replica: ReplicaName): void {
    this.#withBackup((backup, nowMs) => backup.onSiblingUnreachable(replica, nowMs))
  }

  onPrimaryOpen(): void {
    this.#withBackup((backup, nowMs) => backup.onChannelOpen(nowMs))
  }

  onPrimaryMessage(message: Message): void {
    this.#withBackup((backup, nowMs) => backup.onMessage(message, nowMs))
  }

  onBadPrimaryMessage(detail: string): void {
    this.#withBackup((backup, nowMs) => backup.onBadMessage(detail, nowMs))
  }

  onPrimaryClosed(): void {
    this.#withBackup((backup, nowMs) => backup.onChannelClosed(nowMs))
  }

  // ---- other facts -----------------------------------------------------------------------------------------------------------

  /** Call now and then. */
  onTick(reach: Reach): void {
    this.#withPrimary((primary, nowMs) => primary.onReach(reach, nowMs))
    this.#withBackup((backup, nowMs) => backup.onReach(reach, nowMs))
    this.onAlarm()
  }

  /** The protocol's own time: a heartbeat, a suspicion, a question to be asked again. */
  onAlarm(): void {
    this.#withPrimary((primary, nowMs) => primary.onTick(nowMs))
    this.#withBackup((backup, nowMs) => backup.onTick(nowMs))
  }

  /**
   * Only the live machine hears the world, and only once it is switched on: its log begins with its power-on. A backup
   * ignores what is meant for its own machine (Bressoud & Schneider, P3).
   * @returns whether it does
   */
  input(input: Interrupt): boolean {
    if (this.isLive) this.#world.hart.sendInput(input)
    return this.isLive
  }

  /** The receiver has, or will never have, every output of this kind up to this one. */
  onConfirmed(kind: ConfirmedKind, sequence: bigint): void {
    this.#withPrimary((primary) => primary.onConfirmed(kind, sequence))
  }

  onHart(message: FromHart): void {
    const { disks, console, hart } = this.#world
    switch (message.kind) {
      case 'recorded':
        for (const batch of message.batches) this.#withPrimary((primary, nowMs) => primary.onBatch(batch, nowMs))
        if (message.outputs.length > 0) this.#withPrimary((primary) => primary.onOutputs(message.outputs))
        return
      case 'replayed': {
        // A hart begins with an empty machine, and says so.
        if (this.#role.kind === 'none' || this.backup?.hasMachine === false) return
        const { replayedEnd, outputs, diskAnswers, need } = message
        disks.onReplayed(outputs, diskAnswers)
        if (need) disks.readAgain(need)
        for (const { output } of outputs) if (output.kind === 'console') console.onRegenerated(output)
        const hasRead = diskAnswers.some(({ isOwnRead }) => isOwnRead)
        const report = { replayedEnd, outputs, count: hart.instructions, hasRead, need }
        this.#withBackup((backup, nowMs) => backup.onReplayed(report, nowMs))
        return
      }
      case 'diverged':
        this.#withBackup((backup, nowMs) => backup.onDivergence(message.divergence, nowMs))
        return
      case 'live':
        this.#withPrimary((primary) => primary.onReissue(message.reissue))
        return
      case 'pages':
        this.#withPrimary((primary, nowMs) => primary.onPages(message.copy, message.bytes, nowMs))
        return
      case 'copied':
        this.#withPrimary((primary, nowMs) => primary.onCopied(message.copy, message.state, console.printed, nowMs))
        return
      case 'pagesLoaded':
        this.#withBackup((backup, nowMs) => backup.onPagesLoaded(message.bytes, nowMs))
        return
      case 'restored':
        this.backup?.onStateLoaded()
        disks.onRestored(message.inFlight, () => this.#withBackup((backup, nowMs) => backup.onRestored(nowMs)))
        return
      case 'restoreFailed':
        this.#withBackup((backup, nowMs) => backup.onRestoreFailed(message.detail, nowMs))
        return
      case 'off':
        // Its last output says so, too, when it is released.
        return
      default:
        unreachable(message)
    }
  }

  #withPrimary(fact: (primary: Primary, nowMs: number) => PrimaryEffect[]): void {
    if (this.#role.kind !== 'primary') return
    this.#effects.run(fact(this.#role.primary, this.#world.nowMs()), (effect) =>
      this.#observed(effect, () => this.#carryOutPrimary(effect)),
    )
    this.#setAlarm()
  }

  #withBackup(fact: (backup: Backup, nowMs: number) => BackupEffect[]): void {
    if (this.#role.kind !== 'backup') return
    this.#effects.run(fact(this.#role.backup, this.#world.nowMs()), (effect) =>
      this.#observed(effect, () => this.#carryOutBackup(effect)),
    )
    this.#setAlarm()
  }

  #observed(effect: ReplicaEffect, carryOut: () => void): void {
    const world = this.#world
    // It may have ended between two effects.
    if (this.#role.kind === 'halted') return
    world.beforeEffect?.(effect)
    if ((this.#role as ReplicaRole).kind === 'halted') return
    carryOut()
    world.afterEffect?.(effect)
  }

  #setAlarm(): void {
    if (this.#role.kind === 'primary') this.#world.setAlarm(this.#role.primary.dueMs)
    else if (this.#role.kind === 'backup') this.#world.setAlarm(this.#role.backup.dueMs)
  }

  /**
   * The role hears the answer to its last question only: a backup that was called away from an older one, and asks again in
   * a later generation, must not take that one's answer for this one's.
   */
  #answerToLast(): (answer: ArbiterAnswer) => void {
    const question = ++this.#questions
    return (answer) => {
      if (question !== this.#questions) return
      this.#withPrimary((primary, nowMs) => primary.onArbiterAnswer(answer, nowMs))
      this.#withBackup((backup, nowMs) => backup.onArbiterAnswer(answer, nowMs))
    }
  }

  // ---- effects of a primary ------------------------------------------------------------------------------------------------

  #carryOutPrimary(effect: PrimaryEffect): void {
    const { hart, peers, network, arbiter, disks } = this.#world
    switch (effect.kind) {
      case 'send':
        peers.send(effect.channel, effect.message)
        return
      case 'closeChannel':
        peers.close(effect.channel)
        return
      case 'release':
        for (const { output } of effect.outputs) this.#release(output)
        return
      case 'reissue':
        for (const request of effect.requests) disks.issue(request)
        return
      case 'acknowledged':
        hart.acknowledged(effect.end)
        return
      case 'covered':
        network?.covered(effect.frameId)
        return
      case 'openGeneration':
        arbiter.openGeneration(effect.generation, effect.eligible, this.#answerToLast())
        return
      case 'pauseHart':
        hart.send({ kind: 'pause', isPaused: true })
        return
      case 'resumeHart':
        hart.send({ kind: 'pause', isPaused: false })
        if (!this.#isPoweredOn) hart.send({ kind: 'powerOn' })
        this.#isPoweredOn = true
        return
      case 'setCpuPercent':
        hart.send({ kind: 'cpuPercent', percent: effect.percent })
        return
      case 'startCopy':
      case 'allowPages':
      case 'endCopy':
        hart.send(effect)
        return
      case 'flushDisks':
        disks.flush(
          () => this.#withPrimary((primary) => primary.onDisksFlushed(effect.copy)),
          (detail) => this.#withPrimary((primary, nowMs) => primary.onFlushFailed(effect.copy, detail, nowMs)),
        )
        return
      case 'enterGeneration':
        this.#sendUnconfirmed()
        return
      case 'backupLost':
      case 'reportDivergence':
        // For who observes.
        return
      case 'halt':
        this.halt(effect.detail)
        this.#world.onHalt(effect.reason, effect.detail)
        return
      default:
        unreachable(effect)
    }
  }

  /** To the outside world: this output's log entry is acknowledged, or nobody has to. */
  #release(output: Output): void {
    const { network, disks, console } = this.#world
    switch (output.kind) {
      case 'frame':
        if (network) network.send(output.sequence, output.bytes)
        else this.onConfirmed('frame', output.sequence)
        return
      case 'disk':
        disks.issue(output)
        return
      case 'console':
        console.write(output)
        this.onConfirmed('console', output.sequence)
        return
      case 'power':
        if (output.action === 'off') this.#world.onPowerOff(output.failed)
        return
      case 'entropyRequest':
        return
      default:
        unreachable(output)
    }
  }

  // ---- effects of a backup -------------------------------------------------------------------------------------------------

  #carryOutBackup(effect: BackupEffect): void {
    const { hart, peers, toPrimary, arbiter } = this.#world
    switch (effect.kind) {
      case 'send':
        toPrimary.send(effect.message)
        return
      case 'closeChannel':
        toPrimary.close()
        return
      case 'replay':
        hart.send({ kind: 'append', batch: effect.batch })
        return
      case 'loadPages':
        hart.send(effect, [effect.bytes.buffer as ArrayBuffer])
        return
      case 'loadState':
        this.#loadState(effect.state)
        return
      case 'testAndSet':
        arbiter.testAndSet(effect.generation, this.#answerToLast())
        return
      case 'callSiblings':
        this.#world.callSiblings(effect.siblings)
        return
      case 'sendPeer':
        peers.send(effect.channel, effect.message)
        return
      case 'closePeer':
        peers.close(effect.channel)
        return
      case 'adoptPeer':
        this.#world.adoptPeer(effect.channel)
        return
      case 'goLive':
        this.#goLive(effect)
        return
      case 'reportDivergence':
        // For who observes.
        return
      case 'halt':
        this.halt(effect.detail)
        this.#world.onHalt(effect.reason, effect.detail)
        return
      default:
        unreachable(effect)
    }
  }

  /** All pages were given to the hart: here is the rest, and what this host has to know of the past. */
  #loadState({ hart, host, unconfirmed }: TransferredState): void {
    this.#world.hart.send({ kind: 'loadState', state: hart })
    try {
      this.#world.console.beginAt(host, consoleOutputsOf(unconfirmed))
    } catch (error) {
      if (!(error instanceof WorldError)) throw error
      this.#withBackup((backup, nowMs) => backup.onRestoreFailed(error.message, nowMs))
    }
  }

  /**
   * What was regenerated and is not confirmed goes out again, before any output of its own: at once, or, where siblings may be
   * eligible still, with the first generation that this replica opens.
   */
  #sendUnconfirmed(): void {
    const inherited = this.#inheritedOutputs
    if (!inherited) return
    this.#inheritedOutputs = undefined
    const { runId, unconfirmed } = inherited
    this.#world.console.goLive(runId, consoleOutputsOf(unconfirmed))
    for (const { output } of unconfirmed) {
      if (output.kind === 'frame') this.#release(output)
      else this.onConfirmed('console', output.sequence)
    }
  }

  /** The machine is ours, and all that was acknowledged is replayed: send the unconfirmed, bind, re-issue, run on. */
  #goLive({
    generation,
    runId,
    unconfirmed,
    joiners,
    coveredFrameId = 0n,
  }: Extract<BackupEffect, { kind: 'goLive' }>): void {
    assert(this.#role.kind === 'backup', 'a backup goes live')
    const { hart, network, disks } = this.#world
    const primary = this.#role.backup.toPrimary()
    this.#role = { kind: 'primary', primary }
    this.#isPoweredOn = true
    hart.send({ kind: 'goLive' })
    this.#inheritedOutputs = { runId, unconfirmed }
    const hasHeirs = primary.state === 'asking'
    if (!hasHeirs) this.#sendUnconfirmed()
    // Before the first output: it waits for those who follow already.
    for (const { channel, hello } of joiners) {
      this.onPeerOpen(channel)
      this.onPeerMessage(channel, hello)
    }
    this.startPrimary()
    const binding = { generation: BigInt(generation), logId: runId, receivedFrameId: coveredFrameId }
    // An heir may lack frames that are in this log.
    network?.bind({ ...binding, coveredFrameId: hasHeirs ? 0n : coveredFrameId })
    disks.connect(generation)
  }
}

function consoleOutputsOf(outputs: readonly { readonly output: Output }[]): ConsoleOutput[] {
  return outputs.flatMap(({ output }) => (output.kind === 'console' ? [output] : []))
}
