/**
 * The checkers of a simulation, apart from its workload. They see what leaves replicas and where it arrives (witness.ts), know
 * nothing of roles, gates and acknowledgements, and hold the product to what it promises:
 *
 *  - **never two live**: a generation has one holder; once a grant is answered, nobody of an older generation touches the
 *    disk; the switch forwards what the newest bound replica sends and nothing else;
 *  - **one execution**: what was seen outside is what one machine does that runs by the surviving log, in its order, without
 *    a gap, and again only after a failover;
 *  - **nothing acknowledged is lost**: see also `stations.ts` and `disk-model.ts`;
 *  - **digests equal**: no divergence, and the live machine is what its log says.
 *
 * The log is the truth: what was written by who is live. When another replica goes live, what it does not have never was.
 */

import { assert } from '../base/assert.ts'
import { hash64 } from '../base/digest.ts'
import { sectorBytes } from '../base/units.ts'
import type { ArbiterAnswerOf, ArbiterQuestion } from '../disk/arbiter.ts'
import type { DiskWork } from '../disk/steady-requests.ts'
import { type ReplayedRun, Replayer } from '../hypervisor/replayer.ts'
import { batchEnd, decodeBatch, type LogBatch } from '../log/batch.ts'
import { type Divergence, describeDivergence } from '../log/divergence.ts'
import type { LogEnd, LogEntry, MarkedOutput, Output } from '../log/entry.ts'
import { outputChecksum } from '../log/output-codec.ts'
import { instructionCount, type Machine } from '../machine/types.ts'
import type { CopyStanding, CopyState } from '../replica/copy-state.ts'
import { DiskModel } from './disk-model.ts'
import { EpochRules, type EpochSettings } from './epoch-rules.ts'
import { noSituations, type Situation } from './situations.ts'
import { type DiskRequest, TinyMachine } from './tiny-machine.ts'
import type { DiskVisitor, FrameFate, Witness } from './witness.ts'

interface Seen {
  readonly kind: 'frame' | 'console'
  readonly sequence: bigint
  readonly bytes: Uint8Array
  /** By a primary that woke after a failover and has not heard of it: nothing fences a console (host/console-log.ts). */
  readonly isLate: boolean
  /** Failovers before its replica was live, in this run of the machine: what is under way when it is lost still arrives. */
  readonly failovers: number
}

/** What a primary has written, and before it who it followed. */
interface WrittenLog {
  /** The generation in which it began to write; 0: the first of this run of the machine. */
  readonly hold: number
  readonly writer: string
  readonly batches: LogBatch[]
  /** Where the logs of primaries ended that were followed by another one. */
  readonly failoverEnds: readonly LogEnd[]
}

export interface Verdicts {
  /** Frames may be missing: switch or LAN had a fault. */
  readonly mayLoseFrames: boolean
  /** A replica is live and has had time to send all it has. */
  readonly isSettled: boolean
}

export class Checkers implements Witness {
  readonly violations: string[] = []
  readonly counts = noSituations()
  /** Entries of logs that survived, over all runs of the machine. */
  entries = 0
  /** Boundaries of log entries that were passed (witness.ts). */
  boundaries = 0
  /** For faults: told when a backup is listed next, once. */
  onListedNext: (() => void) | undefined
  /** … when the disk begins with a write, and when it has answered a request. */
  onDiskWriteNext: (() => void) | undefined
  onDiskAnswerNext: (() => void) | undefined
  /** … and when one goes live. */
  onLiveNext: ((replica: string) => void) | undefined
  /** For exhaustive runs: told at each boundary, with its number from 1. */
  onBoundaryReached: ((boundary: number) => void) | undefined
  /**
   * In this run of the machine, the last one's is the truth. Earlier ones are kept: of a winner that is lost before it has backups
   * nothing was ever seen, and who then goes live has followed the one before it, and may have more of that.
   */
  #logs: WrittenLog[] = []
  /** What the disk gave to whoever wrote the log, by its digest. */
  readonly #reads = new Map<bigint, Uint8Array>()
  #seen: Seen[] = []
  #failovers = 0
  /** … when each replica went live; the first one did before any. */
  readonly #failoversBefore = new Map<string, number>()
  #isFirstRun = true
  /** The disk is not shared. */
  hasOwnDisks = false
  /** Whose copy of it is the machine's: who was live last, in any run of the machine. */
  #lastLive = ''
  /** The operator goes back to a copy that was live before. */
  #goesBack = false
  /** Of a machine in the epoch discipline. */
  epochs: EpochSettings | undefined
  #isDiskBroken = false
  /** The first generation of this run of the machine. */
  #runGeneration = Number.POSITIVE_INFINITY
  /** Who held each generation. */
  readonly #holders = new Map<number, string>()
  /** The last grant that was answered. */
  #granted: DiskVisitor = { replica: '', generation: 0 }
  /** The generation of the last one that was granted to a backup. */
  #lastTakeover: number | undefined
  /** Connections with requests on the disk, and how many. */
  readonly #onDisk = new Map<DiskVisitor, number>()
  #bound: DiskVisitor = { replica: '', generation: 0 }
  readonly #describeTime: () => string
  readonly #isAnotherLive: (replica: string) => boolean
  readonly #otherBackups: (replica: string) => number

