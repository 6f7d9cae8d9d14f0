/**
 * A replica in the fake world: the real `ReplicaCore` between the thread of a fake hart and fake connections. What it adds is the
 * way to a role, and telling the witness.
 */

import { WorldError } from '../base/assert.ts'
import type { DiskBus } from '../machine/types.ts'
import { Alarm, type AlarmClock } from '../replica/alarm.ts'
import { type CopyState, copyStanding } from '../replica/copy-state.ts'
import type { NearlyEqualCopies } from '../replica/disks-with-copies.ts'
import type { FromHart } from '../replica/hart-messages.ts'
import type { HartPolicy } from '../replica/hart-world.ts'
import { ReplicaCore } from '../replica/replica-core.ts'
import type { ConsoleOutput, ReplicaEffect, ReplicaWorld } from '../replica/replica-world.ts'
import { SiblingCalls } from '../replica/sibling-calls.ts'
import { Backup } from '../replication/backup.ts'
import type { ChannelId } from '../replication/effects.ts'
import { encodeMessage, MessageDecoder } from '../replication/message-codec.ts'
import type { Message } from '../replication/messages.ts'
import type { ReplicationPolicy } from '../replication/policy.ts'
import { Primary } from '../replication/primary.ts'
import type { ReachPolicy } from '../replication/reach-probe.ts'
import { ReachProbe } from '../replication/reach-probe.ts'
import type { Actor } from './actor.ts'
import { ArbiterLine } from './arbiter-line.ts'
import { ownDiskArtefacts } from './artefacts.ts'
import type { Chance } from './chance.ts'
import { CopyLine } from './copy-line.ts'
import { DiskLine, type DiskLineOptions } from './disk-line.ts'
import { SimHart } from './hart.ts'
import { identity } from './identity.ts'
import { LanLine } from './lan-line.ts'
import type { End, Network } from './network.ts'
import { OwnDiskLine } from './own-disk-line.ts'
import { TinyMachine } from './tiny-machine.ts'
import type { Witness } from './witness.ts'

/** The numbers of a simulation. */
export interface Times {
  readonly policy: ReplicationPolicy
  /** Of the machine's disk. */
  readonly bus: DiskBus
  readonly reach: ReachPolicy
  readonly hart: HartPolicy
  readonly arbiterAnswerMs: number
  readonly digestEveryMs: number
  /** Backups read the disk themselves. */
  readonly backupReads: boolean
  /** Messages of the logging channel go through the codec. */
  readonly asBytes: boolean
  /** The disk is not shared: each replica has its own copy. */
  readonly hasOwnDisks: boolean
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
  /** Of its own copy. */
  readonly stamp: { read(): CopyState | undefined; write(stamp: CopyState): void }
}

type Wire = Message | Uint8Array

/** A tenth of the product's, as all times of a simulation. */
const tickIntervalMs = 25
const connectAgainMs = 30
const callAgainMs = 20

export class SimReplica {
  readonly name: string
  readonly actor: Actor
  readonly machine: TinyMachine
  readonly hart: SimHart
  readonly disk: DiskLine | OwnDiskLine
  readonly lan: LanLine
  readonly arbiter: ArbiterLine
  readonly #options: ReplicaOptions
  readonly #probe: ReachProbe
  readonly #peers = new Map<ChannelId, End<Wire, Wire>>()
  #toPrimary: End<Wire, Wire> | undefined
  readonly #core: ReplicaCore
  readonly #siblings: SiblingCalls
  #nextChannel: ChannelId = 1
  readonly #alarm: Alarm

