/**
 * A whole pair in one thread, driven by a seed: two replicas or more (toy machine, Recorder or Replayer, Primary or Backup),
 * their channels as bytes, the arbiter's real record, and a world of a switch, a disk and a console that confirm late.
 * Every step picks one thing that could happen now, so any interleaving may come up; faults are picked like any other.
 * At each release the record is looked at: every backup in it must have the entry that is being released.
 */

import assert from 'node:assert/strict'
import { Prng } from '../../src/base/prng.ts'
import { ArbiterRecord } from '../../src/disk/arbiter-record.ts'
import { EpochBackup } from '../../src/hypervisor/epoch/epoch-backup.ts'
import { EpochPrimary } from '../../src/hypervisor/epoch/epoch-primary.ts'
import { Obligations } from '../../src/hypervisor/obligations.ts'
import { Recorder } from '../../src/hypervisor/recorder.ts'
import { type GoneLive, Replayer } from '../../src/hypervisor/replayer.ts'
import { type EpochDiscipline, exactDiscipline } from '../../src/log/discipline.ts'
import { logIndex, type MarkedOutput } from '../../src/log/entry.ts'
import { obeysOutputRule } from '../../src/log/output-rule.ts'
import { type DiskBus, instructionCount } from '../../src/machine/types.ts'
import { Backup } from '../../src/replication/backup.ts'
import type { ArbiterAnswer, BackupEffect, ChannelId, PrimaryEffect } from '../../src/replication/effects.ts'
import { encodeMessage, MessageDecoder } from '../../src/replication/message-codec.ts'
import type { Message } from '../../src/replication/messages.ts'
import { defaultReplicationPolicy } from '../../src/replication/policy.ts'
import { Primary } from '../../src/replication/primary.ts'
import { fullReach, type Reach } from '../../src/replication/reach.ts'
import { identity } from './replication.ts'
import { type Call, type End, ToyReplica } from './toy-replica.ts'
import { ToyWorld, type Verdict } from './toy-world.ts'

/** What happens to the pair, at random steps. */
export interface Faults {
  /** Ends the process at once. */
  readonly kill?: 'primary' | 'backup' | 'both'
  /** So often, one after the other, whoever is live is killed. */
  readonly killLive?: number
  /** A winner is killed before the arbiter lists any backup of its own. */
  readonly killWinner?: boolean
  /** Nothing passes between this replica and the others any more, and both ends notice at different times. All go on running. */
  readonly partition?: 'a' | 'b' | 'c'
  /** The arbiter answers nothing for a while. */
  readonly arbiterOutage?: boolean
  /** The replica that began in this role, or both, lose the disk server (with the arbiter) or the LAN, silently. Its host notices some time later. */
  readonly outOfReach?: { readonly who: 'primary' | 'backup' | 'both'; readonly what: keyof Reach }
  /** Nobody is suspected for being slow. Otherwise slow channels do become suspicions. */
  readonly isPatient?: boolean
}

/** How a pair is set up. */
export interface Setup {
  /** Default 1. */
  readonly backups?: number
  /** Backups read the disk themselves. Default: no. */
  readonly backupReads?: boolean
  /** Default: the exact discipline. */
  readonly epochs?: EpochDiscipline
  /** Of the disk; default: one that has no word for an uncertain outcome. */
  readonly bus?: DiskBus
}

export class ToyPair {
  readonly a: ToyReplica
  readonly b: ToyReplica
  readonly replicas: readonly ToyReplica[]
  #nextChannel: ChannelId = 1
  readonly #world: ToyWorld
  readonly #prng: Prng
  readonly #faults: Faults
  #nowMs = 0
  #record = ArbiterRecord.fresh('shop')
  #isArbiterOut = false
  #isolated: ToyReplica | undefined
  readonly #leavesOutReads: boolean
  goneLive = 0
  /** A winner was killed before it had backups. */
  killedWinner = false

  readonly #discipline: EpochDiscipline | undefined

