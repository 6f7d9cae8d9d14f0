/**
 * A whole pair in one thread, driven by a seed: two replicas (toy machine, Recorder or Replayer, Primary or Backup), the
 * logging channel as bytes, the arbiter's real record, and a world of a switch, a disk and a console that confirm late.
 * Every step picks one thing that could happen now, so any interleaving may come up; faults are picked like any other.
 *
 * The world believes everybody: it has no fencing, so that the protocol alone must keep its outputs right. What it saw is
 * compared with the truth: the survivor's log, replayed on a fresh machine.
 */

import assert from 'node:assert/strict'
import { Prng } from '../../src/base/prng.ts'
import { ArbiterRecord } from '../../src/disk/arbiter-record.ts'
import { Recorder } from '../../src/hypervisor/recorder.ts'
import { Replayer } from '../../src/hypervisor/replayer.ts'
import { decodeBatch, type LogBatch } from '../../src/log/batch.ts'
import type { MarkedOutput, Output } from '../../src/log/entry.ts'
import { encodeOutput } from '../../src/log/output-codec.ts'
import { obeysOutputRule } from '../../src/log/output-rule.ts'
import { type Input, instructionCount } from '../../src/machine/types.ts'
import { Backup } from '../../src/replication/backup.ts'
import type { ArbiterAnswer, BackupEffect, PrimaryEffect } from '../../src/replication/effects.ts'
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
  /** Nothing passes the logging channel any more, and both ends notice at different times. Both go on running. */
  readonly partition?: boolean
  /** The arbiter answers nothing for a while. */
  readonly arbiterOutage?: boolean
  /** The replica that began in this role, or both, lose the disk server (with the arbiter) or the LAN, silently. Its host notices some time later. */
  readonly outOfReach?: { readonly who: 'primary' | 'backup' | 'both'; readonly what: keyof Reach }
  /** Nobody is suspected for being slow. Otherwise slow channels do become suspicions. */
  readonly isPatient?: boolean
}

const channel = 1

class Replica {
  readonly name: string
  readonly machine = new ToyMachine()
  readonly batches: LogBatch[] = []
  readonly decoder = new MessageDecoder()
  /** Bytes on their way to this replica. */
  readonly wire: Uint8Array[] = []
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
  isChannelOpen = true
  /** What it really reaches. */
  reach: Reach = fullReach
  /** What its host has told its role. */
  knownReach: Reach = fullReach
  halted: string | undefined

  constructor(name: string) {
    this.name = name
  }

  /** Whether it drives the machine for the world. */
  get isLive(): boolean {
    return !this.isDead && this.halted === undefined && this.recorder !== undefined
  }
}

export class ToyPair {
  readonly a = new Replica('a')
  readonly b = new Replica('b')
  readonly #prng: Prng
  readonly #faults: Faults
  #nowMs = 0
  #record = ArbiterRecord.fresh('shop')
  #isArbiterOut = false
  #isPartitioned = false
  /** What the world received, by kind, in order of arrival. */
  readonly received: Output[] = []
  readonly #confirmations: { to: Replica; kind: ConfirmedKind; sequence: bigint }[] = []
  readonly #disk: IssuedRequest[] = []
  readonly #inbound: { id: bigint; bytes: Uint8Array }[] = []
  #nextFrameId = 1n
  /** Frames up to it may be forgotten by the switch. */
  coveredFrameId = 0n
  goneLive = 0

  constructor(seed: number, faults: Faults) {
    this.#prng = new Prng(seed)
    this.#faults = faults
    const { a, b } = this
    a.recorder = new Recorder(a.machine)
    b.replayer = new Replayer(b.machine)
    const { detector } = defaultReplicationPolicy
    const timeoutMs = faults.isPatient ? 1e9 : detector.timeoutMs
    const logSilenceMs = faults.isPatient ? 1e9 : detector.logSilenceMs
    const policy = { ...defaultReplicationPolicy, detector: { ...detector, timeoutMs, logSilenceMs } }
    const started = this.#record.start('a')
    this.#record = started.next
    a.primary = new Primary({ identity, replica: 'a', generation: 1, runId: 1n, state: 'starting', policy })
    b.backup = new Backup({ identity, replica: 'b', policy }, 0)
    this.#onPrimary(a, a.primary.start())
    this.#onPrimary(a, a.primary.onChannelOpen(channel, 0))
    this.#onBackup(b, b.backup.onChannelOpen(0))
  }