  constructor(
    describeTime: () => string,
    isAnotherLive: (replica: string) => boolean,
    otherBackups: (replica: string) => number,
  ) {
    this.#otherBackups = otherBackups
    this.#describeTime = describeTime
    this.#isAnotherLive = isAnotherLive
  }

  count(situation: Situation): void {
    this.counts[situation]++
  }

  violate(what: string): void {
    if (this.violations.length < 20) this.violations.push(`${this.#describeTime()} ${what}`)
  }

  /** The end of the log as far as it is written and told. */
  get logEnd(): bigint {
    return endOf(this.#logs.at(-1))
  }

  get #writer(): string | undefined {
    return this.#logs.at(-1)?.writer
  }

  // ---- what is seen --------------------------------------------------------------------------------------------------

  onArbiterAnswer(replica: string, question: ArbiterQuestion, answer: ArbiterAnswerOf): void {
    if (question.op === 'testAndSet' && 'won' in answer) {
      if (answer.won) {
        // The generation of a winner that never opened one of its own.
        const isHeir = this.#lastTakeover === answer.generation - 1
        if (isHeir && replica !== this.#granted.replica) this.count('heir_took_over')
        this.#granted = { replica, generation: answer.generation }
        this.#lastTakeover = answer.generation
      } else this.count('test_and_set_lost')
    } else if (question.op === 'start' && 'granted' in answer && answer.granted) {
      this.#granted = { replica, generation: answer.generation }
    } else if (question.op === 'openGeneration' && 'accepted' in answer && !answer.accepted) {
      this.count('open_generation_lost')
    }
  }

  onRead(data: Uint8Array): void {
    this.#reads.set(hash64(data), data)
  }

  onReadNeeded(isAfterPrimary: boolean): void {
    this.count(isAfterPrimary ? 'read_pending_at_failover' : 'read_awaited')
  }

  onDiskEntered(visitor: DiskVisitor, work: DiskWork): void {
    for (const other of this.#onDisk.keys()) {
      if (other !== visitor && other.replica === visitor.replica) {
        this.violate(`${visitor.replica} has come back to the disk before its broken connection had left it`)
      }
    }
    this.#onDisk.set(visitor, (this.#onDisk.get(visitor) ?? 0) + 1)
    this.#checkGeneration(visitor, work)
    if (work.operation !== 'write') return
    const hook = this.onDiskWriteNext
    this.onDiskWriteNext = undefined
    hook?.()
  }

  onDiskLeft(visitor: DiskVisitor, work: DiskWork): void {
    const left = this.#onDisk.get(visitor)! - 1
    if (left > 0) this.#onDisk.set(visitor, left)
    else this.#onDisk.delete(visitor)
    this.#checkGeneration(visitor, work)
    const hook = this.onDiskAnswerNext
    this.onDiskAnswerNext = undefined
    hook?.()
  }

  /** The disk server's process has ended, and with it all that it was doing. */
  onDiskServerDied(owner?: string): void {
    if (owner === undefined) this.#onDisk.clear()
    for (const visitor of this.#onDisk.keys()) if (visitor.replica === owner) this.#onDisk.delete(visitor)
  }

  // ---- a disk that is not shared ---------------------------------------------------------------------------------------

  onCopied(): void {
    this.count('copied_before_start')
  }

  onCopySynchronized(): void {
    this.count('copy_synchronized')
  }

  onCopyRemoved(): void {
    this.count('copy_removed')
  }

  /** @param before of the copy that the operator goes back to */
  onNoNewestCopy(lost: CopyStanding, before: CopyState | undefined): void {
    this.#goesBack = true
    if (lost === 'incomplete' && before?.state === 'live') this.count('copy_incomplete')
    else this.violate(`nobody's copy is known to be the newest: ${lost}, and ${before?.state} before`)
  }

  /** The machine stands still, and its backup has replayed and done everything. */
  onCopiesCompared(good: Uint8Array, own: Uint8Array): void {
    this.count('copies_compared')
    const at = good.findIndex((byte, offset) => byte !== own[offset])
    if (at >= 0) this.violate(`the copies differ in sector ${Math.floor(at / sectorBytes)}`)
  }

  #checkGeneration({ replica, generation }: DiskVisitor, work: DiskWork): void {
    // An own copy is written by its owner alone, in any generation.
    if (this.hasOwnDisks) return
    if (replica === this.#granted.replica && generation >= this.#granted.generation) return
    this.violate(
      `${replica} of generation ${generation} does a ${work.operation} on the disk after ` +
        `${this.#granted.replica} was granted generation ${this.#granted.generation}: two live`,
    )
  }

  onFencedRequest(): void {
    this.count('late_old_primary')
  }

  onBound(replica: string, generation: number, redelivered: number): void {
    if (redelivered > 0) this.count('frame_redelivered')
    if (generation < this.#bound.generation) this.violate(`the switch binds ${replica} in old generation ${generation}`)
    this.#bound = { replica, generation }
  }

  onFrameOutput(replica: string, sequence: bigint, bytes: Uint8Array, fate: FrameFate): void {
    if (fate === 'fenced') {
      this.count('late_frame_fenced')
      return
    }
    // Of an older run of the machine: it was long on its way.
    if (this.#bound.generation < this.#runGeneration) return
    if (replica !== this.#bound.replica)
      this.violate(`a frame of ${replica} passes while ${this.#bound.replica} is bound`)
    if (fate === 'forwarded') this.#see('frame', replica, sequence, bytes)
    else {
      this.count('unconfirmed_sent_again')
      if (this.#failovers === 0) this.violate(`frame ${sequence} was sent again without a failover`)
    }
  }

  onConsoleOutput(replica: string, sequence: bigint, bytes: Uint8Array): void {
    const isLate = replica !== this.#writer
    this.#see('console', replica, sequence, bytes, isLate)
  }

  #see(kind: Seen['kind'], replica: string, sequence: bigint, bytes: Uint8Array, isLate = false): void {
    const failovers = this.#failoversBefore.get(replica) ?? 0
    this.#seen.push({ kind, sequence, bytes, isLate, failovers })
  }

  onRecorded(replica: string, batch: LogBatch): void {
    const log = this.#logs.findLast(({ writer }) => writer === replica)
    if (!log) return
    if (batch.firstIndex !== endOf(log)) this.violate(`${replica} writes entry ${batch.firstIndex} after ${endOf(log)}`)
    log.batches.push(batch)
  }

  onBoundary(): void {
    this.boundaries++
    this.onBoundaryReached?.(this.boundaries)
  }

  onRestoreRefused(): void {
    this.#isDiskBroken = true
  }

  onFlushFailed(): void {
    this.count('reprotection_flush_failed')
  }

  onListed(): void {
    const hook = this.onListedNext
    this.onListedNext = undefined
    hook?.()
  }

  onRestored(): void {
    this.count('protected_again')
  }

  onRestoreFailed(replica: string, detail: string): void {
    this.violate(`${replica}: ${detail}`)
  }

  onAsks(isLagging: boolean): void {
    if (isLagging) this.count('lag_at_failover')
  }

  onHeldBack(how: 'log_full' | 'lag_control'): void {
    this.count(how)
  }

  onBackupDropped(): void {
    this.count('backup_dropped')
  }

  onReissued(_replica: string, requests: readonly DiskRequest[]): void {
    if (requests.some(({ operation }) => operation === 'write')) this.count('reissued_write')
  }

  onHolds(replica: string, generation: number): void {
    const holder = this.#holders.get(generation)
    if (holder !== undefined && holder !== replica) {
      this.violate(`${holder} and ${replica} both hold generation ${generation}: two live`)
    }
    this.#holders.set(generation, replica)
    if (this.#writer === undefined) {
      if (this.hasOwnDisks && this.#lastLive !== '' && replica !== this.#lastLive && !this.#goesBack) {
        this.violate(`${replica} starts the machine from its own copy, and ${this.#lastLive} was live later`)
      }
      this.#goesBack = false
      this.#logs.push({ hold: 0, writer: replica, batches: [], failoverEnds: [] })
      this.#runGeneration = generation
    }
  }

  onLive(replica: string, generation: number, hold: number, logEnd: LogEnd): void {
    this.count('failover')
    const hook = this.onLiveNext
    this.onLiveNext = undefined
    hook?.(replica)
    const others = this.#otherBackups(replica)
    if (others > 0) this.count('promoted_with_another_attached')
    if (others > 1) this.count('promoted_with_two_others_attached')
    if (this.#isAnotherLive(replica)) this.count('took_over_from_living_primary')
    this.#failovers++
    this.#failoversBefore.set(replica, this.#failovers)
    if (this.#failovers > 1) this.count('second_failover')
    const followed = this.#logs.findLast((log) => log.hold <= hold)
    if (logEnd > endOf(followed)) this.violate(`${replica} goes live at entry ${logEnd} of ${endOf(followed)}`)
    if (logEnd < endOf(followed)) this.count('entries_lost_with_primary')
    const { batches = [], failoverEnds = [] } = followed ?? {}
    const log: WrittenLog = {
      hold: generation,
      writer: replica,
      batches: batches.filter(({ firstIndex }) => firstIndex < logEnd),
      failoverEnds: [...failoverEnds.filter((end) => end < logEnd), logEnd],
    }
    if (endOf(log) !== logEnd) this.violate(`${replica} goes live at entry ${logEnd}, in the middle of a batch`)
    this.#logs.push(log)
  }

  onDivergence(replica: string, divergence: Divergence): void {
    this.violate(`${replica}: ${describeDivergence(divergence)}`)
  }

  // ---- the verdict on a run of the machine -----------------------------------------------------------------------------

  /**
   * A run of the machine is over: compares what was seen with what its log says.
   * @param live the machine that is live at the end, if one is, and entries it has written and not told
   * @param image the disk, if everything answered is on it
   */
  finishRun(
    live: { machine: Machine; batches: readonly LogBatch[] } | undefined,
    image: Uint8Array | undefined,
    verdicts: Verdicts,
  ): void {
    if (live) this.#logs.at(-1)?.batches.push(...live.batches)
    this.entries += Number(this.logEnd)
    const made = this.#replayTruth(live?.machine, image, verdicts.mayLoseFrames)
    if (made) {
      this.#compare('frame', made, verdicts.isSettled && !verdicts.mayLoseFrames, verdicts)
      this.#compare('console', made, verdicts.isSettled, verdicts)
    }
    // Before it was switched on, nothing changed.
    if (this.logEnd > 0n) this.#lastLive = this.#writer!
    this.#logs = []
    this.#runGeneration = Number.POSITIVE_INFINITY
    this.#seen = []
    this.#failovers = 0
    this.#failoversBefore.clear()
    this.#isFirstRun = false
    this.#isDiskBroken = false
  }

  /** Runs the surviving log on a machine of its own. */
  #replayTruth(
    live: Machine | undefined,
    image: Uint8Array | undefined,
    mayLoseFrames: boolean,
  ): readonly Output[] | undefined {
    const truth = new Replayer(new TinyMachine())
    const model = new DiskModel(this.#isFirstRun)
    const made: Output[] = []
    const { batches = [], failoverEnds = [] } = this.#logs.at(-1) ?? {}
    const epochs = this.epochs && new EpochRules(this.epochs, failoverEnds, (situation) => this.count(situation))
    for (const batch of batches) {
      const entries = decodeBatch(batch.bytes)
      const { state, outputs } = this.#replay(truth, batch, entries)
      if (state.kind === 'diverged') {
        this.violate(`the log does not describe a machine: ${describeDivergence(state.divergence)}`)
        return undefined
      }
      const starts = new Map(outputs.map(({ output, markerIndex }) => [markerIndex as bigint, output]))
      for (const entry of entries) {
        const { index, body } = entry
        const broken = epochs?.onEntry(entry)
        if (broken) this.violate(broken)
        if (body.kind === 'marker') {
          const output = starts.get(index)!
          made.push(output)
          if (output.kind === 'disk') model.onRequest(output)
        } else if (body.kind === 'diskCompletion') {
          const wrong = model.onAnswer(body.sequence, body.status, body.data)
          if (wrong && !this.#isDiskBroken) this.violate(wrong)
        } else if (body.kind === 'diskRead') {
          const wrong = model.onAnswer(body.sequence, 'ok', this.#reads.get(body.dataDigest))
          if (wrong && !this.#isDiskBroken) this.violate(wrong)
        } else if (body.kind === 'frame') this.#checkFrame(body.frameId, mayLoseFrames)
      }
    }
    if (live) {
      const { machine } = truth
      if (machine.count < live.count) machine.run(instructionCount(live.count))
      if (machine.digest() !== live.digest()) this.violate('the live machine is not what its log says: digests differ')
      const wrong = image && model.compare(image)
      if (wrong && !this.#isDiskBroken) this.violate(`disk at the end: ${wrong}`)
    }
    this.#lastFrameId = 0n
    return made
  }
  #lastFrameId = 0n

  /** With what was left out of the log. */
  #replay(truth: Replayer, batch: LogBatch, entries: readonly LogEntry[]): Pick<ReplayedRun, 'state' | 'outputs'> {
    truth.append(batch)
    const outputs: MarkedOutput[] = []
    for (;;) {
      const ran = truth.run(1n << 50n)
      outputs.push(...ran.outputs)
      const { state } = ran
      if (state.kind !== 'needsRead') return { state, outputs }
      const { sequence } = state.need
      const read = entries.find(({ body }) => body.kind === 'diskRead' && body.sequence === sequence)
      assert(read?.body.kind === 'diskRead', 'a replay waits for an entry of its last batch')
      truth.provide(sequence, this.#reads.get(read.body.dataDigest)!)
    }
  }

  /** Those that came before the power-on are dropped, as by any machine that is off; then no number is missing. */
  #checkFrame(frameId: bigint, mayLoseFrames: boolean): void {
    const last = this.#lastFrameId
    const isLost = last !== 0n && frameId > last + 1n && !mayLoseFrames
    if (frameId <= last) this.violate(`inbound frame ${frameId} entered after ${last}`)
    else if (isLost) this.violate(`inbound frame ${last + 1n} is lost: ${frameId} entered after ${last}`)
    this.#lastFrameId = frameId
  }

  #compare(kind: Seen['kind'], made: readonly Output[], mustBeComplete: boolean, { mayLoseFrames }: Verdicts): void {
    const truth = made.filter((output) => output.kind === kind)
    const positions = new Map(truth.map((output, position) => [output.sequence, position]))
    /** Failovers before each was seen. */
    const seenAfter = new Array<number | undefined>(truth.length)
    let next = 0
    for (const { sequence, bytes, isLate, failovers } of this.#seen.filter((seen) => seen.kind === kind)) {
      const position = positions.get(sequence)
      const output = position === undefined ? undefined : truth[position]!
      if (position === undefined || output === undefined) {
        this.violate(`${kind} ${sequence} was seen, and the machine never made it: released before it was acknowledged`)
        continue
      }
      if (outputChecksum({ kind, sequence, bytes }) !== outputChecksum(output)) {
        this.violate(`${kind} ${sequence} was seen, and the machine made another one`)
      }
      // All it can have is what was acknowledged: its successor has shown that before.
      if (isLate && position < next) continue
      // Again only after a failover, by the replica that then went live.
      if (seenAfter[position] === failovers) this.violate(`${kind} ${sequence} was seen twice without a failover`)
      if (position > next && !(kind === 'frame' && mayLoseFrames)) {
        this.violate(`${kind} ${sequence} was seen, and one before it never: an output is lost`)
      }
      seenAfter[position] = failovers
      next = Math.max(next, position + 1)
    }
    if (mustBeComplete && next < truth.length) {
      this.violate(`${kind} ${truth[next]!.sequence} was made and never seen: an output is lost`)
    }
  }
}

function endOf(log: WrittenLog | undefined): bigint {
  const last = log?.batches.at(-1)
  return last ? batchEnd(last) : 0n
}
