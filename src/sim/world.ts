/**
 * The fake world of one simulation: two hosts for replicas, a disk server, a switch, stations, an operator. It starts things
 * and lets faults happen (faults.ts); what is right and wrong is the checkers' business.
 */

import type { MessageToReplica, MessageToSwitch } from '../lan/replica-message.ts'
import { type Discipline, epochProtocols, exactDiscipline } from '../log/discipline.ts'
import type { DiskBus } from '../machine/types.ts'
import { type CopyState, copyStanding } from '../replica/copy-state.ts'
import type { ReplicationPolicy } from '../replication/policy.ts'
import { defaultReplicationPolicy } from '../replication/policy.ts'
import { defaultReachPolicy } from '../replication/reach-probe.ts'
import { Actor, type Death } from './actor.ts'
import { Chance } from './chance.ts'
import { Checkers } from './checkers.ts'
import { RecordFile } from './disk-server.ts'
import { DiskSite } from './disk-site.ts'
import { diskHost, lanHost, replicaNames } from './names.ts'
import { Network } from './network.ts'
import { SimReplica, type Times } from './replica.ts'
import { Stations } from './stations.ts'
import { type LanHello, SwitchServer } from './switch-server.ts'
import { Timeline } from './timeline.ts'
import { tinyConfig } from './tiny-machine.ts'

/** A replica host starts a process at a time. */
export interface Host {
  readonly name: string
  replica: SimReplica | undefined
  /** How far its calendar is beside fake time. */
  calendarOffsetMs: number
  /** Of own copies: what became of this host's. */
  stamp: CopyState | undefined
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

/** An eighth of the seeds with one backup have a disk that is not shared: each replica has its own copy. Dice of their own, too. */
function ownDisksIn(seed: number): boolean {
  return new Chance(seed, 39).chance(0.12)
}

function timesOf(seed: number, chance: Chance, backups: number, hasOwnDisks: boolean): Times {
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
    hasOwnDisks,
  }
}

const epochLengths = [1000, 4000, 20_000]
const stationsPerRun = 3

export class World {
  readonly timeline = new Timeline()
  readonly chance: Chance
  readonly checkers: Checkers
  readonly network: Network
  readonly hosts: readonly Host[]
  readonly times: Times
  /** How many the machine is to have. */
  readonly backups: number
  /** The arbiter's, with the shared disk, if it is one. */
  readonly arbiterSite: DiskSite
  /** Of a disk that is not shared: each replica's own copy, on its host. */
  readonly copies: readonly DiskSite[]
  lan!: SwitchServer
  /** A fault touched the switch or a cable to it in this run of the machine. */
  mayLoseFrames = false
  /** What the operator wants. */
  wantsProtection = true
  /** For faults: told when the next backup is started, once. */
  onProtecting: (() => void) | undefined
  readonly #records = new RecordFile()
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
    this.arbiterSite = this.#newSite(diskHost)
    this.backups = backupsOf(seed, chance)
    if (this.backups === 3) this.checkers.count('three_backups')
    const hasOwnDisks = this.backups === 1 && ownDisksIn(seed)
    if (hasOwnDisks) this.checkers.count('own_disks')
    this.checkers.hasOwnDisks = hasOwnDisks
    this.times = timesOf(seed, chance, this.backups, hasOwnDisks)
    const { discipline } = this.times.policy
    if (discipline.kind === 'epoch') this.checkers.epochs = { discipline, bus: this.times.bus }
    this.hosts = replicaNames
      .slice(0, this.backups + 1)
      .map((name) => ({ name, replica: undefined, calendarOffsetMs: chance.between(-40, 40), stamp: undefined }))
    this.copies = hasOwnDisks ? this.hosts.map(({ name }) => this.#newSite(name, name)) : []
    for (const site of [this.arbiterSite, ...this.copies]) site.start()
    this.startSwitch()
    this.#keepWatch()
  }

  #newSite(host: string, owner?: string): DiskSite {
    const { timeline, network, chance, checkers } = this
    const onDied = (): void => checkers.onDiskServerDied(owner)
    const options = { host, timeline, network, chance, records: this.#records, witness: checkers, onDied }
    return new DiskSite(owner === undefined ? options : { ...options, owner })
  }

  /** Whose requests are carried out here, or would be. */
  copyOf(replica: string): DiskSite | undefined {
    return this.copies.find(({ host }) => host === replica)
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
    const first = this.#startingHost(this.chance.pick(this.hosts))
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

  /**
   * Of a disk that is not shared: the host whose copy was live last. If that is not known of any, because a winner was lost with
   * the other replica before it had all that it had followed, the operator goes back to the one that was live before.
   */
  #startingHost(chosen: Host): Host {
    if (this.copies.length === 0) return chosen
    const record = this.#records.load().fields
    const standing = ({ name, stamp }: Host) => copyStanding(stamp, record, name)
    const newest = [chosen, ...this.hosts].find((host) => standing(host) === 'newest')
    if (newest) return newest
    const before = this.hosts.find(({ name }) => name !== record.holder)!
    const lost = this.hosts.find((host) => host !== before)!
    this.checkers.onNoNewestCopy(standing(lost), before.stamp)
    before.stamp = undefined
    return before
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
    if (!alone || others.length > 0 || !this.wantsProtection || !alone.areCopiesSafe) return
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
      stamp: {
        read: () => host.stamp,
        write: (stamp) => {
          host.stamp = stamp
        },
      },
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
    const copy = how === 'host' ? this.copyOf(replica.name) : undefined
    if (copy) this.#powerCycle(copy)
  }

  /** A replica's host is gone, and with it the disk server that has its own copy. Both come back. */
  #powerCycle(copy: DiskSite): void {
    if (copy.server.actor.isDead) return
    copy.server.actor.kill('host')
    this.timeline.after(this.chance.between(20, 200) * 1000, () => {
      if (copy.server.actor.isDead) copy.start()
    })
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
    const { store } = (survivor && this.copyOf(survivor.name)) ?? this.arbiterSite
    const image = survivor && isSettled ? store.cache : undefined
    if (isSettled) this.#compareCopies()
    this.checkers.finishRun(live, image, {
      mayLoseFrames: this.mayLoseFrames,
      isSettled: isSettled && live !== undefined,
    })
    this.mayLoseFrames = false
  }

  /** Of a disk that is not shared: a protected machine's backup has replayed everything, and its copy has it. */
  get areCopiesBeside(): boolean {
    const pair = this.#pairWithCopies
    return !pair || pair.backup.isBeside(pair.live)
  }

  get #pairWithCopies(): { readonly live: SimReplica; readonly backup: SimReplica } | undefined {
    const [live] = this.live
    const backup = this.replicas.find(({ isGone, name }) => !isGone && name !== live?.name)
    const isPair = this.copies.length > 0 && live?.primary?.state === 'protected'
    return isPair && backup ? { live, backup } : undefined
  }

  #compareCopies(): void {
    const pair = this.#pairWithCopies
    if (!pair) return
    const imageOf = ({ name }: SimReplica): Uint8Array => this.copyOf(name)!.store.cache
    this.checkers.onCopiesCompared(imageOf(pair.live), imageOf(pair.backup))
  }
}
