/**
 * The fake world of one simulation: two hosts for replicas, a disk server, a switch, stations, an operator. It starts things
 * and lets faults happen (faults.ts); what is right and wrong is the checkers' business.
 */

import type { MessageToReplica, MessageToSwitch } from '../lan/replica-message.ts'
import { type Discipline, epochProtocols, exactDiscipline } from '../log/discipline.ts'
import type { DiskBus } from '../machine/types.ts'
import type { ReplicationPolicy } from '../replication/policy.ts'
import { defaultReplicationPolicy } from '../replication/policy.ts'
import { defaultReachPolicy } from '../replication/reach-probe.ts'
import { Actor, type Death } from './actor.ts'
import { Chance } from './chance.ts'
import { Checkers } from './checkers.ts'
import { DiskServer, type FromArbiter, type FromDisk, RecordFile, type ToArbiter, type ToDisk } from './disk-server.ts'
import { DiskStore } from './disk-store.ts'
import { diskHost, lanHost, replicaNames } from './names.ts'
import { Network } from './network.ts'
import { SimReplica, type Times } from './replica.ts'
import { Stations } from './stations.ts'
import { type LanHello, SwitchServer } from './switch-server.ts'
import { Timeline } from './timeline.ts'
import { diskSectors, tinyConfig } from './tiny-machine.ts'

/** A replica host starts a process at a time. */
export interface Host {
  readonly name: string
  replica: SimReplica | undefined
  /** How far its calendar is beside fake time. */
  calendarOffsetMs: number
}

/** As the product's, but ten times as impatient: so that a simulated second is worth ten. */
function quickPolicy(): ReplicationPolicy {
  const policy = defaultReplicationPolicy
  return {
    ...policy,
    detector: { heartbeatMs: 40, timeoutMs: 240, logSilenceMs: 700, outOfReachMs: 240 },
    arbiterRetryMs: 60,
    headStartMs: 120,
    slowBackupMs: 500,
    readStallMs: 500,
    tailTimeoutMs: 40,
    callMs: 1000,
    lag: { ...policy.lag, mostMs: 60, stepIntervalMs: 20 },
    maxUnreceivedBytes: 6 * 1024,
    maxUnreplayedBytes: 12 * 1024,
    helloTimeoutMs: 500,
    transferWindowBytes: 32 * 1024,
  }
}

/** A third of the seeds run in epochs, half of them by the original protocol. Dice of their own: the other seeds stay as they are. */
function disciplineOf(seed: number): { readonly discipline: Discipline; readonly bus: DiskBus } {
  const chance = new Chance(seed, 3)
  if (!chance.chance(1 / 3)) return { discipline: exactDiscipline, bus: 'blk' }
  const discipline = {
    kind: 'epoch',
    protocol: chance.pick(epochProtocols),
    instructions: chance.pick(epochLengths),
  } as const
  return { discipline, bus: chance.chance(0.7) ? 'scsi' : 'blk' }
}

/** A quarter of the seeds have two. Dice of their own give a tenth three in their place: the other seeds stay as they are. */
function backupsOf(seed: number, chance: Chance): number {
  const backups = chance.chance(0.25) ? 2 : 1
  return new Chance(seed, 21).chance(0.1) ? 3 : backups
}

function timesOf(seed: number, chance: Chance, backups: number): Times {
  const { discipline, bus } = disciplineOf(seed)
  return {
    policy: { ...quickPolicy(), backups, discipline },
    bus,
    reach: defaultReachPolicy,
    hart: {
      clock: {
        intervalNs: 20_000_000n,
        idleIntervalNs: 300_000_000n,
        stepSpacingNs: 50_000_000n,
        maxStepNs: 10_000_000_000n,
      },
      // A page in a piece, and two in the last: so that a copy takes a while.
      copy: { piecePages: 1, lastPages: 2, guestPercents: [100, 100, 50], maxRounds: 8 },
      lastOnWayBytes: 12 * 1024,
      slice: { sliceNs: chance.between(100, 2500) * 1000, leastInstructions: 100, mostInstructions: 25_000 },
      replaySliceInstructions: BigInt(chance.between(1000, 100_000)),
      resyncEveryNs: 1_000_000_000n,
      batchNs: 100_000n,
    },
    arbiterAnswerMs: 250,
    digestEveryMs: 150,
    // Dice of their own, as for the discipline.
    backupReads: new Chance(seed, 5).chance(0.4),
    asBytes: chance.chance(0.2),
  }
}

