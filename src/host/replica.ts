/**
 * One replica of this host: the sans-I/O `ReplicaCore` wired to a hart's thread, sockets, disks, network, arbiter and console.
 * Nothing is decided here. What it adds is the way to a role and from it (start, the end), and what `status` says.
 */

import { randomBytes } from 'node:crypto'
import { assert, ExitCode, unreachable, WorldError } from '../base/assert.ts'
import type { BootArtefacts } from '../log/boot-artefacts.ts'
import { type BytesByCause, noBytesByCause } from '../log/entry.ts'
import { Alarm, type AlarmClock } from '../replica/alarm.ts'
import { DisksWithCopies, type NearlyEqualCopies } from '../replica/disks-with-copies.ts'
import { ReplicaCore } from '../replica/replica-core.ts'
import type { NetworkPort, ReplicaEffect, ReplicaWorld } from '../replica/replica-world.ts'
import { exitCodeOfHalt } from '../replication/effects.ts'
import type { Sibling } from '../replication/messages.ts'
import { fullReach } from '../replication/reach.ts'
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
  type ReplicaProtection,
  type ReplicaStatus,
} from './replica-status.ts'
import { SiblingCaller } from './sibling-caller.ts'

/** Hart and surroundings are looked after so often, whatever the protocol has to do. */
export const tickIntervalMs = 500
const alarmClock: AlarmClock = {
  nowMs: () => performance.now(),
  after: (delayMs, ring) => {
    const timer = setTimeout(ring, delayMs)
    return () => clearTimeout(timer)
  },
}
/** A main thread that is so late, and later, explains a suspicion. */
const worthTellingLateMs = 200