  get replicas(): readonly Replica[] {
    return [this.a, this.b]
  }

  // ---- one step ------------------------------------------------------------------------------------------------------

  run(steps: number): void {
    const planned: [number, () => void][] = []
    const { kill, partition, arbiterOutage, outOfReach } = this.#faults
    const within = (from: number, to: number) =>
      Math.floor(steps * from) + this.#prng.below(Math.floor(steps * (to - from)))
    if (kill === 'primary' || kill === 'both') planned.push([within(0.05, 0.8), () => this.#kill(this.a)])
    if (kill === 'backup' || kill === 'both') planned.push([within(0.05, 0.8), () => this.#kill(this.b)])
    if (outOfReach) planned.push([within(0.2, 0.8), () => this.#loseReach(outOfReach)])
    if (partition) planned.push([within(0.05, 0.8), () => (this.#isPartitioned = true)])
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
      if (replica.isDead || replica.halted !== undefined) continue
      if (replica.wire.length > 0 && !this.#isPartitioned) actions.push(() => this.#receive(replica))
      if (this.#isPeerGone(replica)) actions.push(() => this.#closeChannel(replica))
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

  #peerOf(replica: Replica): Replica {
    return replica === this.a ? this.b : this.a
  }

  #send(from: Replica, message: Message): void {
    const to = this.#peerOf(from)
    if (from.isChannelOpen && to.isChannelOpen && !to.isDead) to.wire.push(encodeMessage(message))
  }

  #receive(replica: Replica): void {
    for (const message of replica.decoder.push(replica.wire.shift()!)) {
      if (!replica.isChannelOpen) return
      if (replica.primary) this.#onPrimary(replica, replica.primary.onMessage(channel, message, this.#nowMs))
      else this.#onBackup(replica, replica.backup!.onMessage(message, this.#nowMs))
    }
  }

  /** The peer closed or died, and everything it sent before has arrived (TCP) or is lost for good. */
  #isPeerGone(replica: Replica): boolean {
    const peer = this.#peerOf(replica)
    const isGone = peer.isDead || !peer.isChannelOpen || peer.halted !== undefined
    return replica.isChannelOpen && isGone && (replica.wire.length === 0 || this.#isPartitioned)
  }

  #closeChannel(replica: Replica): void {
    replica.isChannelOpen = false
    replica.wire.length = 0
    if (replica.primary) this.#onPrimary(replica, replica.primary.onChannelClosed(channel, this.#nowMs))
    else this.#onBackup(replica, replica.backup!.onChannelClosed(this.#nowMs))
  }

  #kill(replica: Replica): void {
    replica.isDead = true
    // What it sent may arrive, or a part of it: the operating system decides.
    const { wire } = this.#peerOf(replica)
    wire.length = this.#prng.below(wire.length + 1)
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
          this.#send(replica, effect.message)
          break
        case 'closeChannel':
          replica.isChannelOpen = false
          break
        case 'release':
          for (const { output } of effect.outputs) this.#toWorld(replica, output)
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
          this.#send(replica, effect.message)
          break
        case 'closeChannel':
          replica.isChannelOpen = false
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
              : { result: 'refused', detail: `${answer.holder} holds ${answer.generation}` }
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

  #goLive(replica: Replica, effect: Extract<BackupEffect, { kind: 'goLive' }>): void {
    this.goneLive++
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
    const bound = this.b.recorder !== undefined ? this.b : this.a
    if (bound.reach.lan) bound.mailbox.push({ kind: 'frame', frameId: frame.id, bytes: frame.bytes })
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
