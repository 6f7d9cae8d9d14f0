/**
 * A whole pair in one thread, driven by a seed: two replicas or more (toy machine, Recorder or Replayer, Primary or Backup),
 * their channels as bytes, the arbiter's real record, and a world of a switch, a disk and a console that confirm late.
 * Every step picks one thing that could happen now, so any interleaving may come up; faults are picked like any other.
 * At each release the record is looked at: every backup in it must have the entry that is being released.
 *
 * The world believes everybody: it has no fencing, so that the protocol alone must keep its outputs right. What it saw is
 * compared with the truth: the survivor's log, replayed on a fresh machine.
 */

import assert from 'node:assert/strict'
import { Prng } from '../../src/base/prng.ts'
import { ArbiterRecord } from '../../src/disk/arbiter-record.ts'
import { Recorder } from '../../src/hypervisor/recorder.ts'
import { Replayer } from '../../src/hypervisor/replayer.ts'
import { batchEnd, decodeBatch, type LogBatch } from '../../src/log/batch.ts'
import type { MarkedOutput, Output } from '../../src/log/entry.ts'
import { encodeOutput } from '../../src/log/output-codec.ts'
import { obeysOutputRule } from '../../src/log/output-rule.ts'
import { type Input, instructionCount } from '../../src/machine/types.ts'
import { Backup } from '../../src/replication/backup.ts'
import type { ArbiterAnswer, BackupEffect, ChannelId, PrimaryEffect } from '../../src/replication/effects.ts'
import { encodeMessage, MessageDecoder } from '../../src/replication/message-codec.ts'
import type { ConfirmedKind, Message } from '../../src/replication/messages.ts'
import { defaultReplicationPolicy } from '../../src/replication/policy.ts'
import { Primary } from '../../src/replication/primary.ts'
import { fullReach, type Reach } from '../../src/replication/reach.ts'
import { identity } from './replication.ts'
import { ToyMachine } from './toy-machine.ts'

type DiskRequest = Extract<Output, { kind: 'disk' }>

interface IssuedRequest {
  readonly from: Replica
  readonly request: DiskRequest
}

/** What happens to the pair, at random steps. */
export interface Faults {
  /** Ends the process at once. */
  readonly kill?: 'primary' | 'backup' | 'both'
  /** So often, one after the other, whoever is live is killed. */
  readonly killLive?: number
  /** Nothing passes between this replica and the others any more, and both ends notice at different times. All go on running. */
  readonly partition?: 'a' | 'b' | 'c'
  /** The arbiter answers nothing for a while. */
  readonly arbiterOutage?: boolean
  /** The replica that began in this role, or both, lose the disk server (with the arbiter) or the LAN, silently. Its host notices some time later. */
  readonly outOfReach?: { readonly who: 'primary' | 'backup' | 'both'; readonly what: keyof Reach }
  /** Nobody is suspected for being slow. Otherwise slow channels do become suspicions. */
  readonly isPatient?: boolean
}

/** One replica's end of a connection. */
interface End {
  readonly id: ChannelId
  readonly owner: Replica
  readonly decoder: MessageDecoder
  /** Bytes on their way to this end. */
  readonly wire: Uint8Array[]
  other: End | undefined
  isOpen: boolean
}

/** A new primary looks for its siblings. */
interface Call {
  readonly replica: string
  readonly untilMs: number
  end: End | undefined
}

class Replica {
  readonly name: string
  readonly machine = new ToyMachine()
  readonly batches: LogBatch[] = []
  readonly ends = new Map<ChannelId, End>()
  /** A backup's connection to its primary. */
  following: End | undefined
  readonly calls: Call[] = []
  /** Inputs its hart has not applied yet. */
  readonly mailbox: Input[] = []
  /** From the hart's thread to the main thread, in transit. */
  readonly fromHart: (() => void)[] = []
  primary: Primary | undefined
  backup: Backup | undefined
  recorder: Recorder | undefined
  replayer: Replayer | undefined
  arbiterQuestion: (() => ArbiterAnswer) | undefined
  isPaused = true
  isDead = false
  /** What it really reaches. */
  reach: Reach = fullReach
  /** What its host has told its role. */
  knownReach: Reach = fullReach
  halted: string | undefined

