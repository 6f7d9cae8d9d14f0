/**
 * One replica: the sans-I/O protocol (replication/) wired to a hart, sockets, disk, network, arbiter and console.
 *
 *   hart ──log batches, outputs──► Primary ──effects──► logging channel, DiskBackend, NetworkBackend, console
 *   channel ──messages──► Backup ──effects──► hart (replay), arbiter (test-and-set), go live
 *
 * Nothing is decided here: every fact goes to the role, every effect it returns is carried out in order. A replica that
 * goes live changes its role object and keeps everything else.
 */

import { randomBytes } from 'node:crypto'
import { assert, ExitCode, unreachable, WorldError } from '../base/assert.ts'
import type { Interrupt } from '../hypervisor/epoch/interrupts.ts'
import type { BootArtefacts } from '../log/boot-artefacts.ts'
import { type BytesByCause, type MarkedOutput, noBytesByCause, type Output } from '../log/entry.ts'
import type { Backup } from '../replication/backup.ts'
import { EffectQueue } from '../replication/effect-queue.ts'
import {
  type ArbiterAnswer,
  type BackupEffect,
  type ChannelId,
  exitCodeOfHalt,
  type PrimaryEffect,
} from '../replication/effects.ts'
import type { Sibling } from '../replication/messages.ts'
import type { Primary } from '../replication/primary.ts'
import { fullReach } from '../replication/reach.ts'
import type { TransferredState } from '../replication/transferred-state.ts'
import { Alarm } from './alarm.ts'
import { ArbiterBackend } from './arbiter-backend.ts'
import { CopyStamp } from './copy-stamp.ts'
import type { DiskBackend } from './disk-backend.ts'
import { type Equipment, equip } from './equipment.ts'
import type { Hart } from './hart.ts'
import type { FromHartThread } from './hart-messages.ts'
import type { NetworkBackend } from './network-backend.ts'
import { type OutputDelayCounts, OutputDelays } from './output-delays.ts'
import type { OwnCopies } from './own-copies.ts'
import { PeerChannels } from './peer-channels.ts'
import { PrimaryChannel } from './primary-channel.ts'
import { ReplicaCables } from './replica-cables.ts'
import { ReplicaConsole } from './replica-console.ts'
import type { ReplicaEvents, ReplicaFault, ReplicaSettings } from './replica-settings.ts'
import { type OwnVm, ReplicaStart, readOwnVm } from './replica-start.ts'
import {
  backupsOf,
  type FailoverTimes,
  failoverTimes,
  flowOf,
  longestLagMs,
  type Repeats,
  type ReplicaProtection,
  type ReplicaStatus,
} from './replica-status.ts'
import { SiblingCaller } from './sibling-caller.ts'

/** Hart and surroundings are looked after so often, whatever the protocol has to do. */
export const tickIntervalMs = 500
/** A main thread that is so late, and later, explains a suspicion. */
const worthTellingLateMs = 200

type Role =
  | { readonly kind: 'none' }
  | { readonly kind: 'primary'; readonly primary: Primary }
  | { readonly kind: 'backup'; readonly backup: Backup }
  | { readonly kind: 'halted'; readonly reason: string }

export class Replica {
  readonly #settings: ReplicaSettings
  readonly #events: ReplicaEvents
  readonly #vm: OwnVm | undefined
  readonly #arbiter: ArbiterBackend
  /** Undefined until the machine is known. */
  #equipment: Equipment | undefined
  /** Of a backup: its own copies of disks, until they are as good as the primary's. */
  #copies: OwnCopies | undefined
  readonly #console: ReplicaConsole
  readonly #peers: PeerChannels
  #siblings: SiblingCaller | undefined
  readonly #toPrimary: PrimaryChannel
  #role: Role = { kind: 'none' }
  readonly #effects = new EffectQueue()
  #copyPauseMs: number | undefined
  readonly #cables = new ReplicaCables()
  #generation = 0
  /** Asked of the arbiter so far. */
  #questions = 0
  #isPoweredOn = false
  #isOff = false
  #divergences = 0
  #repeats: Repeats = { console: 0, disk: 0 }
  #bytesByCause: BytesByCause = noBytesByCause()
  readonly #outputDelays = new OutputDelays()
  #failover: FailoverTimes | undefined
  #failoverCause = ''
  #ticker: NodeJS.Timeout | undefined
  #lastTickMs = 0
  readonly #alarm = new Alarm(() => this.#tickRole())
  #reach = fullReach
  readonly #runId = randomBytes(8).readBigUInt64LE()
  /** Ends what `start` still waits for. */
  readonly #ending = new AbortController()