  constructor(seed: number, faults: Faults, { backups = 1, backupReads = false, epochs, bus }: Setup = {}) {
    this.a = new ToyReplica('a', bus)
    this.b = new ToyReplica('b', bus)
    this.#discipline = epochs
    this.#leavesOutReads = backupReads
    this.#prng = new Prng(seed)
    this.#world = new ToyWorld(this.#prng, this.a)
    this.#faults = faults
    const { a, b } = this
    const others = Array.from({ length: backups - 1 }, (_, index) => new ToyReplica('cdefg'[index]!, bus))
    this.replicas = [a, b, ...others]
    const options = { leavesOutReads: backupReads }
    a.recorder = new Recorder(a.machine, logIndex(0n), new Obligations(), options)
    if (epochs) a.epochs = new EpochPrimary(a.recorder, epochs)
    const { detector } = defaultReplicationPolicy
    const timeoutMs = faults.isPatient ? 1e9 : detector.timeoutMs
    const logSilenceMs = faults.isPatient ? 1e9 : detector.logSilenceMs
    const patient = { ...detector, timeoutMs, logSilenceMs }
    const discipline = epochs ?? exactDiscipline
    const policy = { ...defaultReplicationPolicy, backups, readStallMs: 1e9, detector: patient, discipline }
    const started = this.#record.start('a')
    this.#record = started.next
    a.primary = new Primary({ identity, replica: 'a', generation: 1, runId: 1n, state: 'starting', policy })
    this.#onPrimary(a, a.primary.start(0))
    for (const replica of [b, ...others]) {
      replica.replayer = new Replayer(replica.machine)
      replica.backup = new Backup({ identity, replica: replica.name, address: replica.name, policy }, 0)
      const end = this.#connect(replica, a)
      replica.following = end
      this.#onPrimary(a, a.primary.onChannelOpen(end.other!.id, 0))
      this.#onBackup(replica, replica.backup.onChannelOpen(0))
    }
  }

  // ---- one step ------------------------------------------------------------------------------------------------------