export class Replica {
  readonly #settings: ReplicaSettings
  readonly #events: ReplicaEvents
  readonly #vm: OwnVm | undefined
  readonly #arbiter: ArbiterBackend
  /** Undefined until the machine is known. */
  #equipment: Equipment | undefined
  #networkPort: NetworkPort | undefined
  readonly #disks: DisksWithCopies
  readonly #console: ReplicaConsole
  readonly #peers: PeerChannels
  #siblings: SiblingCaller | undefined
  readonly #toPrimary: PrimaryChannel
  readonly #core: ReplicaCore
  #copyPauseMs: number | undefined
  readonly #cables = new ReplicaCables()
  #generation = 0
  #isOff = false
  #divergences = 0
  /** Disk requests that were issued again. */
  #reissued = 0
  #bytesByCause: BytesByCause = noBytesByCause()
  readonly #outputDelays = new OutputDelays()
  #failover: FailoverTimes | undefined
  #failoverCause = ''
  #ticker: NodeJS.Timeout | undefined
  #lastTickMs = 0
  readonly #alarm = new Alarm(alarmClock, () => this.#core.onAlarm())
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
      onOpen: (id) => this.#core.onPeerOpen(id),
      onMessage: (id, message) => this.#core.onPeerMessage(id, message),
      onBadMessage: (id, detail) => this.#core.onBadPeerMessage(id, detail),
      onClosed: (id) => this.#core.onPeerClosed(id),
    })
    this.#toPrimary = new PrimaryChannel(settings.primaries ?? [], this.#peers.traffic)
    this.#console = new ReplicaConsole(settings.folderPath, events)
    this.#disks = this.#newDisks()
    this.#core = new ReplicaCore(this.#world())
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
    this.#core.becomePrimary(primary)
    this.#generation = primary.status.generation
    this.#console.begin(this.#runId)
    this.#events.onLive(this.#generation)
    await this.#listen()
    this.#core.startPrimary()
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
    const core = this.#core
    if (started.copies) this.#disks.take(this.#finishable(started.copies))
    core.becomeBackup(started.backup)
    this.#toPrimary.listen({
      onMessage: (message) => core.onPrimaryMessage(message),
      onBadMessage: (detail) => core.onBadPrimaryMessage(detail),
      onClosed: () => core.onPrimaryClosed(),
    })
    core.onPrimaryOpen()
  }

  /** Ends in good order: the peer is told, the arbiter's hold is let go. */
  async stop(): Promise<void> {
    this.#ending.abort()
    const isPrimary = this.#core.primary !== undefined
    this.#core.shutDown('the operator ended it')
    if (isPrimary) await this.#arbiter.release(this.#generation)
    await this.#end()
  }

  sendConsoleInput(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#core.input({ kind: 'consoleInput', bytes })
  }

  /**
   * Presses the machine's power button.
   * @returns false: nobody heard it, because no driver of the guest has taken it (yet), or this replica is not live
   */
  pressPowerButton(): boolean {
    return this.#hart.hasPowerButtonDriver && this.#core.input({ kind: 'powerButton' })
  }

  /**
   * The backup leaves, in order; the machine goes on without. That takes the arbiter's word: `status` says when it is done.
   * @returns false: there is no backup to leave, or the set of backups is changing already
   */
  unprotect(): boolean {
    const isDone = this.#core.unprotect()
    if (isDone) this.#events.trace('the operator unprotects the machine')
    return isDone
  }

  /**
   * The backup takes the machine over; this replica ends.
   * @returns false: there is no backup that could
   */
  handOver(): boolean {
    return this.#core.handOver()
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

  /**
   * Whether the machine that this replica holds has the backups it is to have. Undefined: it holds none; or none is to come yet,
   * because its own copies of disks lack something that it followed.
   */
  get protection(): ReplicaProtection | undefined {
    const status = this.#core.primary?.status
    if (!status || !this.#disks.isSafe) return undefined
    const { state, backups, transfer } = status
    const isComplete = backups.length >= this.#equipped.policy.backups
    return { state, isComplete, hasTransfer: transfer !== undefined }
  }

  /** Counts, for who measures a while: `status` sums up all since the start. */
  get outputDelayCounts(): OutputDelayCounts {
    return this.#outputDelays.counts
  }

  /** What its machine needs of any host. */
  get needs(): { readonly memoryBytes: number; readonly hasOwnDisks: boolean } {
    const { artefacts, hasOwnDisks } = this.#equipped
    return { memoryBytes: artefacts.config.ramBytes, hasOwnDisks }
  }

  status(): ReplicaStatus {
    const { role } = this.#core
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
      repeats: { console: this.#console.repeats, disk: this.#reissued },
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
      onDiskRead: (sequence, data) => this.#hart.send({ kind: 'read', sequence, data }),
      onDiskAnswer: (answer) => this.#core.input({ kind: 'diskCompletion', ...answer }),
      onFrame: (frameId, bytes) => this.#core.input({ kind: 'frame', frameId, bytes }),
      onFrameConfirmed: (sequence) => this.#core.onConfirmed('frame', sequence),
      onFenced: () => this.#onFenced(),
      isProtected: () => this.#core.primary?.state === 'protected',
      onHalt: (error) => this.#halt(error),
      trace: this.#events.trace,
    })
    const { network } = this.#equipment
    this.#networkPort = network && this.#portOf(network)
    return this.#equipment
  }

  #portOf(network: NetworkBackend): NetworkPort {
    return {
      bind: (binding) =>
        void network
          .bind(binding)
          .catch((error: Error) => this.#halt(new WorldError('bind-refused', error.message, ExitCode.lostArbitration))),
      send: (sequence, bytes) => network.send(sequence, bytes),
      covered: (frameId) => network.covered(frameId),
    }
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
    const { role } = this.#core
    if (role.kind === 'none') return
    this.#hart.watch()
    this.#reach = { disk: this.#arbiter.onTick(role.kind === 'primary'), lan: this.#network?.onTick() ?? true }
    this.#core.onTick(this.#reach)
    this.#events.onBackupsMayDiffer?.()
  }

  #onHart(message: FromHartThread): void {
    switch (message.kind) {
      case 'profile':
        this.#events.onProfile?.(message.profile)
        return
      case 'recorded':
        this.#bytesByCause = message.bytesByCause
        if (message.outputs.length > 0) {
          this.#outputDelays.onSent(message.outputs, message.outputsSinceNs, process.hrtime.bigint())
        }
        break
      case 'live':
        this.#reissued = message.reissue.length
        break
      case 'copied': {
        const { pauseMs, rounds } = message
        this.#events.trace(`the machine is copied, in ${rounds} rounds; it stood still for ${pauseMs.toFixed(1)} ms`)
        this.#copyPauseMs = pauseMs
        break
      }
      case 'restored':
        this.#events.trace("the machine is here, and has the digest of the primary's")
        break
      case 'off':
        this.#isOff = true
    }
    this.#core.onHart(message)
  }

  // ---- what the core asks for ------------------------------------------------------------------------------------------------

  #world(): ReplicaWorld {
    const replica = this
    return {
      get hart() {
        return replica.#hart
      },
      get network() {
        return replica.#networkPort
      },
      peers: this.#peers,
      toPrimary: this.#toPrimary,
      console: this.#console,
      disks: this.#disks,
      arbiter: {
        openGeneration: (generation, eligible, answered) => {
          void this.#arbiter.openGeneration(generation, eligible).then(answered)
        },
        testAndSet: (generation, answered) => void this.#arbiter.testAndSet(generation).then(answered),
      },
      nowMs: () => performance.now(),
      setAlarm: (atMs) => this.#alarm.set(atMs),
      adoptPeer: (id) => {
        const channel = this.#peers.take(id)
        if (channel) this.#toPrimary.adopt(channel)
      },
      callSiblings: (siblings) => this.#callSiblings(siblings),
      onPowerOff: (failed) => void this.#powerOff(failed),
      onHalt: (reason, detail) => {
        if (reason === 'shutdown') return
        this.#endWith(new WorldError(`halted-${reason}`, detail, exitCodeOfHalt(reason)))
      },
      beforeEffect: (effect) => this.#beforeEffect(effect),
      afterEffect: ({ kind }) => {
        if (kind === 'enterGeneration' || kind === 'backupLost' || kind === 'goLive')
          this.#events.onBackupsMayDiffer?.()
      },
    }
  }

  /** For `status` and the trace. */
  #beforeEffect(effect: ReplicaEffect): void {
    const { trace } = this.#events
    switch (effect.kind) {
      case 'enterGeneration':
        this.#generation = effect.generation
        trace(`generation ${effect.generation}, backups: ${effect.eligible.join(', ') || 'none'}`)
        return
      case 'pauseHart':
        trace(`hart paused: ${effect.reason}`)
        return
      case 'startCopy':
        trace('copying the machine for a backup')
        return
      case 'backupLost':
        trace(`backup ${effect.backup} lost: ${effect.cause}, ${effect.detail}`)
        return
      case 'reportDivergence':
        this.#divergences++
        return
      case 'release':
        this.#outputDelays.onReleased(effect.outputs, effect.afterAcknowledged !== undefined, process.hrtime.bigint())
        if (effect.outputs.some(({ output }) => output.kind === 'frame')) this.#noteFirstOutput()
        return
      case 'closeChannel':
        if (!('channel' in effect)) this.#failoverCause = effect.reason
        return
      case 'testAndSet':
        trace(`primary lost (${this.#failoverCause}): test-and-set of generation ${effect.generation}`)
        return
      case 'goLive':
        this.#generation = effect.generation
        this.#failover = { ...failoverTimes(effect.timing), cause: this.#failoverCause }
        if (effect.unconfirmed.some(({ output }) => output.kind === 'frame')) this.#noteFirstOutput()
        this.#events.onLive(effect.generation)
        trace(`live in generation ${effect.generation}, from log entry ${effect.logEnd}`)
    }
  }

  async #powerOff(failed: boolean): Promise<void> {
    this.#isOff = true
    await this.stop()
    this.#events.onOff(failed)
  }

  #callSiblings(siblings: readonly Sibling[]): void {
    this.#siblings = new SiblingCaller({
      peers: this.#peers,
      key: this.#settings.listen?.key,
      callMs: this.#equipped.policy.callMs,
      onOpen: (id, replica) => this.#core.onSiblingOpen(id, replica),
      onUnreachable: (replica) => this.#core.onSiblingUnreachable(replica),
      trace: this.#events.trace,
    })
    this.#siblings.call(siblings)
  }

  #newDisks(): DisksWithCopies {
    return new DisksWithCopies({
      disks: {
        issue: (request) => this.#disk.issue(request),
        onReplayed: (outputs, answers) => this.#disk.onReplayed(outputs, answers),
        readAgain: (need) => this.#disk.readAgain(need),
        flush: (done, failed) => this.#disk.flush().then(done, (error: Error) => failed(error.message)),
        follow: (requests) => this.#disk.follow(requests),
        begin: () => this.#disk.begin(),
        connect: (generation, done) => this.#disk.connect(BigInt(generation)).then(done),
      },
      hasOwn: () => this.#equipped.hasOwnDisks,
      isPrimary: () => this.#core.primary !== undefined,
      stampLive: (generation) => {
        CopyStamp.of(this.#settings.folderPath, this.#settings.replica).write({ state: 'live', generation })
        // A backup may come now.
        this.#events.onBackupsMayDiffer?.()
      },
    })
  }

  /** What a backup's copies lack after the state of a running machine. A copy that cannot be made equal ends its side. */
  #finishable(copies: OwnCopies): NearlyEqualCopies {
    const finish = async (): Promise<void> => {
      try {
        await copies.finish()
      } catch (error) {
        if (!(error instanceof WorldError)) throw error
        this.#halt(error)
      }
    }
    return { finish: (done) => void finish().then(done), close: () => void copies.close() }
  }

  #noteFirstOutput(): void {
    if (this.#failover && this.#failover.firstOutputAt === undefined) {
      this.#failover = { ...this.#failover, firstOutputAt: performance.timeOrigin + performance.now() }
    }
  }

  // ---- the end -----------------------------------------------------------------------------------------------------------

  #halt(error: WorldError): void {
    if (this.#core.halt(error.message)) this.#endWith(error)
  }

  #endWith(error: WorldError): void {
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