  /** @throws WorldError when the VM's file or what it boots from is not in order */
  constructor(settings: ReplicaSettings, events: ReplicaEvents) {
    this.#settings = this.#cables.laidInto(settings)
    this.#events = events
    this.#vm = settings.vmPath === undefined ? undefined : readOwnVm(settings.vmPath)
    const { machine, replica, token } = settings
    this.#arbiter = new ArbiterBackend({
      endpoint: this.#settings.arbiter,
      etcd: this.#settings.etcd,
      machine,
      replica,
      token,
      onFenced: () => this.#onFenced(),
      trace: events.trace,
    })
    this.#peers = new PeerChannels({
      onOpen: (id) => this.#withPrimary((primary) => primary.onChannelOpen(id, performance.now())),
      onMessage: (id, message) => {
        this.#withPrimary((primary) => primary.onMessage(id, message, performance.now()))
        this.#withBackup((backup) => backup.onPeerMessage(id, message, performance.now()))
      },
      onBadMessage: (id, detail) => {
        this.#withPrimary((primary) => primary.onBadMessage(id, detail, performance.now()))
        this.#withBackup((backup) => backup.onBadPeerMessage(id, detail, performance.now()))
      },
      onClosed: (id) => {
        this.#withPrimary((primary) => primary.onChannelClosed(id, performance.now()))
        this.#withBackup((backup) => backup.onPeerClosed(id, performance.now()))
      },
    })
    this.#toPrimary = new PrimaryChannel(settings.primaries ?? [], this.#peers.traffic)
    this.#console = new ReplicaConsole(settings.folderPath, events)
  }

  get #comingRole(): 'primary' | 'backup' {
    return this.#settings.role === 'backup' ? 'backup' : 'primary'
  }

  get #hart(): Hart {
    return this.#equipped.hart
  }

  get #disk(): DiskBackend {
    return this.#equipped.disk
  }

  get #network(): NetworkBackend | undefined {
    return this.#equipped.network
  }

  get #equipped(): Equipment {
    assert(this.#equipment, 'a replica with a role knows its machine')
    return this.#equipment
  }

  /**
   * Takes its role. A primary listens for its backup and waits for it before the guest starts; `alone` starts at once; a
   * backup connects and follows.
   */
  async start(): Promise<void> {
    this.#lastTickMs = performance.now()
    this.#ticker = setInterval(() => this.#tick(), tickIntervalMs)
    const start = new ReplicaStart({
      settings: this.#settings,
      vm: this.#vm,
      arbiter: this.#arbiter,
      equip: (artefacts) => this.#equip(artefacts),
      trace: this.#events.trace,
      signal: this.#ending.signal,
    })
    if (this.#settings.role === 'backup') await this.#startAsBackup(start)
    else await this.#startAsPrimary(start)
  }

  async #startAsPrimary(start: ReplicaStart): Promise<void> {
    assert(this.#vm, 'a primary has a VM file')
    const primary = await start.primary(this.#vm, this.#runId)
    this.#role = { kind: 'primary', primary }
    this.#generation = primary.status.generation
    this.#console.begin(this.#runId)
    this.#events.onLive(this.#generation)
    await this.#listen()
    this.#withPrimary(() => primary.start())
  }

  /** For other replicas of the machine: backups, or a sibling that goes live. */
  async #listen(): Promise<void> {
    const { listen } = this.#settings
    if (listen) await this.#peers.listen(listen, this.#events.trace)
  }

  async #startAsBackup(start: ReplicaStart): Promise<void> {
    await this.#listen()
    const started = await start.backup(this.#toPrimary)
    if (!started) return
    const { backup } = started
    this.#copies = started.copies
    this.#role = { kind: 'backup', backup }
    this.#toPrimary.listen({
      onMessage: (message) => this.#withBackup(() => backup.onMessage(message, performance.now())),
      onBadMessage: (detail) => this.#withBackup(() => backup.onBadMessage(detail, performance.now())),
      onClosed: () => this.#withBackup(() => backup.onChannelClosed(performance.now())),
    })
    this.#withBackup(() => backup.onChannelOpen(performance.now()))
  }

  /** Ends in good order: the peer is told, the arbiter's hold is let go. */
  async stop(): Promise<void> {
    this.#ending.abort()
    const reason = 'the operator ended it'
    if (this.#role.kind === 'primary') {
      this.#withPrimary((primary) => primary.onShutdown(reason, performance.now()))
      await this.#arbiter.release(this.#generation)
    } else if (this.#role.kind === 'backup') {
      this.#withBackup((backup) => backup.onShutdown(reason, performance.now()))
    }
    await this.#end()
  }

  sendConsoleInput(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#input({ kind: 'consoleInput', bytes })
  }

  /**
   * Presses the machine's power button.
   * @returns false: nobody heard it, because no driver of the guest has taken it (yet), or this replica is not live
   */
  pressPowerButton(): boolean {
    return this.#hart.hasPowerButtonDriver && this.#input({ kind: 'powerButton' })
  }

  /**
   * The backup leaves, in order; the machine goes on without. That takes the arbiter's word: `status` says when it is done.
   * @returns false: there is no backup to leave, or the set of backups is changing already
   */
  unprotect(): boolean {
    if (this.#role.kind !== 'primary' || this.#role.primary.state === 'asking') return false
    this.#events.trace('the operator unprotects the machine')
    this.#withPrimary((primary) => primary.unprotect())
    return true
  }

  /**
   * The backup takes the machine over; this replica ends.
   * @returns false: there is no backup that could
   */
  handOver(): boolean {
    this.#withPrimary((primary) => primary.handOver(performance.now()))
    return this.#role.kind === 'halted'
  }

  /** For fault trials: something of this replica fails while the rest of it lives. */
  injectFault(fault: ReplicaFault): void {
    this.#events.trace(`fault injected: ${fault.kind}`)
    switch (fault.kind) {
      case 'cutChannel':
        this.#peers.cut(fault.direction)
        this.#toPrimary.cut(fault.direction)
        return
      case 'delayChannel':
        this.#toPrimary.delay(fault.oneWayMs)
        return
      case 'hart':
        this.#hart.send({ kind: 'fault', fault: fault.fault })
        return
      case 'slowHart':
        this.#hart.send({ kind: 'cpuPercent', percent: fault.percent })
        return
      case 'cutReach':
        this.#cables.cut(fault.of)
        return
      case 'mendReach':
        this.#cables.mend(fault.of)
        return
      case 'loseArbiterAnswers':
        this.#cables.loseArbiterAnswers()
        return
      default:
        unreachable(fault)
    }
  }

  /** Whether the machine that this replica holds has the backups it is to have. Undefined: it holds none. */
  get protection(): ReplicaProtection | undefined {
    if (this.#role.kind !== 'primary') return undefined
    const { state, backups, transfer } = this.#role.primary.status
    const isComplete = backups.length >= this.#equipped.policy.backups
    return { state, isComplete, hasTransfer: transfer !== undefined }
  }

  /** Counts, for who measures a while: `status` sums up all since the start. */
  get outputDelayCounts(): OutputDelayCounts {
    return this.#outputDelays.counts
  }

  status(): ReplicaStatus {
    const role = this.#role
    const primary = role.kind === 'primary' ? role.primary.status : undefined
    const backup = role.kind === 'backup' ? role.backup.status(performance.now()) : undefined
    return {
      name: this.#settings.replica,
      pid: process.pid,
      role: primary ? 'primary' : backup ? 'backup' : role.kind === 'none' ? this.#comingRole : 'halted',
      state: primary?.state ?? backup?.state ?? (role.kind === 'none' ? 'waiting' : 'halted'),
      isProtected: primary?.state === 'protected',
      isListed: backup?.isListed ?? false,
      transfer: primary?.transfer,
      copyPauseMs: this.#copyPauseMs,
      reach: this.#reach,
      generation: primary?.generation ?? backup?.generation ?? this.#generation,
      discipline: this.#equipment?.policy.discipline,
      instructions: Number(this.#equipment?.hart.instructions ?? 0n),
      guestSeconds: Number(this.#equipment?.hart.ticks ?? 0n) / 1e7,
      lagMs: primary ? longestLagMs(primary) : backup?.progress.lagMs,
      backups: primary ? backupsOf(primary) : [],
      wantedBackups: this.#equipment?.policy.backups ?? 1,
      flow: primary && flowOf(primary),
      logBytesByCause: this.#bytesByCause,
      outputDelays: this.#outputDelays.summaries,
      channelBytes: this.#peers.traffic.bytes,
      frameDelays: this.#equipment?.hart.frameDelays ?? { count: 0, medianMs: 0, p99Ms: 0 },
      digestChecks: Number(this.#equipment?.hart.digestsCompared ?? 0n),
      divergences: this.#divergences,
      repeats: this.#repeats,
      failover: this.#failover,
      isOff: this.#isOff,
      haltReason: role.kind === 'halted' ? role.reason : undefined,
    }
  }

  // ---- equipment -----------------------------------------------------------------------------------------------------------

  /** The machine is known: from here on this host has a hart, disks and a network for it. */
  #equip(artefacts: BootArtefacts): Equipment {
    this.#equipment = equip(this.#settings, artefacts, {
      onHart: (message) => this.#onHart(message),
      onDiskAnswer: (answer) => this.#input({ kind: 'diskCompletion', ...answer }),
      onFrame: (frameId, bytes) => this.#input({ kind: 'frame', frameId, bytes }),
      onFrameConfirmed: (sequence) => this.#withPrimary((primary) => primary.onConfirmed('frame', sequence)),
      onFenced: () => this.#onFenced(),
      isProtected: () => this.#role.kind === 'primary' && this.#role.primary.state === 'protected',
      onHalt: (error) => this.#halt(error),
      trace: this.#events.trace,
    })
    return this.#equipment
  }

  #onFenced(): void {
    this.#halt(new WorldError('lost-arbitration', 'another replica holds the machine', ExitCode.lostArbitration))
  }

  // ---- facts -----------------------------------------------------------------------------------------------------------

  #tick(): void {
    const nowMs = performance.now()
    const lateMs = nowMs - this.#lastTickMs - tickIntervalMs
    if (lateMs > worthTellingLateMs) this.#events.trace(`the main thread stood still for ${Math.round(lateMs)} ms`)
    this.#lastTickMs = nowMs
    if (this.#role.kind === 'none') return
    this.#hart.watch()
    this.#reach = { disk: this.#arbiter.onTick(this.#role.kind === 'primary'), lan: this.#network?.onTick() ?? true }
    this.#withPrimary((primary) => primary.onReach(this.#reach, performance.now()))
    this.#withBackup((backup) => backup.onReach(this.#reach, performance.now()))
    this.#tickRole()
    this.#events.onBackupsMayDiffer?.()
  }

  /** The protocol's own time: a heartbeat, a suspicion, a question to be asked again. */
  #tickRole(): void {
    this.#withPrimary((primary) => primary.onTick(performance.now()))
    this.#withBackup((backup) => backup.onTick(performance.now()))
  }

  /**
   * Only the live machine hears the world, and only once it is switched on: its log begins with its power-on. A backup
   * ignores what is meant for its own machine (Bressoud & Schneider, P3).
   * @returns whether it does
   */
  #input(input: Interrupt): boolean {
    const isListening = this.#role.kind === 'primary' && this.#isPoweredOn
    if (isListening) this.#hart.sendInput(input)
    return isListening
  }

  #onHart(message: FromHartThread): void {
    switch (message.kind) {
      case 'recorded':
        this.#bytesByCause = message.bytesByCause
        for (const batch of message.batches) this.#withPrimary((primary) => primary.onBatch(batch, performance.now()))
        if (message.outputs.length === 0) return
        this.#outputDelays.onSent(message.outputs, message.outputsSinceNs, process.hrtime.bigint())
        this.#withPrimary((primary) => primary.onOutputs(message.outputs))
        return
      case 'replayed': {
        const { replayedEnd, outputs, diskAnswers } = message
        this.#keepCopies()
        this.#disk.onReplayed(outputs, diskAnswers)
        for (const { output } of outputs) {
          if (output.kind === 'console') this.#console.onRegenerated(output)
        }
        const report = { replayedEnd, outputs, count: this.#hart.instructions }
        this.#withBackup((backup) => backup.onReplayed(report, performance.now()))
        return
      }
      case 'diverged':
        this.#divergences++
        this.#withBackup((backup) => backup.onDivergence(message.divergence, performance.now()))
        return
      case 'live':
        this.#repeats = { ...this.#repeats, disk: message.reissue.length }
        for (const request of message.reissue) this.#disk.issue(request)
        return
      case 'pages':
        this.#withPrimary((primary) => primary.onPages(message.copy, message.bytes, performance.now()))
        return
      case 'copied': {
        const { copy, state, pauseMs, rounds } = message
        this.#events.trace(`the machine is copied, in ${rounds} rounds; it stood still for ${pauseMs.toFixed(1)} ms`)
        this.#copyPauseMs = pauseMs
        this.#withPrimary((primary) => primary.onCopied(copy, state, this.#console.printed, performance.now()))
        return
      }
      case 'pagesLoaded':
        this.#withBackup((backup) => backup.onPagesLoaded(message.bytes, performance.now()))
        return
      case 'restored':
        this.#disk.follow(message.inFlight)
        this.#events.trace("the machine is here, and has the digest of the primary's")
        void this.#finishCopies().then(() => this.#withBackup((backup) => backup.onRestored(performance.now())))
        return
      case 'restoreFailed':
        this.#withBackup((backup) => backup.onRestoreFailed(message.detail, performance.now()))
        return
      case 'off':
        this.#isOff = true
        return
      case 'profile':
        this.#events.onProfile?.(message.profile)
        return
      default:
        unreachable(message)
    }
  }

  #withPrimary(fact: (primary: Primary) => PrimaryEffect[]): void {
    if (this.#role.kind !== 'primary') return
    this.#effects.run(fact(this.#role.primary), (effect) => this.#carryOutPrimary(effect))
    this.#setAlarm()
  }

  #withBackup(fact: (backup: Backup) => BackupEffect[]): void {
    if (this.#role.kind !== 'backup') return
    this.#effects.run(fact(this.#role.backup), (effect) => this.#carryOutBackup(effect))
    this.#setAlarm()
  }

  #setAlarm(): void {
    if (this.#role.kind === 'primary') this.#alarm.set(this.#role.primary.dueMs)
    else if (this.#role.kind === 'backup') this.#alarm.set(this.#role.backup.dueMs)
  }

  /**
   * The role hears the answer to its last question only: a backup that was called away from an older one, and asks again in
   * a later generation, must not take that one's answer for this one's.
   */
  #ask(asked: Promise<ArbiterAnswer>): void {
    const question = ++this.#questions
    void asked.then((answer) => {
      if (question !== this.#questions) return
      this.#withPrimary((primary) => primary.onArbiterAnswer(answer, performance.now()))
      this.#withBackup((backup) => backup.onArbiterAnswer(answer, performance.now()))
    })
  }

  // ---- effects of a primary ----------------------------------------------------------------------------------------------

  #carryOutPrimary(effect: PrimaryEffect): void {
    switch (effect.kind) {
      case 'send':
        this.#peers.send(effect.channel, effect.message)
        return
      case 'closeChannel':
        this.#peers.close(effect.channel)
        return
      case 'release':
        this.#outputDelays.onReleased(effect.outputs, effect.afterAcknowledged !== undefined, process.hrtime.bigint())
        for (const marked of effect.outputs) this.#release(marked)
        return
      case 'acknowledged':
        this.#hart.acknowledged(effect.end)
        return
      case 'covered':
        this.#network?.covered(effect.frameId)
        return
      case 'openGeneration':
        this.#ask(this.#arbiter.openGeneration(effect.generation, effect.eligible))
        return
      case 'enterGeneration':
        this.#generation = effect.generation
        this.#events.trace(`generation ${effect.generation}, backups: ${effect.eligible.join(', ') || 'none'}`)
        this.#events.onBackupsMayDiffer?.()
        return
      case 'pauseHart':
        this.#events.trace(`hart paused: ${effect.reason}`)
        this.#hart.send({ kind: 'pause', isPaused: true })
        return
      case 'resumeHart':
        this.#hart.send({ kind: 'pause', isPaused: false })
        if (!this.#isPoweredOn) this.#hart.send({ kind: 'powerOn' })
        this.#isPoweredOn = true
        return
      case 'setCpuPercent':
        this.#hart.send({ kind: 'cpuPercent', percent: effect.percent })
        return
      case 'startCopy':
        this.#events.trace('copying the machine for a backup')
        this.#hart.send(effect)
        return
      case 'allowPages':
      case 'endCopy':
        this.#hart.send(effect)
        return
      case 'flushDisks':
        this.#flushFor(effect.copy)
        return
      case 'backupLost':
        this.#events.trace(`backup ${effect.backup} lost: ${effect.cause}, ${effect.detail}`)
        this.#events.onBackupsMayDiffer?.()
        return
      case 'reportDivergence':
        this.#divergences++
        return
      case 'halt':
        this.#onProtocolHalt(effect.reason, effect.detail)
        return
      default:
        unreachable(effect)
    }
  }

  #flushFor(copy: ChannelId): void {
    this.#disk.flush().then(
      () => this.#withPrimary((primary) => primary.onDisksFlushed(copy)),
      (error: Error) => this.#withPrimary((primary) => primary.onFlushFailed(copy, error.message, performance.now())),
    )
  }

  /** To the outside world: this output's log entry is acknowledged, or nobody has to. */
  #release({ output }: MarkedOutput): void {
    switch (output.kind) {
      case 'frame':
        this.#noteFirstOutput()
        if (this.#network) this.#network.send(output.sequence, output.bytes)
        else this.#withPrimary((primary) => primary.onConfirmed('frame', output.sequence))
        return
      case 'disk':
        this.#disk.issue(output)
        return
      case 'console':
        this.#writeConsole(output)
        return
      case 'power':
        if (output.action === 'off') void this.#powerOff(output.failed)
        return
      case 'entropyRequest':
        return
      default:
        unreachable(output)
    }
  }

  #writeConsole(output: Extract<Output, { kind: 'console' }>): void {
    this.#console.write(output)
    this.#withPrimary((primary) => primary.onConfirmed('console', output.sequence))
  }

  async #powerOff(failed: boolean): Promise<void> {
    this.#isOff = true
    await this.stop()
    this.#events.onOff(failed)
  }

  // ---- effects of a backup -----------------------------------------------------------------------------------------------

  #carryOutBackup(effect: BackupEffect): void {
    switch (effect.kind) {
      case 'send':
        this.#toPrimary.send(effect.message)
        return
      case 'closeChannel':
        this.#failoverCause = effect.reason
        this.#toPrimary.close()
        return
      case 'replay':
        this.#hart.send({ kind: 'append', batch: effect.batch })
        return
      case 'loadPages':
        this.#hart.send(effect, [effect.bytes.buffer as ArrayBuffer])
        return
      case 'loadState':
        this.#loadState(effect.state)
        return
      case 'testAndSet':
        this.#events.trace(`primary lost (${this.#failoverCause}): test-and-set of generation ${effect.generation}`)
        this.#ask(this.#arbiter.testAndSet(effect.generation))
        return
      case 'callSiblings':
        this.#callSiblings(effect.siblings)
        return
      case 'sendPeer':
        this.#peers.send(effect.channel, effect.message)
        return
      case 'closePeer':
        this.#peers.close(effect.channel)
        return
      case 'adoptPeer': {
        const channel = this.#peers.take(effect.channel)
        if (channel) this.#toPrimary.adopt(channel)
        return
      }
      case 'goLive':
        this.#goLive(effect)
        return
      case 'reportDivergence':
        return
      case 'halt':
        this.#onProtocolHalt(effect.reason, effect.detail)
        return
      default:
        unreachable(effect)
    }
  }

  /** All pages were given to the hart: here is the rest, and what this host has to know of the past. */
  #loadState({ hart, host, unconfirmed }: TransferredState): void {
    this.#hart.send({ kind: 'loadState', state: hart })
    try {
      this.#console.beginAt(
        host,
        unconfirmed.flatMap(({ output }) => (output.kind === 'console' ? [output] : [])),
      )
    } catch (error) {
      if (!(error instanceof WorldError)) throw error
      this.#withBackup((backup) => backup.onRestoreFailed(error.message, performance.now()))
    }
  }

  /** Whoever this replica is by the time that a sibling answers, backup or primary, hears of it. */
  #callSiblings(siblings: readonly Sibling[]): void {
    this.#siblings = new SiblingCaller({
      peers: this.#peers,
      key: this.#settings.listen?.key,
      callMs: this.#equipped.policy.callMs,
      onOpen: (id, replica) => {
        this.#withPrimary((primary) => primary.onSiblingOpen(id, performance.now()))
        this.#withBackup((backup) => backup.onSiblingOpen(id, replica))
      },
      onUnreachable: (replica) => this.#withBackup((backup) => backup.onSiblingUnreachable(replica, performance.now())),
      trace: this.#events.trace,
    })
    this.#siblings.call(siblings)
  }

  /** The machine is ours, and all that was acknowledged is replayed: bind, send the unconfirmed, re-issue, run on. */
  #goLive(effect: Extract<BackupEffect, { kind: 'goLive' }>): void {
    assert(this.#role.kind === 'backup', 'a backup goes live')
    const primary = this.#role.backup.toPrimary()
    this.#role = { kind: 'primary', primary }
    this.#generation = effect.generation
    this.#isPoweredOn = true
    this.#failover = { ...failoverTimes(effect.timing), cause: this.#failoverCause }
    this.#events.onLive(effect.generation)
    this.#hart.send({ kind: 'goLive' })
    const console = effect.unconfirmed.flatMap(({ output }) => (output.kind === 'console' ? [output] : []))
    this.#repeats = { ...this.#repeats, console: this.#console.goLive(effect.runId, console) }
    for (const { output } of effect.unconfirmed) {
      if (output.kind === 'frame') this.#release({ output, markerIndex: effect.logEnd })
      else this.#withPrimary(() => primary.onConfirmed('console', output.sequence))
    }
    // Before the first output: it waits for those who follow already.
    for (const { channel, hello } of effect.joiners) {
      this.#withPrimary(() => primary.onChannelOpen(channel, performance.now()))
      this.#withPrimary(() => primary.onMessage(channel, hello, performance.now()))
    }
    this.#withPrimary(() => primary.start())
    const generation = BigInt(effect.generation)
    void this.#network
      ?.bind({ generation, coveredFrameId: effect.coveredFrameId ?? 0n, logId: effect.runId })
      .catch((error: Error) => this.#halt(new WorldError('bind-refused', error.message, ExitCode.lostArbitration)))
    void this.#disk.connect(generation).then(() => this.#stampCopies(effect.generation))
    this.#events.trace(`live in generation ${effect.generation}, from log entry ${effect.logEnd}`)
    this.#events.onBackupsMayDiffer?.()
  }

  /** It follows from the first entry on: its copies are as good as the primary's, which have not changed since. */
  #keepCopies(): void {
    if (!this.#copies) return
    void this.#copies.close()
    this.#copies = undefined
    this.#disk.begin()
  }

  /** It has the state of a machine that runs: what the primary's copies changed until then is copied first. */
  async #finishCopies(): Promise<void> {
    const copies = this.#copies
    this.#copies = undefined
    try {
      await copies?.finish()
    } catch (error) {
      if (!(error instanceof WorldError)) throw error
      this.#halt(error)
    }
    this.#disk.begin()
  }

  /** What this replica followed is on its own copies now: from here on they are the machine's disks. */
  #stampCopies(generation: number): void {
    if (this.#role.kind !== 'primary' || !this.#equipped.hasOwnDisks) return
    CopyStamp.of(this.#settings.folderPath, this.#settings.replica).write({ state: 'live', generation })
  }

  #noteFirstOutput(): void {
    if (this.#failover && this.#failover.firstOutputAt === undefined) {
      this.#failover = { ...this.#failover, firstOutputAt: performance.timeOrigin + performance.now() }
    }
  }

  // ---- the end -----------------------------------------------------------------------------------------------------------

  #onProtocolHalt(reason: Parameters<typeof exitCodeOfHalt>[0], detail: string): void {
    if (reason === 'shutdown') {
      this.#role = { kind: 'halted', reason: detail }
      return
    }
    this.#halt(new WorldError(`halted-${reason}`, detail, exitCodeOfHalt(reason)))
  }

  #halt(error: WorldError): void {
    if (this.#role.kind === 'halted') return
    this.#role = { kind: 'halted', reason: error.message }
    this.#equipment?.disk.drop()
    void this.#end().then(() => this.#events.onHalt(error))
  }

  async #end(): Promise<void> {
    clearInterval(this.#ticker)
    this.#alarm.cancel()
    this.#siblings?.close()
    this.#peers.closeAll()
    this.#toPrimary.close()
    this.#console.close()
    this.#equipment?.network?.close()
    await this.#equipment?.hart.stop()
    await this.#equipment?.disk.close()
    this.#arbiter.close()
  }
}
