/**
 * One replica: the sans-I/O protocol (replication/) wired to a hart, sockets, disk, switch, arbiter and console.
 *
 *   hart ──log batches, outputs──► Primary ──effects──► logging channel, DiskBackend, LanBackend, console
 *   channel ──messages──► Backup ──effects──► hart (replay), arbiter (test-and-set), go live
 *
 * Nothing is decided here: every fact goes to the role, every effect it returns is carried out in order. A replica that
 * goes live changes its role object and keeps everything else.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { assert, ExitCode, unreachable, WorldError } from '../base/assert.ts'
import { ArbiterClient, ArbiterError } from '../disk/arbiter-client.ts'
import { type BytesByCause, type MarkedOutput, noBytesByCause, type Output } from '../log/entry.ts'
import { digestBootImage, digestConfig, type MachineIdentity } from '../log/identity.ts'
import type { BootImage, Input, MachineConfig } from '../machine/types.ts'
import { Backup } from '../replication/backup.ts'
import {
  type ArbiterAnswer,
  type BackupEffect,
  type ChannelId,
  exitCodeOfHalt,
  type FailoverTiming,
  type PrimaryEffect,
} from '../replication/effects.ts'
import { defaultReplicationPolicy, type ReplicationPolicy } from '../replication/policy.ts'
import { Primary, type PrimaryStatus } from '../replication/primary.ts'
import { machineConfig, readBootImage } from './boot-files.ts'
import type { ConsoleOutput } from './console-backlog.ts'
import { ConsoleLog } from './console-log.ts'
import { DiskBackend } from './disk-backend.ts'
import { exportName } from './export-name.ts'
import { Hart } from './hart.ts'
import type { FromHart } from './hart-messages.ts'
import { instructionTableHash } from './instruction-table-hash.ts'
import { LanBackend } from './lan-backend.ts'
import { connectToPrimary, type ListeningChannel, type LoggingChannel, listenForBackups } from './logging-channel.ts'
import type { FailoverTimes, FlowStatus, ReplicaStatus } from './replica-status.ts'
import { readVmConfig, type VmConfig } from './vm-config.ts'
import type { ReplicaName } from './vm-folder.ts'

export interface ReplicaSettings {
  readonly vmPath: string
  readonly replica: ReplicaName
  /** `alone`: unprotected from the start. */
  readonly role: 'primary' | 'backup' | 'alone'
  /** Secret shared with disk server and switch. */
  readonly token: string
  /** Names this run of the machine to the switch; the same for both replicas. */
  readonly runId: bigint
  readonly nbdPort: number
  readonly arbiterPort: number
  /** Absent: the machine has no network. */
  readonly lanSocketPath?: string
  /** Where the primary listens on the logging channel; for a backup. */
  readonly primaryPort?: number
  /** Where `console.log` is. */
  readonly folderPath: string
}

export interface ReplicaEvents {
  /** Console output of the guest, released. */
  readonly onConsole: (output: ConsoleOutput) => void
  /** A backup's machine printed again what its primary's printed. Nobody may see it unless this replica goes live. */
  readonly onConsoleRegenerated: (output: ConsoleOutput) => void
  /** This replica holds the machine, in this generation. */
  readonly onLive: (generation: number) => void
  /** The guest switched itself off; the replica has ended in good order. `failed`: after a panic. */
  readonly onOff: (failed: boolean) => void
  /** The replica stopped for good. */
  readonly onHalt: (error: WorldError) => void
  readonly trace: (line: string) => void
}

/** What the fault trials can do to a replica from inside; signals do the rest. */
export type ReplicaFault =
  | { readonly kind: 'cutChannel'; readonly direction: 'in' | 'out' | 'both' }
  | { readonly kind: 'hart'; readonly fault: 'die' | 'hang' }

const arbiterTimeoutMs = 2000
const arbiterRetryMs = 200
const tickIntervalMs = 20
/** A main thread that is so late, and later, explains a suspicion. */
const worthTellingLateMs = 200
/** How long a starting primary keeps asking when the previous holder's connection is still closing. */
const startRetries = 50

type Role =
  | { readonly kind: 'none' }
  | { readonly kind: 'primary'; readonly primary: Primary }
  | { readonly kind: 'backup'; readonly backup: Backup }
  | { readonly kind: 'halted'; readonly reason: string }