  constructor(name: string) {
    this.name = name
  }

  get isGone(): boolean {
    return this.isDead || this.halted !== undefined
  }

  /** How far its log goes. */
  get logEnd(): bigint {
    return this.batches.length === 0 ? 0n : batchEnd(this.batches.at(-1)!)
  }

  /** Whether it drives the machine for the world. */
  get isLive(): boolean {
    return !this.isDead && this.halted === undefined && this.recorder !== undefined
  }
}

export class ToyPair {
  readonly a = new Replica('a')
  readonly b = new Replica('b')
  readonly replicas: readonly Replica[]
  #nextChannel: ChannelId = 1
  /** To whom the switch delivers frames. */
  #bound = this.a
  readonly #prng: Prng
  readonly #faults: Faults
  #nowMs = 0
  #record = ArbiterRecord.fresh('shop')
  #isArbiterOut = false
  #isolated: Replica | undefined
  /** What the world received, by kind, in order of arrival. */
  readonly received: Output[] = []
  readonly #confirmations: { to: Replica; kind: ConfirmedKind; sequence: bigint }[] = []
  readonly #disk: IssuedRequest[] = []
  readonly #inbound: { id: bigint; bytes: Uint8Array }[] = []
  #nextFrameId = 1n
  /** Frames up to it may be forgotten by the switch. */
  coveredFrameId = 0n
  goneLive = 0

  constructor(seed: number, faults: Faults, backups = 1) {
    this.#prng = new Prng(seed)
    this.#faults = faults
    const { a, b } = this
    const others = Array.from({ length: backups - 1 }, (_, index) => new Replica('cdefg'[index]!))
    this.replicas = [a, b, ...others]
    a.recorder = new Recorder(a.machine)
    const { detector } = defaultReplicationPolicy
    const timeoutMs = faults.isPatient ? 1e9 : detector.timeoutMs
    const logSilenceMs = faults.isPatient ? 1e9 : detector.logSilenceMs
    const policy = { ...defaultReplicationPolicy, backups, detector: { ...detector, timeoutMs, logSilenceMs } }
    const started = this.#record.start('a')
    this.#record = started.next
    a.primary = new Primary({ identity, replica: 'a', generation: 1, runId: 1n, state: 'starting', policy })
    this.#onPrimary(a, a.primary.start())
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
      this.#step(true)
    }
    // The world calms down: no new inputs, everything in transit arrives, every deadline passes.
    this.#isArbiterOut = false
    for (let step = 0; step < 3000; step++) this.#step(false)
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
      if (replica.recorder && !replica.isPaused && (isBusy || replica.mailbox.length > 0)) {
        actions.push(() => this.#record_(replica, isBusy))
      }
    }
    if (isBusy) actions.push(() => this.#frameArrives())
    if (this.#disk.length > 0) actions.push(() => this.#diskAnswers())
    if (this.#confirmations.length > 0) actions.push(() => this.#confirm())
    this.#prng.pick(actions)()
  }

  #tick(): void {
    this.#nowMs += 10
    for (const replica of this.replicas) {
      if (replica.isDead || replica.halted !== undefined) continue
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

  #named(name: string): Replica {
    return this.replicas.find((replica) => replica.name === name)!
  }

  /** @returns the end of who connects */
  #connect(from: Replica, to: Replica): End {
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

  #dial(from: Replica, call: Call): void {
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

  #shut(owner: Replica, end: End | undefined): void {
    if (end === undefined) return
    end.isOpen = false
    end.wire.length = 0
    owner.ends.delete(end.id)
  }

  #killLive(): void {
    const live = this.replicas.find(({ isLive }) => isLive)
    if (live) this.#kill(live)
  }

  #kill(replica: Replica): void {
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