  constructor(options: ReplicaOptions) {
    this.#options = options
    const { actor, network, chance, times, witness } = options
    this.name = actor.name
    this.machine = new TinyMachine(times.bus)
    this.actor = actor
    const onFenced = (): void => {
      if (this.#core.halt('lostArbitration')) this.#end()
    }
    this.hart = new SimHart({
      actor,
      chance,
      machine: this.machine,
      mode: options.role === 'primary' ? 'live' : 'replaying',
      calendarOffsetMs: options.calendarOffsetMs,
      policy: times.hart,
      discipline: times.policy.discipline,
      digestEveryMs: times.digestEveryMs,
      leavesOutReads: times.backupReads,
      onMessage: (message) => this.#onHart(message),
      onRecorded: (batch) => {
        witness.onRecorded(this.name, batch)
        witness.onBoundary('recorded')
      },
    })
    const diskOptions: DiskLineOptions = {
      actor,
      network,
      replica: this.name,
      readsAhead: times.backupReads,
      onAnswer: (answer) => {
        if (answer.data) witness.onRead(answer.data)
        this.#core.input({ kind: 'diskCompletion', ...answer })
      },
      onRead: (sequence, data) => this.hart.send({ kind: 'read', sequence, data }),
      onRestoreRefused: () => witness.onRestoreRefused(),
      onFlushFailed: () => witness.onFlushFailed(),
      onFenced,
    }
    this.disk = times.hasOwnDisks ? this.#newOwnDisk(diskOptions) : new DiskLine(diskOptions)
    this.lan = new LanLine({
      actor,
      network,
      replica: this.name,
      reach: times.reach,
      onFrame: (frameId, bytes) => this.#core.input({ kind: 'frame', frameId, bytes }),
      onConfirmed: (sequence) => this.#core.onConfirmed('frame', sequence),
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
    this.#core = new ReplicaCore(this.#world())
    this.#siblings = this.#newSiblingCalls()
    this.#alarm = new Alarm(alarmClockOf(actor), () => this.#core.onAlarm())
    actor.onDeath(() => this.#core.halt('killed'))
  }

  #newOwnDisk(options: DiskLineOptions): OwnDiskLine {
    const { stamp } = this.#options
    return new OwnDiskLine({
      ...options,
      hasOther: () => this.primary?.state === 'protected',
      onFailed: () => this.#removeSide(),
      isPrimary: () => this.primary !== undefined,
      stampLive: (generation) => {
        if (!this.actor.isDead) stamp.write({ state: 'live', generation })
      },
    })
  }

  /** Its own copy has failed. */
  #removeSide(): void {
    if (!this.#core.halt('own copy failed')) return
    this.#options.witness.onCopyRemoved(this.name)
    this.#end()
  }

  get primary(): Primary | undefined {
    return this.#core.primary
  }

  get backup(): Backup | undefined {
    return this.#core.backup
  }

  get haltReason(): string | undefined {
    const { role } = this.#core
    return role.kind === 'halted' ? role.reason : undefined
  }

  /** Runs the machine for the world, as far as it knows. */
  get isLive(): boolean {
    return this.#core.isLive
  }

  /** See `Replica.protection`. */
  get areCopiesSafe(): boolean {
    return !(this.disk instanceof OwnDiskLine) || this.disk.isSafe
  }

  /** All that its primary has told it is replayed, and done on its own copy. */
  isBeside(primary: SimReplica): boolean {
    const progress = this.backup?.status(this.actor.nowMs).progress
    return progress?.replayedEnd === primary.primary?.status.logEnd && this.disk.steady.isIdle
  }

  /** Ended, or will do nothing more. */
  get isGone(): boolean {
    return this.#core.role.kind === 'halted'
  }

  /** A backup that has not found its primary yet: it waits, for ever if need be. */
  get isWaiting(): boolean {
    return this.#core.role.kind === 'none' && this.#options.role === 'backup'
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
    this.#core.input({ kind: 'powerButton' })
  }

  type(bytes: Uint8Array): void {
    this.#core.input({ kind: 'consoleInput', bytes })
  }

  /** The operator takes the backups away. */
  unprotect(): void {
    this.#core.unprotect()
  }

  // ---- start ---------------------------------------------------------------------------------------------------------

  #takeGeneration(): void {
    const again = (): void => this.actor.after(connectAgainMs * 1000, () => this.#takeGeneration())
    const start = (): void =>
      this.arbiter.ask({ op: 'start', holderHasEnded: true }, (answer) => {
        if (answer && 'granted' in answer && answer.granted) this.#onGranted(answer.generation)
        else again()
      })
    if (!this.#options.times.hasOwnDisks) {
      start()
      return
    }
    this.arbiter.ask({ op: 'read' }, (answer) => {
      if (!answer || !('heldSince' in answer)) again()
      else if (copyStanding(this.#options.stamp.read(), answer, this.name) === 'newest') start()
      else this.#giveUp('its copy is not the newest')
    })
  }

  #onGranted(generation: number): void {
    const { disk } = this
    if (disk instanceof OwnDiskLine) {
      this.#options.stamp.write({ state: 'live', generation })
      disk.start(() => this.#becomePrimary(generation))
    } else this.#becomePrimary(generation)
  }

  /** It ends before it has a role, or with one. */
  #giveUp(why: string): void {
    if (this.#core.halt(why)) this.#end()
  }

  #becomePrimary(generation: number): void {
    const { runId, times, witness } = this.#options
    witness.onHolds(this.name, generation)
    this.lan.place.bind({ generation: BigInt(generation), logId: runId, coveredFrameId: 0n, receivedFrameId: 0n })
    if (!times.hasOwnDisks) this.disk.connect(generation)
    const { policy } = times
    const primary = new Primary({
      identity,
      ...(times.hasOwnDisks ? { artefacts: ownDiskArtefacts(times) } : {}),
      replica: this.name,
      address: this.name,
      generation,
      runId,
      state: 'starting',
      policy,
    })
    this.#core.becomePrimary(primary)
    this.#listenForPeers()
    this.#core.startPrimary()
  }

  #listenForPeers(): void {
    const { network } = this.#options
    network.listen<Wire, Wire>(`log-${this.name}`, this.actor, (end) =>
      this.#onPeer(end, (id) => this.#core.onPeerOpen(id)),
    )
  }

  /** Somebody connected, or a sibling was called: see host/peer-channels.ts. */
  #onPeer(end: End<Wire, Wire>, opened: (id: ChannelId) => void): void {
    const id = this.#nextChannel++
    this.#peers.set(id, end)
    opened(id)
    end.listen({
      onMessage: this.#decoded((message) => {
        if (this.#toPrimary === end) this.#core.onPrimaryMessage(message)
        else this.#core.onPeerMessage(id, message)
      }),
      onClosed: () => {
        this.#peers.delete(id)
        if (this.#toPrimary === end) this.#core.onPrimaryClosed()
        else this.#core.onPeerClosed(id)
      },
    })
  }

  /** @param copies of a disk that is not shared, when they are nearly equal */
  #connectToPrimary(copies?: CopyLine): void {
    const { primaryHost, network, times } = this.#options
    network.connect<Wire, Wire>(this.actor, primaryHost!, `log-${primaryHost}`, (end) => {
      if (!end) this.actor.after(connectAgainMs * 1000, () => this.#connectToPrimary(copies))
      else if (times.hasOwnDisks && !copies) this.#copyBeside(end)
      else this.#follow(end, copies)
    })
  }

  /** Who listens has its copy, and drained what an earlier run of it had left on the way. */
  #copyBeside(end: End<Wire, Wire>): void {
    let isOpen = true
    end.listen({
      onMessage: () => {},
      onClosed: () => {
        isOpen = false
      },
    })
    this.#options.stamp.write({ state: 'follows' })
    this.#copy((copies) => {
      if (isOpen) this.#follow(end, copies)
      else this.#connectToPrimary(copies)
    })
  }

  /** Until little differs; an error begins it anew. */
  #copy(done: (copies: CopyLine) => void): void {
    const { network, primaryHost, witness } = this.#options
    const again = (): void => this.actor.after(connectAgainMs * 1000, () => this.#copy(done))
    CopyLine.open({ actor: this.actor, network, replica: this.name, peer: primaryHost! }, (line) => {
      if (line instanceof WorldError) {
        again()
        return
      }
      line.begin((error) => {
        if (error) {
          line.close()
          again()
        } else {
          witness.onCopied()
          done(line)
        }
      })
    })
  }

  #follow(end: End<Wire, Wire>, copies: CopyLine | undefined): void {
    const { times } = this.#options
    if (copies && this.disk instanceof OwnDiskLine) this.disk.take(this.#finishable(copies))
    this.#toPrimary = end
    const { policy } = times
    const artefacts = times.hasOwnDisks ? { artefacts: ownDiskArtefacts(times) } : {}
    const options = { identity, replica: this.name, address: this.name, ...artefacts, policy }
    this.#core.becomeBackup(new Backup(options, this.actor.nowMs))
    end.listen({
      onMessage: this.#decoded((message) => this.#core.onPrimaryMessage(message)),
      onClosed: () => this.#core.onPrimaryClosed(),
    })
    this.#core.onPrimaryOpen()
  }

  #finishable(copies: CopyLine): NearlyEqualCopies {
    return {
      finish: (done) =>
        copies.finish((error) => {
          if (error) this.#giveUp(error.message)
          else this.#options.witness.onCopySynchronized()
          done()
        }),
      close: () => copies.close(),
    }
  }

  #newSiblingCalls(): SiblingCalls {
    const { actor } = this
    const { network, times } = this.#options
    return new SiblingCalls(
      {
        nowMs: () => actor.nowMs,
        after: (delayMs, run) => actor.after(delayMs * 1000, run),
        dial: ({ address }, opened, failed) =>
          network.connect<Wire, Wire>(actor, address, `log-${address}`, (end) => {
            if (end) this.#onPeer(end, opened)
            else failed()
          }),
        isOpen: (id) => this.#peers.has(id),
      },
      { callMs: times.policy.callMs, callAgainMs },
      {
        onOpen: (id, replica) => this.#core.onSiblingOpen(id, replica),
        onUnreachable: (replica) => this.#core.onSiblingUnreachable(replica),
      },
    )
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
    if (this.isGone) return
    this.#probe.onTick()
    this.#core.onTick({ disk: this.#probe.isInReach, lan: this.lan.onTick() })
  }

  #onHart(message: FromHart): void {
    const { witness } = this.#options
    if (this.actor.isDead) return
    switch (message.kind) {
      case 'recorded':
        if (message.batches.length > 0) witness.onBoundary('sending')
        break
      case 'replayed':
        witness.onBoundary('replayed')
        if (message.need) witness.onReadNeeded(this.backup?.state !== 'replaying')
        break
      case 'diverged':
        witness.onDivergence(this.name, message.divergence)
        break
      case 'restored':
        witness.onRestored()
        break
      case 'restoreFailed':
        witness.onRestoreFailed(this.name, message.detail)
        break
    }
    this.#core.onHart(message)
  }

  // ---- what the core asks for ----------------------------------------------------------------------------------------

  #world(): ReplicaWorld {
    const { machine, hart, disk, arbiter, lan } = this
    return {
      hart: {
        get instructions() {
          return machine.count
        },
        send: (message) => hart.send(message),
        sendInput: (input) => hart.send({ kind: 'input', input, arrivedNs: hart.nowNs }),
        acknowledged: (end) => hart.acknowledged(end),
      },
      peers: {
        send: (id, message) => this.#peers.get(id)?.send(this.#encoded(message)),
        close: (id) => {
          this.#peers.get(id)?.close()
          this.#peers.delete(id)
        },
      },
      toPrimary: {
        send: (message) => this.#toPrimary?.send(this.#encoded(message)),
        close: () => {
          this.#toPrimary?.close()
          this.#toPrimary = undefined
        },
      },
      disks: disk,
      network: {
        bind: (binding) => lan.place.bind(binding),
        send: (sequence, bytes) => lan.place.send(sequence, bytes),
        covered: (frameId) => lan.place.covered(frameId),
      },
      console: {
        write: (output) => this.#show(output),
        onRegenerated: () => {},
        goLive: (_runId, unconfirmed) => {
          for (const output of unconfirmed) this.#show(output)
        },
        printed: new Uint8Array(),
        beginAt: () => {},
      },
      arbiter,
      nowMs: () => this.actor.nowMs,
      setAlarm: (atMs) => this.#alarm.set(atMs),
      adoptPeer: (id) => {
        const end = this.#peers.get(id)
        this.#peers.delete(id)
        if (end) this.#toPrimary = end
      },
      callSiblings: (siblings) => this.#siblings.call(siblings),
      onPowerOff: () => {},
      onHalt: () => this.#end(),
      beforeEffect: (effect) => this.#beforeEffect(effect),
      afterEffect: ({ kind }) => {
        if (kind === 'release') this.#options.witness.onBoundary('released')
        if (kind === 'replay') this.#options.witness.onBoundary('received')
      },
    }
  }

  #beforeEffect(effect: ReplicaEffect): void {
    const { witness } = this.#options
    switch (effect.kind) {
      case 'release':
        witness.onBoundary('releasing')
        return
      case 'reportDivergence':
        // What a hart finds is told where it finds it.
        if (!('backup' in effect) && effect.divergence.kind === 'differentRead') {
          witness.onDivergence(this.name, effect.divergence)
        }
        return
      case 'reissue':
        witness.onReissued(this.name, effect.requests)
        return
      case 'enterGeneration':
        witness.onHolds(this.name, effect.generation)
        if (effect.eligible.length === 0) witness.onBackupDropped(this.name)
        else witness.onListed()
        return
      case 'pauseHart':
        if (effect.reason === 'logFull') witness.onHeldBack('log_full')
        return
      case 'setCpuPercent':
        witness.onHeldBack('lag_control')
        return
      case 'testAndSet':
        witness.onAsks(this.#backupLag() > 0)
        return
      case 'goLive':
        witness.onHolds(this.name, effect.generation)
        witness.onLive(this.name, effect.generation, this.backup!.status(this.actor.nowMs).hold, effect.logEnd)
    }
  }

  #show({ sequence, bytes }: ConsoleOutput): void {
    if (!this.actor.isDead) this.#options.witness.onConsoleOutput(this.name, sequence, bytes)
  }

  /** Entries that it has and has not replayed. */
  #backupLag(): number {
    const progress = this.backup?.status(this.actor.nowMs).progress
    return progress ? Number(progress.receivedEnd - progress.replayedEnd) : 0
  }

  #end(): void {
    this.disk.drop()
    this.hart.hang()
    this.lan.close()
    this.#toPrimary?.close()
    for (const end of this.#peers.values()) end.close()
    this.arbiter.close()
    this.actor.after(1000, () => this.actor.kill('process'))
  }
}

function alarmClockOf(actor: Actor): AlarmClock {
  return {
    nowMs: () => actor.nowMs,
    after: (delayMs, ring) => {
      let isOff = false
      actor.after(delayMs * 1000, () => {
        if (!isOff) ring()
      })
      return () => {
        isOff = true
      }
    },
  }
}