export class Replica {
  readonly #settings: ReplicaSettings
  readonly #events: ReplicaEvents
  readonly #vm: VmConfig
  readonly #config: MachineConfig
  readonly #image: BootImage
  readonly #policy: ReplicationPolicy
  readonly #arbiter: ArbiterClient
  readonly #disk: DiskBackend
  readonly #lan: LanBackend | undefined
  readonly #hart: Hart
  readonly #consoleLog: ConsoleLog
  readonly #channels = new Map<ChannelId, LoggingChannel>()
  #listening: ListeningChannel | undefined
  #toPrimary: LoggingChannel | undefined
  #role: Role = { kind: 'none' }
  readonly #effects: (() => void)[] = []
  #isCarryingOut = false
  #generation = 0
  #isPoweredOn = false
  #isOff = false
  #divergences = 0
  #bytesByCause: BytesByCause = noBytesByCause()
  #failover: FailoverTimes | undefined
  #failoverCause = ''
  #ticker: NodeJS.Timeout | undefined
  #isEnding = false
  #lastTickMs = 0

  /** @throws WorldError when the VM's file or what it boots from is not in order */
  constructor(settings: ReplicaSettings, events: ReplicaEvents) {
    this.#settings = settings
    this.#events = events
    const { config: vm } = readVmConfig(settings.vmPath)
    this.#vm = vm
    this.#config = machineConfig(vm)
    this.#image = readBootImage(vm)
    this.#policy = {
      ...defaultReplicationPolicy,
      detector: {
        ...defaultReplicationPolicy.detector,
        heartbeatMs: vm.protection.heartbeat,
        timeoutMs: vm.protection.timeout,
      },
    }
    const { replica, token } = settings
    const onFenced = (): void =>
      this.#halt(new WorldError('lost-arbitration', 'another replica holds the machine', ExitCode.lostArbitration))
    this.#arbiter = new ArbiterClient({
      address: { host: '127.0.0.1', port: settings.arbiterPort },
      machine: vm.name,
      replica,
      token,
      onFenced,
      onSessionLost: () => void this.#keepArbiterSession(),
    })
    this.#disk = new DiskBackend({
      address: { host: '127.0.0.1', port: settings.nbdPort },
      exports: vm.disks.map((_, index) => exportName(index)),
      machine: vm.name,
      replica,
      token,
      onAnswer: (answer) => this.#input({ kind: 'diskCompletion', ...answer }),
      onFenced,
      trace: events.trace,
    })
    this.#lan =
      settings.lanSocketPath === undefined || !vm.network
        ? undefined
        : new LanBackend({
            socketPath: settings.lanSocketPath,
            machine: vm.name,
            mac: vm.network.mac,
            replica,
            token,
            logId: settings.runId,
            onFrame: (frameId, bytes) => this.#input({ kind: 'frame', frameId, bytes }),
            onConfirmed: (sequence) => this.#withPrimary((primary) => primary.onConfirmed('frame', sequence)),
            onFenced,
            trace: events.trace,
          })
    this.#consoleLog = new ConsoleLog(settings.folderPath)
    this.#hart = new Hart({
      config: this.#config,
      image: this.#image,
      mode: settings.role === 'backup' ? 'replaying' : 'live',
      digestEveryMs: vm.protection.digestEvery,
      onMessage: (message) => this.#onHart(message),
      onFailed: (error) =>
        this.#halt(new WorldError('hart-failed', `the hart stopped: ${error.stack ?? error.message}`)),
    })
  }

  /**
   * Takes its role. A primary listens for its backup and waits for it before the guest starts; `alone` starts at once; a
   * backup connects and follows.
   * @returns the port of the logging channel, for a primary
   */
  async start(): Promise<{ readonly channelPort?: number }> {
    await this.#lan?.connect()
    this.#lastTickMs = performance.now()
    this.#ticker = setInterval(() => this.#tick(), tickIntervalMs)
    if (this.#settings.role === 'backup') {
      await this.#startBackup()
      return {}
    }
    this.#generation = await this.#takeGeneration()
    await this.#lan?.bind(BigInt(this.#generation), 0n)
    await this.#disk.connect(BigInt(this.#generation))
    const primary = new Primary({
      identity: this.#identity(),
      replica: this.#settings.replica,
      generation: this.#generation,
      state: this.#settings.role === 'alone' ? 'alone' : 'starting',
      policy: this.#policy,
    })
    this.#role = { kind: 'primary', primary }
    this.#events.onLive(this.#generation)
    this.#listening = await listenForBackups((id, open) => this.#onBackupConnected(id, open))
    this.#withPrimary(() => primary.start())
    return { channelPort: this.#listening.port }
  }

  /** Ends in good order: the peer is told, the arbiter's hold is let go. */
  async stop(): Promise<void> {
    const reason = 'the operator ended it'
    if (this.#role.kind === 'primary') {
      this.#withPrimary((primary) => primary.onShutdown(reason, performance.now()))
      await this.#arbiter.release(this.#generation, arbiterTimeoutMs).catch(() => {})
    } else if (this.#role.kind === 'backup') {
      this.#withBackup((backup) => backup.onShutdown(reason, performance.now()))
    }
    await this.#end()
  }

  sendConsoleInput(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#input({ kind: 'consoleInput', bytes })
  }

  /** For fault trials: something of this replica fails while the rest of it lives. */
  injectFault(fault: ReplicaFault): void {
    this.#events.trace(`fault injected: ${fault.kind}`)
    switch (fault.kind) {
      case 'cutChannel':
        for (const channel of this.#channels.values()) channel.cut(fault.direction)
        this.#toPrimary?.cut(fault.direction)
        return
      case 'hart':
        this.#hart.send({ kind: 'fault', fault: fault.fault })
        return
      default:
        unreachable(fault)
    }
  }

  status(): ReplicaStatus {
    const role = this.#role
    const primary = role.kind === 'primary' ? role.primary.status : undefined
    const backup = role.kind === 'backup' ? role.backup.status(performance.now()) : undefined
    return {
      name: this.#settings.replica,
      pid: process.pid,
      role: primary ? 'primary' : backup ? 'backup' : 'halted',
      state: primary?.state ?? backup?.state ?? 'halted',
      isProtected: primary?.state === 'protected',
      generation: primary?.generation ?? backup?.generation ?? this.#generation,
      instructions: Number(this.#hart.instructions),
      guestSeconds: Number(this.#hart.ticks) / 1e7,
      lagMs: primary?.backups[0]?.progress?.lagMs ?? backup?.progress.lagMs,
      flow: primary && flowOf(primary),
      logBytesByCause: this.#bytesByCause,
      digestChecks: Number(this.#hart.digestsCompared),
      divergences: this.#divergences,
      failover: this.#failover,
      isOff: this.#isOff,
      haltReason: role.kind === 'halted' ? role.reason : undefined,
    }
  }

  // ---- start -----------------------------------------------------------------------------------------------------------

  #identity(): MachineIdentity {
    return {
      machine: this.#vm.name,
      instructionTableHash: instructionTableHash(),
      configDigest: digestConfig(this.#config),
      imageDigest: digestBootImage(this.#image),
    }
  }

  /** Starting a machine takes the next generation, and is refused while a holder is connected (invariant 8). */
  async #takeGeneration(): Promise<number> {
    for (let attempt = 0; ; attempt++) {
      const answer = await this.#arbiter.start(arbiterTimeoutMs)
      if (answer.granted) return answer.generation
      if (attempt >= startRetries) {
        throw new WorldError(
          'held-elsewhere',
          `VM ${this.#vm.name} runs already: replica ${answer.holder} holds it in generation ${answer.generation}`,
          ExitCode.wrongState,
        )
      }
      await sleep(20)
    }
  }

  async #startBackup(): Promise<void> {
    const { primaryPort } = this.#settings
    assert(primaryPort !== undefined, 'a backup is told where its primary listens')
    await this.#arbiter.connect(arbiterTimeoutMs)
    const backup = new Backup(
      { identity: this.#identity(), replica: this.#settings.replica, policy: this.#policy },
      performance.now(),
    )
    this.#role = { kind: 'backup', backup }
    this.#toPrimary = await connectToPrimary(primaryPort, {
      onMessage: (message) => this.#withBackup(() => backup.onMessage(message, performance.now())),
      onBadMessage: (detail) => this.#withBackup(() => backup.onBadMessage(detail, performance.now())),
      onClosed: () => this.#withBackup(() => backup.onChannelClosed(performance.now())),
    })
    this.#withBackup(() => backup.onChannelOpen(performance.now()))
  }

  #onBackupConnected(
    id: ChannelId,
    open: (events: {
      onMessage: (message: Parameters<Primary['onMessage']>[1]) => void
      onBadMessage: (detail: string) => void
      onClosed: () => void
    }) => LoggingChannel,
  ): void {
    const channel = open({
      onMessage: (message) => this.#withPrimary((primary) => primary.onMessage(id, message, performance.now())),
      onBadMessage: (detail) => this.#withPrimary((primary) => primary.onBadMessage(id, detail, performance.now())),
      onClosed: () => {
        this.#channels.delete(id)
        this.#withPrimary((primary) => primary.onChannelClosed(id, performance.now()))
      },
    })
    this.#channels.set(id, channel)
    this.#withPrimary((primary) => primary.onChannelOpen(id, performance.now()))
  }

  // ---- facts -----------------------------------------------------------------------------------------------------------

  #tick(): void {
    const nowMs = performance.now()
    const lateMs = nowMs - this.#lastTickMs - tickIntervalMs
    if (lateMs > worthTellingLateMs) this.#events.trace(`the main thread stood still for ${Math.round(lateMs)} ms`)
    this.#lastTickMs = nowMs
    this.#hart.watch()
    this.#withPrimary((primary) => primary.onTick(performance.now()))
    this.#withBackup((backup) => backup.onTick(performance.now()))
  }

  /** Only the live machine hears the world, and only once it is switched on: its log begins with its power-on. */
  #input(input: Input): void {
    if (this.#role.kind === 'primary' && this.#isPoweredOn) this.#hart.send({ kind: 'input', input })
  }

  #onHart(message: FromHart): void {
    switch (message.kind) {
      case 'recorded':
        this.#bytesByCause = message.bytesByCause
        for (const batch of message.batches) this.#withPrimary((primary) => primary.onBatch(batch, performance.now()))
        if (message.outputs.length > 0) this.#withPrimary((primary) => primary.onOutputs(message.outputs))
        return
      case 'replayed': {
        const { replayedEnd, outputs } = message
        for (const { output } of outputs) if (output.kind === 'console') this.#events.onConsoleRegenerated(output)
        const report = { replayedEnd, outputs, count: this.#hart.instructions }
        this.#withBackup((backup) => backup.onReplayed(report, performance.now()))
        return
      }
      case 'diverged':
        this.#divergences++
        this.#withBackup((backup) => backup.onDivergence(message.divergence, performance.now()))
        return
      case 'live':
        for (const request of message.reissue) this.#disk.issue(request)
        return
      case 'off':
        this.#isOff = true
        return
      default:
        unreachable(message)
    }
  }

  #withPrimary(fact: (primary: Primary) => PrimaryEffect[]): void {
    if (this.#role.kind !== 'primary') return
    for (const effect of fact(this.#role.primary)) this.#effects.push(() => this.#carryOutPrimary(effect))
    this.#carryOutEffects()
  }

  #withBackup(fact: (backup: Backup) => BackupEffect[]): void {
    if (this.#role.kind !== 'backup') return
    for (const effect of fact(this.#role.backup)) this.#effects.push(() => this.#carryOutBackup(effect))
    this.#carryOutEffects()
  }

  /** In the order in which the roles returned them, also when carrying one out brings a new fact (and so new effects). */
  #carryOutEffects(): void {
    if (this.#isCarryingOut) return
    this.#isCarryingOut = true
    try {
      for (let effect = this.#effects.shift(); effect; effect = this.#effects.shift()) effect()
    } finally {
      this.#isCarryingOut = false
    }
  }

  // ---- effects of a primary ----------------------------------------------------------------------------------------------

  #carryOutPrimary(effect: PrimaryEffect): void {
    switch (effect.kind) {
      case 'send':
        this.#channels.get(effect.channel)?.send(effect.message)
        return
      case 'closeChannel':
        this.#channels.get(effect.channel)?.close()
        this.#channels.delete(effect.channel)
        return
      case 'release':
        for (const marked of effect.outputs) this.#release(marked)
        return
      case 'covered':
        this.#lan?.covered(effect.frameId)
        return
      case 'openGeneration':
        void this.#openGeneration(effect.generation, effect.eligible)
        return
      case 'enterGeneration':
        this.#generation = effect.generation
        this.#events.trace(`generation ${effect.generation}, backups: ${effect.eligible.join(', ') || 'none'}`)
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
      case 'backupLost':
        this.#events.trace(`backup ${effect.backup} lost: ${effect.cause}, ${effect.detail}`)
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

  /** To the outside world: this output's log entry is acknowledged, or nobody has to. */
  #release({ output }: MarkedOutput): void {
    switch (output.kind) {
      case 'frame':
        this.#noteFirstOutput()
        if (this.#lan) this.#lan.send(output.sequence, output.bytes)
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
    this.#consoleLog.append(output.bytes)
    this.#events.onConsole(output)
    this.#withPrimary((primary) => primary.onConfirmed('console', output.sequence))
  }

  async #powerOff(failed: boolean): Promise<void> {
    this.#isOff = true
    await this.stop()
    this.#events.onOff(failed)
  }

  async #openGeneration(generation: number, eligible: readonly string[]): Promise<void> {
    const answer = await this.#askArbiter(async () => {
      const answered = await this.#arbiter.openGeneration(generation, eligible, arbiterTimeoutMs)
      if (answered.accepted) return { result: 'granted', generation: answered.generation }
      return { result: 'refused', detail: `the machine is held by replica ${answered.holder ?? 'nobody'} now` }
    })
    this.#withPrimary((primary) => primary.onArbiterAnswer(answer, performance.now()))
  }

  /** A holder without a session would count as gone: anybody could start the machine, and it would not hear of it. */
  async #keepArbiterSession(): Promise<void> {
    this.#events.trace('arbiter: the session is lost; connecting again')
    while (!this.#isEnding) {
      try {
        await this.#arbiter.connect(arbiterTimeoutMs)
        this.#events.trace('arbiter: the session is back')
        return
      } catch (error) {
        if (!(error instanceof ArbiterError)) throw error
        await sleep(arbiterRetryMs)
      }
    }
  }

  async #askArbiter(question: () => Promise<ArbiterAnswer>): Promise<ArbiterAnswer> {
    try {
      return await question()
    } catch (error) {
      if (!(error instanceof ArbiterError)) throw error
      this.#events.trace(error.message)
      return { result: 'unreachable', detail: error.message }
    }
  }

  // ---- effects of a backup -----------------------------------------------------------------------------------------------

  #carryOutBackup(effect: BackupEffect): void {
    switch (effect.kind) {
      case 'send':
        this.#toPrimary?.send(effect.message)
        return
      case 'closeChannel':
        this.#failoverCause = effect.reason
        this.#toPrimary?.close()
        return
      case 'replay':
        this.#hart.send({ kind: 'append', batch: effect.batch })
        return
      case 'testAndSet':
        this.#events.trace(`primary lost (${this.#failoverCause}): test-and-set of generation ${effect.generation}`)
        void this.#testAndSet(effect.generation)
        return
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

  async #testAndSet(generation: number): Promise<void> {
    const answer = await this.#askArbiter(async () => {
      const answered = await this.#arbiter.testAndSet(generation, arbiterTimeoutMs)
      if (answered.won) return { result: 'granted', generation: answered.generation }
      return {
        result: 'refused',
        detail: `replica ${answered.holder ?? 'nobody'} holds generation ${answered.generation}`,
      }
    })
    this.#withBackup((backup) => backup.onArbiterAnswer(answer, performance.now()))
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
    for (const { output } of effect.unconfirmed) {
      if (output.kind === 'frame') this.#release({ output, markerIndex: effect.logEnd })
      else this.#writeConsole(output)
    }
    this.#withPrimary(() => primary.start())
    const generation = BigInt(effect.generation)
    void this.#lan
      ?.bind(generation, effect.coveredFrameId ?? 0n)
      .catch((error: Error) => this.#halt(new WorldError('bind-refused', error.message, ExitCode.lostArbitration)))
    void this.#disk.connect(generation)
    this.#events.trace(`live in generation ${effect.generation}, from log entry ${effect.logEnd}`)
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
    this.#disk.drop()
    void this.#end().then(() => this.#events.onHalt(error))
  }

  async #end(): Promise<void> {
    this.#isEnding = true
    clearInterval(this.#ticker)
    this.#listening?.close()
    for (const channel of this.#channels.values()) channel.close()
    this.#toPrimary?.close()
    this.#consoleLog.close()
    this.#lan?.close()
    await this.#hart.stop()
    await this.#disk.close()
    this.#arbiter.close()
  }
}

function flowOf({ backups, heldOutputs, heldBytes, unconfirmedOutputs, cpuPercent }: PrimaryStatus): FlowStatus {
  const unacknowledgedBytes = Math.max(0, ...backups.map(({ unreceivedBytes }) => unreceivedBytes))
  return { unacknowledgedBytes, heldOutputs, heldBytes, unconfirmedOutputs, cpuPercent }
}

function failoverTimes(timing: FailoverTiming): Omit<FailoverTimes, 'cause'> {
  const origin = performance.timeOrigin
  return {
    detectedAt: origin + timing.detectedMs,
    arbitratedAt: origin + timing.wonMs,
    replayedAt: origin + timing.replayedMs,
    firstOutputAt: undefined,
  }
}