  run(steps: number): void {
    const planned: [number, () => void][] = []
    const { kill, killLive, partition, arbiterOutage, outOfReach } = this.#faults
    const within = (from: number, to: number) =>
      Math.floor(steps * from) + this.#prng.below(Math.floor(steps * (to - from)))
    if (kill === 'primary' || kill === 'both') planned.push([within(0.05, 0.8), () => this.#kill(this.a)])
    if (kill === 'backup' || kill === 'both') planned.push([within(0.05, 0.8), () => this.#kill(this.b)])
    if (outOfReach) planned.push([within(0.2, 0.8), () => this.#loseReach(outOfReach)])
    for (let nth = 0; nth < (killLive ?? 0); nth++) {
      planned.push([within(0.1 + 0.4 * nth, 0.3 + 0.4 * nth), () => this.#killLive()])
    }
    if (partition) planned.push([within(0.05, 0.8), () => (this.#isolated = this.#named(partition))])
    if (arbiterOutage) {
      const from = within(0.05, 0.5)
      planned.push([from, () => (this.#isArbiterOut = true)])
      planned.push([from + Math.floor(steps * 0.3), () => (this.#isArbiterOut = false)])
    }
    for (let step = 0; step < steps; step++) {
      for (const [at, happens] of planned) if (at === step) happens()
      if (this.#faults.killWinner) this.#killWinner()
      this.#step(true)
    }
    // The world calms down: no new inputs, everything in transit arrives, every deadline passes.
    this.#isArbiterOut = false
    // An heir that nobody has called waits for 10 s.
    const calmSteps = this.#faults.killWinner ? 8000 : 3000
    for (let step = 0; step < calmSteps; step++) this.#step(false)
    // Cables are mended: who lost, and could not hear it, hears it now.
    for (const replica of this.replicas) replica.reach = fullReach
    for (let step = 0; step < 500; step++) this.#step(false)
  }

  #step(isBusy: boolean): void {
    const actions: (() => void)[] = [() => this.#tick()]
    for (const replica of this.replicas) {
      if (replica.isGone) continue
      for (const end of replica.ends.values()) {
        if (end.wire.length > 0 && !this.#isCut(end)) actions.push(() => this.#receive(end))
        if (this.#isPeerGone(end)) actions.push(() => this.#closeEnd(end))
      }
      for (const call of replica.calls) {
        if (!call.end?.isOpen && call.untilMs > this.#nowMs) actions.push(() => this.#dial(replica, call))
      }
      if (this.#hasNewsOfReach(replica)) actions.push(() => this.#onReach(replica))
      if (replica.arbiterQuestion) actions.push(() => this.#answer(replica))
      if (replica.fromHart.length > 0) actions.push(() => replica.fromHart.shift()!())
      if (replica.replayer) actions.push(() => this.#replay(replica))
      const hasWork = isBusy || replica.mailbox.length > 0 || replica.owesEpochEnd
      if (replica.recorder && !replica.isPaused && hasWork) {
        actions.push(() =>
          replica.epochs ? this.#runEpoch(replica, replica.epochs, isBusy) : this.#record_(replica, isBusy),
        )
      }
    }
    if (isBusy) actions.push(() => this.#world.frameArrives())
    if (this.#world.hasDiskRequests) actions.push(() => this.#world.diskAnswers())
    if (this.#world.hasConfirmations) actions.push(() => this.#confirm())
    this.#prng.pick(actions)()
  }

  #tick(): void {
    this.#nowMs += 10
    for (const replica of this.replicas) {
      if (replica.isGone) continue
      const role = replica.primary ?? replica.backup
      const isDue = role !== undefined && this.#nowMs >= role.dueMs
      if (replica.primary) this.#onPrimary(replica, this.#checkTick(replica.primary, isDue))
      else if (replica.backup) this.#onBackup(replica, this.#checkTick(replica.backup, isDue))
    }
  }

  /** A host ticks a role when it says that it is due, so time alone may change nothing before, and does something then. */
  #checkTick<Effect extends PrimaryEffect | BackupEffect>(
    role: { readonly dueMs: number; onTick(nowMs: number): Effect[] },
    isDue: boolean,
  ): Effect[] {
    const effects = role.onTick(this.#nowMs)
    const isEarly = (effect: Effect): boolean =>
      effect.kind === 'setCpuPercent' || (effect.kind === 'send' && effect.message.kind === 'confirmed')
    if (!isDue)
      assert.deepEqual(
        effects.filter((effect) => !isEarly(effect)),
        [],
        'nothing happens before it is due',
      )
    assert.ok(role.dueMs > this.#nowMs, 'what was due is done')
    return effects
  }

  // ---- the channel ---------------------------------------------------------------------------------------------------

  #named(name: string): ToyReplica {
    return this.replicas.find((replica) => replica.name === name)!
  }

  /** @returns the end of who connects */
  #connect(from: ToyReplica, to: ToyReplica): End {
    const [near, far] = [from, to].map((owner): End => {
      const id = this.#nextChannel++
      const end = { id, owner, decoder: new MessageDecoder(), wire: [], other: undefined, isOpen: true }
      owner.ends.set(id, end)
      return end
    }) as [End, End]
    near.other = far
    far.other = near
    return near
  }

  #dial(from: ToyReplica, call: Call): void {
    const to = this.#named(call.replica)
    if (to.isGone || from === this.#isolated || to === this.#isolated) {
      if (from.backup) this.#onBackup(from, from.backup.onSiblingUnreachable(to.name, this.#nowMs))
      return
    }
    call.end = this.#connect(from, to)
    if (to.primary) this.#onPrimary(to, to.primary.onChannelOpen(call.end.other!.id, this.#nowMs))
    if (from.primary) this.#onPrimary(from, from.primary.onSiblingOpen(call.end.id, this.#nowMs))
    else this.#onBackup(from, from.backup!.onSiblingOpen(call.end.id, to.name))
  }

  #isCut({ owner, other }: End): boolean {
    return owner === this.#isolated || other?.owner === this.#isolated
  }

  #send(end: End | undefined, message: Message): void {
    const other = end?.other
    if (end?.isOpen && other?.isOpen && !other.owner.isDead) other.wire.push(encodeMessage(message))
  }

  #receive(end: End): void {
    const { owner } = end
    for (const message of end.decoder.push(end.wire.shift()!)) {
      if (!end.isOpen || owner.isGone) return
      if (owner.primary) this.#onPrimary(owner, owner.primary.onMessage(end.id, message, this.#nowMs))
      else if (end === owner.following) this.#onBackup(owner, owner.backup!.onMessage(message, this.#nowMs))
      else this.#onBackup(owner, owner.backup!.onPeerMessage(end.id, message, this.#nowMs))
    }
  }

  /** The peer closed or died, and everything it sent before has arrived (TCP) or is lost for good. */
  #isPeerGone(end: End): boolean {
    const isGone = !end.other?.isOpen || end.other.owner.isGone
    return end.isOpen && isGone && (end.wire.length === 0 || this.#isCut(end))
  }

  #closeEnd(end: End): void {
    const { owner } = end
    this.#shut(owner, end)
    if (owner.primary) this.#onPrimary(owner, owner.primary.onChannelClosed(end.id, this.#nowMs))
    else if (end === owner.following) this.#onBackup(owner, owner.backup!.onChannelClosed(this.#nowMs))
    else this.#onBackup(owner, owner.backup!.onPeerClosed(end.id, this.#nowMs))
  }

  #shut(owner: ToyReplica, end: End | undefined): void {
    if (end === undefined) return
    end.isOpen = false
    end.wire.length = 0
    owner.ends.delete(end.id)
  }

  #killLive(): void {
    const live = this.replicas.find(({ isLive }) => isLive)
    if (live) this.#kill(live)
  }

  #killWinner(): void {
    const winner = this.replicas.find(({ isLive, primary }) => isLive && primary?.state === 'asking')
    if (!winner || this.killedWinner || this.#record.fields.takenBy !== 'testAndSet' || !this.#prng.chance(0.1)) return
    if (this.#record.fields.generation !== this.#record.fields.heldSince) return
    this.killedWinner = true
    this.#kill(winner)
  }

  #kill(replica: ToyReplica): void {
    replica.isDead = true
    // What it sent may arrive, or a part of it: the operating system decides.
    for (const { other } of replica.ends.values()) {
      if (other) other.wire.length = this.#prng.below(other.wire.length + 1)
    }
  }

  // ---- reach ---------------------------------------------------------------------------------------------------------

  #loseReach({ who, what }: NonNullable<Faults['outOfReach']>): void {
    for (const replica of this.replicas) {
      const began = replica === this.a ? 'primary' : 'backup'
      if (who === 'both' || who === began) replica.reach = { ...replica.reach, [what]: false }
    }
  }

  #hasNewsOfReach({ reach, primary, backup, knownReach }: ToyReplica): boolean {
    return (primary ?? backup) !== undefined && reach !== knownReach
  }

  #onReach(replica: ToyReplica): void {
    replica.knownReach = replica.reach
    if (replica.primary) this.#onPrimary(replica, replica.primary.onReach(replica.reach, this.#nowMs))
    else this.#onBackup(replica, replica.backup!.onReach(replica.reach, this.#nowMs))
  }

  // ---- the arbiter ---------------------------------------------------------------------------------------------------

  #answer(replica: ToyReplica): void {
    const question = replica.arbiterQuestion!
    replica.arbiterQuestion = undefined
    // A question may be answered and the answer lost: then it is asked again.
    const isAnswerLost = this.#isArbiterOut && this.#prng.chance(0.5)
    const answer: ArbiterAnswer =
      (this.#isArbiterOut && !isAnswerLost) || !replica.reach.disk
        ? { result: 'unreachable', detail: 'out' }
        : question()
    const heard: ArbiterAnswer = isAnswerLost ? { result: 'unreachable', detail: 'answer lost' } : answer
    if (replica.primary) this.#onPrimary(replica, replica.primary.onArbiterAnswer(heard, this.#nowMs))
    else this.#onBackup(replica, replica.backup!.onArbiterAnswer(heard, this.#nowMs))
  }

  // ---- effects -------------------------------------------------------------------------------------------------------

  #onPrimary(replica: ToyReplica, effects: readonly PrimaryEffect[]): void {
    for (const effect of effects) {
      switch (effect.kind) {
        case 'send':
          this.#send(replica.ends.get(effect.channel), effect.message)
          break
        case 'closeChannel':
          this.#shut(replica, replica.ends.get(effect.channel))
          break
        case 'release':
          for (const marked of effect.outputs) {
            this.#checkOutputRule(replica, marked)
            this.#world.receive(replica, marked.output)
          }
          break
        case 'acknowledged':
          replica.epochs?.onAcknowledged(effect.end)
          break
        case 'reissue':
          for (const request of effect.requests) this.#world.receive(replica, request)
          break
        case 'covered':
          this.#world.cover(effect.frameId)
          break
        case 'openGeneration':
          replica.arbiterQuestion = () => {
            const { answer, next } = this.#record.openGeneration(replica.name, effect.generation, effect.eligible)
            this.#record = next
            return answer.accepted
              ? { result: 'granted', generation: answer.generation }
              : { result: 'refused', detail: answer.reason }
          }
          break
        case 'enterGeneration':
          assert.equal(this.#record.fields.holder, replica.name, 'enters a generation that another one holds')
          this.#sendInherited(replica)
          break
        case 'pauseHart':
          replica.isPaused = true
          break
        case 'resumeHart':
          replica.isPaused = false
          break
        case 'halt':
          replica.halted = effect.reason
          break
        case 'reportDivergence':
          assert.fail(`divergence: ${effect.divergence.expected} / ${effect.divergence.found}`)
      }
    }
  }

  #onBackup(replica: ToyReplica, effects: readonly BackupEffect[]): void {
    for (const effect of effects) {
      switch (effect.kind) {
        case 'send':
          this.#send(replica.following, effect.message)
          break
        case 'closeChannel':
          this.#shut(replica, replica.following)
          break
        case 'sendPeer':
          this.#send(replica.ends.get(effect.channel), effect.message)
          break
        case 'closePeer':
          this.#shut(replica, replica.ends.get(effect.channel))
          break
        case 'adoptPeer':
          replica.following = replica.ends.get(effect.channel)
          break
        case 'callSiblings':
          for (const { replica: name } of effect.siblings) {
            replica.calls.push({
              replica: name,
              untilMs: this.#nowMs + defaultReplicationPolicy.callMs,
              end: undefined,
            })
          }
          break
        case 'replay':
          replica.replayer!.append(effect.batch)
          replica.batches.push(effect.batch)
          break
        case 'testAndSet':
          replica.arbiterQuestion = () => {
            const { answer, next } = this.#record.testAndSet(replica.name, effect.generation)
            this.#record = next
            return answer.won
              ? { result: 'granted', generation: answer.generation }
              : {
                  result: 'refused',
                  detail: `${answer.holder} holds ${answer.generation}`,
                  ...(answer.holder === null ? {} : { holder: answer.holder }),
                  ...(answer.isEligible ? { eligibleIn: answer.generation } : {}),
                }
          }
          break
        case 'goLive':
          this.#goLive(replica, effect)
          break
        case 'halt':
          replica.halted = effect.reason
          break
        case 'reportDivergence':
          assert.fail(`divergence: ${effect.divergence.expected} / ${effect.divergence.found}`)
      }
    }
  }

  /** What the world learns, everybody who may take over knows (invariants 5 and 8). */
  #checkOutputRule(from: ToyReplica, { output, markerIndex }: MarkedOutput): void {
    const { holder, eligible } = this.#record.fields
    if (!obeysOutputRule(output)) return
    if (holder !== from.name) {
      // It does not know yet that another one holds the machine: whoever took over had acknowledged this before.
      const successor = holder === null ? undefined : this.#named(holder)
      assert.ok(!successor || successor.logEnd > markerIndex, `${from.name} released ${markerIndex} as a late primary`)
      return
    }
    for (const name of eligible) {
      assert.ok(this.#named(name).logEnd > markerIndex, `${markerIndex} was released, and ${name} lacks it`)
    }
  }

  #sendInherited(replica: ToyReplica): void {
    for (const marked of replica.inherited.splice(0)) {
      this.#checkOutputRule(replica, marked)
      this.#world.receive(replica, marked.output)
    }
  }

  #goLive(replica: ToyReplica, effect: Extract<BackupEffect, { kind: 'goLive' }>): void {
    this.goneLive++
    assert.equal(this.#record.fields.holder, replica.name)
    const { recorder, outputs, reissue } = this.#takeOver(replica)
    replica.recorder = recorder
    replica.replayer = undefined
    replica.primary = replica.backup!.toPrimary()
    replica.inherited = [...effect.unconfirmed]
    if (replica.primary.state === 'alone') this.#sendInherited(replica)
    this.#world.bind(replica, effect.coveredFrameId ?? 0n, replica.primary.state === 'alone')
    for (const { lengthBytes } of recorder.obligations.entropyRequests) {
      replica.mailbox.push({ kind: 'entropy', bytes: new Uint8Array(lengthBytes) })
    }
    for (const { channel, hello } of effect.joiners) {
      this.#onPrimary(replica, replica.primary.onChannelOpen(channel, this.#nowMs))
      this.#onPrimary(replica, replica.primary.onMessage(channel, hello, this.#nowMs))
    }
    this.#onPrimary(replica, replica.primary.start(this.#nowMs))
    this.#onPrimary(replica, replica.primary.onReissue(reissue))
    this.#flushHart(replica, outputs)
  }

  #takeOver(replica: ToyReplica): GoneLive {
    const options = { leavesOutReads: this.#leavesOutReads }
    if (!this.#discipline) return replica.replayer!.goLive(options)
    const follower = new EpochBackup(replica.replayer!)
    follower.promote()
    const { primary: epochs, outputs, reissue } = follower.failOver(this.#discipline, options)
    replica.epochs = epochs
    replica.failoverEpoch = epochs.epoch
    return { recorder: epochs.recorder, outputs, reissue }
  }

  // ---- harts ---------------------------------------------------------------------------------------------------------

  #record_(replica: ToyReplica, isBusy: boolean): void {
    const recorder = replica.recorder!
    const { machine } = recorder
    const outputs: MarkedOutput[] = []
    if (recorder.nextIndex === 0n) {
      outputs.push(...recorder.apply({ kind: 'boot', rngSeed: new Uint8Array(64), wallClockNs: 0n }))
    }
    if (this.#prng.chance(0.3)) {
      const ticks = machine.ticks + BigInt(this.#prng.below(50))
      outputs.push(...recorder.apply({ kind: 'clock', ticks, ratePer2p32: 1n << 30n, capTicks: 20n }))
    }
    for (const input of replica.mailbox.splice(0, 1 + this.#prng.below(3))) outputs.push(...recorder.apply(input))
    if (isBusy) {
      const until = machine.count + BigInt(this.#prng.below(120))
      for (;;) {
        const ran = recorder.run(instructionCount(until))
        outputs.push(...ran.outputs)
        if (ran.stop.kind !== 'outputs') break
      }
    }
    for (const { output } of outputs) {
      if (output.kind === 'entropyRequest')
        replica.mailbox.unshift({ kind: 'entropy', bytes: new Uint8Array(16).fill(7) })
    }
    if (this.#prng.chance(0.1)) recorder.entryDigest()
    this.#flushHart(replica, outputs)
  }

  /** As `#record_`, in the epoch discipline. When the world is calm, epochs end without an instruction, as of a waiting hart. */
  #runEpoch(replica: ToyReplica, epochs: EpochPrimary, isBusy: boolean): void {
    const { machine } = epochs.recorder
    const outputs: MarkedOutput[] = []
    const answer = (made: readonly MarkedOutput[]): void => {
      for (const marked of made) {
        outputs.push(marked)
        if (marked.output.kind !== 'entropyRequest') continue
        answer(epochs.environmentValue({ kind: 'entropy', bytes: new Uint8Array(16).fill(7) }))
      }
    }
    if (epochs.recorder.nextIndex === 0n) {
      answer(epochs.environmentValue({ kind: 'boot', rngSeed: new Uint8Array(64), wallClockNs: 0n }))
    }
    for (const input of replica.mailbox.splice(0, 1 + this.#prng.below(3))) {
      if (input.kind === 'entropy') answer(epochs.environmentValue(input))
      else if (input.kind !== 'boot' && input.kind !== 'clock') epochs.onInterrupt(input)
    }
    const { stop, outputs: made } = epochs.run(BigInt(isBusy ? this.#prng.below(300) : 0))
    answer(made)
    const isOver = stop.kind === 'epochEnd' || stop.kind === 'waiting' || (!isBusy && stop.kind !== 'awaiting')
    if (isOver) answer(epochs.endEpoch(machine.ticks + BigInt(this.#prng.below(50))))
    if (this.#prng.chance(0.1)) epochs.recorder.entryDigest()
    this.#flushHart(replica, outputs)
  }

  /** Batches and outputs go to the main thread, in either order, some time later. */
  #flushHart(replica: ToyReplica, outputs: readonly MarkedOutput[]): void {
    const primary = replica.primary!
    const batches = replica.recorder!.takeBatches()
    replica.batches.push(...batches)
    const posts = batches.map((batch) => () => this.#onPrimary(replica, primary.onBatch(batch, this.#nowMs)))
    const post = () => this.#onPrimary(replica, primary.onOutputs(outputs))
    if (this.#prng.chance(0.5)) posts.push(post)
    else posts.unshift(post)
    replica.fromHart.push(...posts)
  }

  #replay(replica: ToyReplica): void {
    const replayer = replica.replayer!
    const { state, outputs, diskAnswers } = replayer.run(BigInt(this.#prng.below(200)))
    assert.ok(state.kind !== 'diverged', state.kind === 'diverged' ? JSON.stringify(state, (_, v) => `${v}`) : '')
    for (const { output } of outputs) {
      const isRead = output.kind === 'disk' && output.operation === 'read'
      if (isRead && this.#leavesOutReads) this.#world.readFor(replica, output)
    }
    const report = {
      replayedEnd: replayer.replayedEnd,
      count: replayer.machine.count,
      outputs,
      hasRead: diskAnswers.some(({ isOwnRead }) => isOwnRead),
      need: state.kind === 'needsRead' ? state.need : undefined,
    }
    if (report.need?.difference) this.#onOtherRead(replica, report.need.sequence)
    this.#onBackup(replica, replica.backup!.onReplayed(report, this.#nowMs))
  }

  /** Only a replica that was dropped, and does not know it yet, may find something else than its primary has read. */
  #onOtherRead(replica: ToyReplica, sequence: bigint): void {
    assert.ok(!this.#record.fields.eligible.includes(replica.name), `${replica.name} has read something else`)
    assert.notEqual(this.#record.fields.holder, replica.name)
    const request = replica.machine.inFlightDiskRequests().find((open) => open.sequence === sequence)
    this.#world.readFor(replica, request!)
  }

  #confirm(): void {
    const confirmation = this.#world.confirm()
    if (confirmation === undefined) return
    const { to, kind, sequence } = confirmation
    this.#onPrimary(to, to.primary!.onConfirmed(kind, sequence))
  }

  /** What the world received must be what the machine of `last`, the one that was live at last, made. */
  check(last: ToyReplica): Verdict {
    return this.#world.check(last)
  }
}