  #hasNewsOfReach({ reach, primary, backup, knownReach }: Replica): boolean {
    return (primary ?? backup) !== undefined && reach !== knownReach
  }

  #onReach(replica: Replica): void {
    replica.knownReach = replica.reach
    if (replica.primary) this.#onPrimary(replica, replica.primary.onReach(replica.reach, this.#nowMs))
    else this.#onBackup(replica, replica.backup!.onReach(replica.reach, this.#nowMs))
  }

  // ---- the arbiter ---------------------------------------------------------------------------------------------------

  #answer(replica: Replica): void {
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

  #onPrimary(replica: Replica, effects: readonly PrimaryEffect[]): void {
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
            this.#toWorld(replica, marked.output)
          }
          break
        case 'covered':
          if (effect.frameId > this.coveredFrameId) this.coveredFrameId = effect.frameId
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

  #onBackup(replica: Replica, effects: readonly BackupEffect[]): void {
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
  #checkOutputRule(from: Replica, { output, markerIndex }: MarkedOutput): void {
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

  #goLive(replica: Replica, effect: Extract<BackupEffect, { kind: 'goLive' }>): void {
    this.goneLive++
    this.#bound = replica
    assert.equal(this.#record.fields.holder, replica.name)
    assert.ok((effect.coveredFrameId ?? 0n) >= this.coveredFrameId, 'a covered frame is not in the log')
    this.coveredFrameId = effect.coveredFrameId ?? 0n
    const { recorder, outputs, reissue } = replica.replayer!.goLive()
    replica.recorder = recorder
    replica.replayer = undefined
    replica.primary = replica.backup!.toPrimary()
    for (const { output } of effect.unconfirmed) this.#toWorld(replica, output)
    for (const request of reissue) this.#toWorld(replica, request)
    // The switch gives the frames again that are not in the log.
    for (const { id, bytes } of this.#inbound) {
      if (id > this.coveredFrameId) replica.mailbox.push({ kind: 'frame', frameId: id, bytes })
    }
    for (const { lengthBytes } of recorder.obligations.entropyRequests) {
      replica.mailbox.push({ kind: 'entropy', bytes: new Uint8Array(lengthBytes) })
    }
    for (const { channel, hello } of effect.joiners) {
      this.#onPrimary(replica, replica.primary.onChannelOpen(channel, this.#nowMs))
      this.#onPrimary(replica, replica.primary.onMessage(channel, hello, this.#nowMs))
    }
    this.#onPrimary(replica, replica.primary.start())
    this.#flushHart(replica, outputs)
  }

  // ---- harts ---------------------------------------------------------------------------------------------------------

  #record_(replica: Replica, isBusy: boolean): void {
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

  /** Batches and outputs go to the main thread, in either order, some time later. */
  #flushHart(replica: Replica, outputs: readonly MarkedOutput[]): void {
    const primary = replica.primary!
    const batches = replica.recorder!.takeBatches()
    replica.batches.push(...batches)
    const posts = batches.map((batch) => () => this.#onPrimary(replica, primary.onBatch(batch, this.#nowMs)))
    const post = () => this.#onPrimary(replica, primary.onOutputs(outputs))
    if (this.#prng.chance(0.5)) posts.push(post)
    else posts.unshift(post)
    replica.fromHart.push(...posts)
  }

  #replay(replica: Replica): void {
    const replayer = replica.replayer!
    const { state, outputs } = replayer.run(BigInt(this.#prng.below(200)))
    assert.ok(state.kind !== 'diverged', state.kind === 'diverged' ? JSON.stringify(state, (_, v) => `${v}`) : '')
    const report = { replayedEnd: replayer.replayedEnd, count: replayer.machine.count, outputs }
    this.#onBackup(replica, replica.backup!.onReplayed(report, this.#nowMs))
  }

  // ---- the world -----------------------------------------------------------------------------------------------------

  #toWorld(from: Replica, output: Output): void {
    assert.equal(from.halted, undefined, 'a halted replica released an output')
    if (output.kind === 'entropyRequest') return
    // It goes into a connection that nothing comes out of: neither seen nor confirmed.
    if (output.kind === 'disk' && !from.reach.disk) return
    if (output.kind === 'frame' && !from.reach.lan) return
    // A read tells the world nothing: one of a dead primary may be of a machine that never was.
    if (obeysOutputRule(output)) this.received.push(output)
    if (output.kind === 'disk') this.#disk.push({ from, request: output })
    else if (output.kind !== 'power')
      this.#confirmations.push({ to: from, kind: output.kind, sequence: output.sequence })
  }

  #confirm(): void {
    const { to, kind, sequence } = this.#confirmations.shift()!
    if (kind === 'frame' && !to.reach.lan) return
    if (!to.isDead && to.halted === undefined) this.#onPrimary(to, to.primary!.onConfirmed(kind, sequence))
  }

  #diskAnswers(): void {
    const [{ from, request }] = this.#disk.splice(this.#prng.below(this.#disk.length), 1) as [IssuedRequest]
    if (!from.reach.disk) return
    const completion = { kind: 'diskCompletion', sequence: request.sequence, status: 'ok' } as const
    from.mailbox.push(request.operation === 'read' ? { ...completion, data: this.#prng.bytes(16) } : completion)
  }

  #frameArrives(): void {
    const frame = { id: this.#nextFrameId++, bytes: this.#prng.bytes(6) }
    this.#inbound.push(frame)
    // It goes to whoever is bound: the last one that went live.
    if (this.#bound.reach.lan) this.#bound.mailbox.push({ kind: 'frame', frameId: frame.id, bytes: frame.bytes })
  }

  // ---- the verdict ---------------------------------------------------------------------------------------------------

  /** Checks what the world saw against the log of `last`, the one that was live at last. Returns how many of the outputs came twice. */
  check(last: Replica): { readonly outputs: number; readonly repeated: number } {
    const truth = new Replayer(new ToyMachine())
    for (const batch of last.batches) truth.append(batch)
    const { state, outputs } = truth.run(1n << 40n)
    assert.equal(state.kind, 'needsEntries')
    let repeated = 0
    for (const kind of ['frame', 'console', 'disk'] as const) {
      const made = outputs
        .map(({ output }) => output)
        .filter((output) => output.kind === kind && obeysOutputRule(output))
      const seen = new Map<bigint, Output>()
      let newest = -1n
      for (const output of this.received) {
        if (output.kind !== kind) continue
        const before = seen.get(output.sequence)
        if (before !== undefined) repeated++
        else if (kind !== 'disk') {
          // In the machine's order; gaps show below. (After a failover, disk requests start again in theirs.)
          assert.ok(output.sequence > newest, `${kind} ${output.sequence} came after ${newest}`)
          newest = output.sequence
        }
        seen.set(output.sequence, output)
        const same = made.find(({ sequence }) => sequence === output.sequence)
        assert.ok(same, `${kind} ${output.sequence} was released, but the surviving machine never made it`)
        assert.deepEqual(encodeOutput(output), encodeOutput(same), 'the world saw another output than the machine made')
      }
      // A survivor sends everything. Of a dead machine the world may lack the newest outputs, never one in between.
      const missing = made.findIndex(({ sequence }) => !seen.has(sequence))
      const isLost = missing >= 0 && (!last.isDead || (kind !== 'disk' && missing < seen.size))
      assert.ok(!isLost, `${kind} ${made[missing]?.sequence} was lost`)
    }
    const frameIds = last.batches
      .flatMap((batch) => decodeBatch(batch.bytes))
      .flatMap(({ body }) => (body.kind === 'frame' ? [body.frameId] : []))
    frameIds.forEach((id, position) => {
      assert.equal(id, BigInt(position + 1), 'an inbound frame was lost or delivered twice')
    })
    if (!last.isDead) assert.equal(frameIds.length, this.#inbound.length)
    assert.ok(BigInt(frameIds.length) >= this.coveredFrameId, 'the switch forgot a frame that is not in the log')
    return { outputs: outputs.length, repeated }
  }
}