const epochLengths = [1000, 4000, 20_000]
const stationsPerRun = 3

export class World {
  readonly timeline = new Timeline()
  readonly chance: Chance
  readonly checkers: Checkers
  readonly network: Network
  readonly store: DiskStore
  readonly hosts: readonly Host[]
  readonly times: Times
  /** How many the machine is to have. */
  readonly backups: number
  diskServer!: DiskServer
  lan!: SwitchServer
  /** A fault touched the switch or a cable to it in this run of the machine. */
  mayLoseFrames = false
  /** What the operator wants. */
  wantsProtection = true
  /** For faults: told when the next backup is started, once. */
  onProtecting: (() => void) | undefined
  readonly #records = new RecordFile()
  #boots = 0
  #runs = 0
  #stations!: Stations
  /** What stations got in all runs of the machine. */
  answers = 0
  #trace: ((line: string) => void) | undefined

  constructor(seed: number, trace?: (line: string) => void) {
    this.chance = new Chance(seed, 1)
    this.#trace = trace
    this.checkers = new Checkers(
      () => `${this.timeline.nowMs.toFixed(2)} ms, run ${this.#runs}:`,
      (name) => this.live.some((replica) => replica.name !== name && !replica.actor.isPaused),
      (name) =>
        this.replicas.filter((other) => other.name !== name && !other.isGone && other.backup !== undefined).length,
    )
    const { timeline, chance } = this
    const leastUs = chance.pick([20, 60, 400])
    const delays = { leastUs, mostUs: leastUs * chance.between(2, 6) }
    this.network = new Network(timeline, chance, delays, {
      onOvertaken: () => this.checkers.count('overtaken_on_another_connection'),
      onLostInFlight: (from) => {
        if (from === diskHost) this.checkers.count('disk_answer_lost')
      },
    })
    this.store = new DiskStore(diskSectors, chance)
    this.backups = backupsOf(seed, chance)
    if (this.backups === 3) this.checkers.count('three_backups')
    this.times = timesOf(seed, chance, this.backups)
    const { discipline } = this.times.policy
    if (discipline.kind === 'epoch') this.checkers.epochs = { discipline, bus: this.times.bus }
    this.hosts = replicaNames
      .slice(0, this.backups + 1)
      .map((name) => ({ name, replica: undefined, calendarOffsetMs: chance.between(-40, 40) }))
    this.startDiskServer()
    this.startSwitch()
    this.#keepWatch()
  }

  #keepWatch(): void {
    this.timeline.after(this.chance.between(15, 60) * 1000, () => {
      this.keepProtected()
      this.#keepWatch()
    })
  }

  trace(line: () => string): void {
    this.#trace?.(`${this.timeline.nowMs.toFixed(3).padStart(10)} ${line()}`)
  }

  get replicas(): readonly SimReplica[] {
    return this.hosts.flatMap(({ replica }) => (replica ? [replica] : []))
  }

  /** Replicas that run the machine for the world, as far as they know. */
  get live(): readonly SimReplica[] {
    return this.replicas.filter(({ isLive }) => isLive)
  }

  // ---- things that are started ---------------------------------------------------------------------------------------

  startDiskServer(): void {
    const actor = new Actor(diskHost, this.timeline)
    this.network.onHostIsBack(diskHost)
    const bootId = `boot-${++this.#boots}`
    const server = new DiskServer({
      actor,
      store: this.store,
      records: this.#records,
      bootId,
      witness: this.checkers,
    })
    this.diskServer = server
    actor.onDeath(() => this.checkers.onDiskServerDied())
    this.network.listen<FromArbiter, ToArbiter>('arbiter', actor, (end) => server.onArbiterConnection(end))
    this.network.listen<FromDisk, ToDisk>('disk', actor, (end) => server.onDiskConnection(end))
  }

  startSwitch(): void {
    const actor = new Actor(lanHost, this.timeline)
    const lan = new SwitchServer(actor, this.checkers, (frame) => {
      this.timeline.after(20 + this.chance.below(100), () => this.#stations.onFrame(frame))
    })
    this.lan = lan
    this.network.onHostIsBack(lanHost)
    this.network.listen<MessageToReplica, MessageToSwitch | LanHello>('switch', actor, (end) => lan.onConnection(end))
  }

  /** The operator starts the machine, with a backup. */
  up(): void {
    const run = ++this.#runs
    const first = this.chance.pick(this.hosts)
    this.trace(() => `up: run ${run}, primary ${first.name}, ${this.backups} backups`)
    for (const replica of this.replicas) replica.actor.kill('process')
    this.#stations?.stop()
    this.answers += this.#stations?.answers ?? 0
    this.#stations = new Stations(
      {
        timeline: this.timeline,
        chance: this.chance,
        machineMac: tinyConfig.nic!.mac,
        thinkMs: 25,
        send: (frame) => this.lan.actor.deliver(() => this.lan.onStationFrame(frame)),
        onViolation: (what) => this.checkers.violate(what),
      },
      run * 10,
      stationsPerRun,
    )
    this.#startReplica(first, 'primary', '', BigInt(run))
    for (const host of this.hosts) {
      if (host !== first) this.#startReplica(host, 'backup', first.name, BigInt(run))
    }
  }

  /** The operator starts a backup again that died before its primary had it: the machine waits for one. */
  startMissingBackup(): void {
    const waiting = this.replicas.find(({ primary, isGone }) => primary?.state === 'starting' && !isGone)
    const gone = this.hosts.find(({ replica }) => replica?.isGone)
    if (waiting && gone) this.#startReplica(gone, 'backup', waiting.name, BigInt(this.#runs))
  }

  /** A machine that runs alone gets a new backup, as soon as a host is free. */
  keepProtected(): void {
    const [alone, ...others] = this.live
    if (!alone || others.length > 0 || !this.wantsProtection) return
    const { state, backups } = alone.primary!.status
    if (state === 'asking' || state === 'starting' || backups.length >= this.backups) return
    const free = this.hosts.find(({ replica }) => replica?.isGone)
    if (!free) return
    this.trace(() => `${free.name} is to be the backup of ${alone.name}`)
    this.#startReplica(free, 'backup', alone.name, BigInt(this.#runs))
    const hurt = this.onProtecting
    this.onProtecting = undefined
    hurt?.()
  }

  /** A backup is being given the machine, or is about to be named. */
  get isProtecting(): boolean {
    return this.live.some(({ primary }) => primary!.status.transfer !== undefined)
  }

  #startReplica(host: Host, role: 'primary' | 'backup', primaryHost: string, runId: bigint): void {
    const actor = new Actor(host.name, this.timeline)
    host.replica = new SimReplica({
      actor,
      network: this.network,
      chance: this.chance,
      witness: this.checkers,
      times: this.times,
      role,
      primaryHost,
      runId,
      calendarOffsetMs: () => host.calendarOffsetMs,
    })
    host.replica.start()
  }

  get stations(): Stations {
    return this.#stations
  }

  // ---- deaths --------------------------------------------------------------------------------------------------------

  killReplica(replica: SimReplica, how: Death): void {
    if (replica.isGone) return
    const { primary } = replica
    if (primary && primary.status.heldOutputs > 0) this.checkers.count('output_held_at_death')
    if (this.replicas.some(({ backup }) => backup?.state === 'joining') || primary?.state === 'starting') {
      this.checkers.count('fault_while_joining')
    }
    if (replica.isLive && this.#hasUnlistedSiblings(replica)) this.checkers.count('died_before_siblings_were_listed')
    this.trace(() => `kill ${replica.name} (${how})`)
    replica.actor.kill(how)
  }

  /** It won the machine, and has not named its siblings yet: whoever of them could take over may not. */
  #hasUnlistedSiblings(winner: SimReplica): boolean {
    const { holder, generation, heldSince, takenBy } = this.#records.load().fields
    const isNew = holder === winner.name && takenBy === 'testAndSet' && generation === heldSince
    const isSibling = ({ backup, isGone }: SimReplica): boolean =>
      !isGone &&
      backup !== undefined &&
      (['replaying', 'asking', 'rejoining'] as const).some((state) => state === backup.state)
    return isNew && this.replicas.some((other) => other !== winner && isSibling(other))
  }

  // ---- the end of a run of the machine -------------------------------------------------------------------------------

  /** Hands the run to the checkers. */
  finishRun(isSettled: boolean): void {
    if (this.replicas.some(({ disk }) => disk.steady.restoredChanges > 0))
      this.checkers.count('unflushed_written_again')
    const [survivor] = this.live
    const live = survivor && { machine: survivor.machine, batches: survivor.hart.takeLastBatches() }
    const image = survivor && isSettled ? this.store.cache : undefined
    this.checkers.finishRun(live, image, {
      mayLoseFrames: this.mayLoseFrames,
      isSettled: isSettled && live !== undefined,
    })
    this.mayLoseFrames = false
  }
}
