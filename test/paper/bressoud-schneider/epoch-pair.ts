/**
 * A pair in epoch discipline for the tests of the paper's rules: the real Primary, Backup, EpochPrimary, EpochBackup, Recorder
 * and Replayer around two toy machines. Nothing happens by itself: a test lets messages through, time pass and harts run,
 * and looks in between.
 *
 *   hart (EpochPrimary) ──► primary ──► toBackup ──► backup ──► follower (EpochBackup)
 *                              ▲──── toPrimary ◄──────┘
 */

import assert from 'node:assert/strict'
import { EpochBackup } from '../../../src/hypervisor/epoch/epoch-backup.ts'
import { EpochPrimary, type EpochStop } from '../../../src/hypervisor/epoch/epoch-primary.ts'
import { Recorder } from '../../../src/hypervisor/recorder.ts'
import { Replayer } from '../../../src/hypervisor/replayer.ts'
import { decodeBatch } from '../../../src/log/batch.ts'
import type { EpochProtocol } from '../../../src/log/discipline.ts'
import type { LogEnd, LogEntry, MarkedOutput, Output } from '../../../src/log/entry.ts'
import type { DiskBus } from '../../../src/machine/types.ts'
import { Backup } from '../../../src/replication/backup.ts'
import type { BackupEffect, PrimaryEffect } from '../../../src/replication/effects.ts'
import type { Message } from '../../../src/replication/messages.ts'
import { defaultReplicationPolicy } from '../../../src/replication/policy.ts'
import { Primary } from '../../../src/replication/primary.ts'
import { identity } from '../../support/replication.ts'
import { type ToyHabits, ToyMachine, toyConfig } from '../../support/toy-machine.ts'

export const epochInstructions = 1000

/** A guest that never does anything but count. */
export const quietHabits: ToyHabits = { frameEvery: 0, diskEvery: 0, consoleEvery: 0, entropyEvery: 0, waitEvery: 0 }

export interface EpochPairOptions {
  readonly protocol: EpochProtocol
  readonly habits?: Partial<ToyHabits>
  readonly bus?: DiskBus
}

const channel = 1
const slice = 1_000_000n

export class EpochPair {
  readonly discipline
  readonly machine: ToyMachine
  readonly hart: EpochPrimary
  readonly primary: Primary
  readonly backupMachine: ToyMachine
  readonly follower: EpochBackup
  readonly backup: Backup
  /** On their way. */
  readonly toBackup: Message[] = []
  readonly toPrimary: Message[] = []
  /** Every entry the primary's hart wrote, sent or not received. */
  readonly log: LogEntry[] = []
  /** What the outside has seen of the primary. */
  readonly released: Output[] = []
  /** The primary's clock, in ticks of guest time. */
  nowTicks = 0n
  #asked: (() => BackupEffect[]) | undefined

  constructor({ protocol, habits = {}, bus = 'blk' }: EpochPairOptions) {
    const config = { ...toyConfig, disks: toyConfig.disks.map((disk) => ({ ...disk, bus })) }
    const newMachine = () => new ToyMachine({ ...quietHabits, ...habits }, config)
    this.discipline = { kind: 'epoch', protocol, instructions: epochInstructions } as const
    const policy = { ...defaultReplicationPolicy, discipline: this.discipline }
    this.machine = newMachine()
    this.hart = new EpochPrimary(new Recorder(this.machine), this.discipline)
    this.primary = new Primary({ identity, replica: 'a', generation: 1, state: 'starting', runId: 1n, policy })
    this.backupMachine = newMachine()
    this.follower = new EpochBackup(new Replayer(this.backupMachine))
    this.backup = new Backup({ identity, replica: 'b', policy }, 0)
    this.#onPrimary(this.primary.start(0))
    this.#onPrimary(this.primary.onChannelOpen(channel, 0))
    this.#onBackup(this.backup.onChannelOpen(0))
    this.exchange()
    this.hart.environmentValue({ kind: 'boot', rngSeed: new Uint8Array(64), wallClockNs: 0n })
  }

  // ---- the primary's hart ----------------------------------------------------------------------------------------------

  /** One run of the hart, as the hart's thread does it: up to its stop; entries are sent. Returns why it stopped. */
  run(maxInstructions = slice): EpochStop {
    const { stop, outputs } = this.hart.run(maxInstructions)
    const all = [...outputs]
    for (const { output } of outputs) {
      if (output.kind !== 'entropyRequest') continue
      all.push(...this.hart.environmentValue({ kind: 'entropy', bytes: new Uint8Array(output.lengthBytes).fill(7) }))
    }
    this.send(all)
    return stop
  }

  /** Runs until a stop of this kind; other stops but outputs are not expected. */
  runTo(kind: EpochStop['kind']): EpochStop {
    for (;;) {
      const stop = this.run()
      if (stop.kind === kind) return stop
      assert.equal(stop.kind, 'outputs', `stopped with ${stop.kind} before ${kind}`)
    }
  }

  /** Ends the epoch by the primary's clock. */
  endEpoch(): void {
    this.send(this.hart.endEpoch(this.nowTicks))
  }

  /** A whole epoch, with everything it needs let through, and the clock moved on. */
  epoch(): void {
    for (;;) {
      const { kind } = this.run()
      if (kind === 'awaiting') this.exchange()
      else if (kind !== 'outputs') break
    }
    this.nowTicks += 100n
    this.endEpoch()
    this.exchange()
    this.run(0n)
    this.exchange()
  }

  send(outputs: readonly MarkedOutput[]): void {
    for (const batch of this.hart.recorder.takeBatches()) {
      this.log.push(...decodeBatch(batch.bytes))
      this.#onPrimary(this.primary.onBatch(batch, 0))
    }
    if (outputs.length > 0) this.#onPrimary(this.primary.onOutputs(outputs))
  }

  /** The disk answers everything, at the end of this epoch. */
  answerDisk(): void {
    for (const { sequence, operation } of this.machine.inFlightDiskRequests()) {
      const completion = { kind: 'diskCompletion', sequence, status: 'ok' } as const
      this.hart.onInterrupt(operation === 'read' ? { ...completion, data: new Uint8Array(16) } : completion)
    }
  }

  // ---- the channel -----------------------------------------------------------------------------------------------------

  letToBackup(): void {
    for (const message of this.toBackup.splice(0)) this.#onBackup(this.backup.onMessage(message, 0))
  }

  letToPrimary(): void {
    for (const message of this.toPrimary.splice(0)) this.#onPrimary(this.primary.onMessage(channel, message, 0))
  }

  /** Everything through, both ways, until the channel is quiet. */
  exchange(): void {
    while (this.toBackup.length + this.toPrimary.length > 0) {
      this.letToBackup()
      this.letToPrimary()
    }
  }

  // ---- the backup ------------------------------------------------------------------------------------------------------

  /** Lets the backup run as far as it may. */
  replay(): void {
    const { state, outputs } = this.follower.run(1n << 40n)
    assert.equal(
      state.kind,
      'needsEntries',
      JSON.stringify(state, (_, value) => `${value}`),
    )
    const replayedEnd = this.follower.replayedEnd
    this.#onBackup(this.backup.onReplayed({ replayedEnd, count: this.backupMachine.count, outputs }, 0))
  }

  /** The primary is dead; what is on its way is lost. The backup is granted the machine and replays what it has. */
  failover(early: Parameters<EpochBackup['onInterrupt']>[0][] = []): ReturnType<EpochBackup['failOver']> {
    this.toBackup.length = 0
    this.#onBackup(this.backup.onChannelClosed(0))
    assert.ok(this.#asked)
    this.#onBackup(this.#asked())
    this.follower.promote()
    for (const interrupt of early) this.follower.onInterrupt(interrupt)
    if (this.backup.state !== 'live') this.replay()
    assert.equal(this.backup.state, 'live')
    return this.follower.failOver(this.discipline)
  }

  // ---- effects ---------------------------------------------------------------------------------------------------------

  #onPrimary(effects: readonly PrimaryEffect[]): void {
    for (const effect of effects) {
      if (effect.kind === 'send') this.toBackup.push(effect.message)
      if (effect.kind === 'acknowledged') this.hart.onAcknowledged(effect.end)
      if (effect.kind === 'release') this.released.push(...effect.outputs.map(({ output }) => output))
      if (effect.kind === 'openGeneration') {
        this.#onPrimary(this.primary.onArbiterAnswer({ result: 'granted', generation: effect.generation + 1 }, 0))
      }
    }
  }

  #onBackup(effects: readonly BackupEffect[]): void {
    for (const effect of effects) {
      if (effect.kind === 'send') this.toPrimary.push(effect.message)
      if (effect.kind === 'replay') this.follower.onEntries(effect.batch)
      if (effect.kind === 'testAndSet') {
        const answer = { result: 'granted', generation: effect.generation + 1 } as const
        this.#asked = () => this.backup.onArbiterAnswer(answer, 0)
      }
    }
  }
}

/** The entries of one epoch, [end, E] included. */
export function entriesOfEpoch(log: readonly LogEntry[], epoch: bigint): LogEntry[] {
  const endOf = (wanted: bigint) => log.findIndex(({ body }) => body.kind === 'epochEnd' && body.epoch === wanted)
  const end = endOf(epoch)
  assert.ok(end >= 0, `epoch ${epoch} has not ended`)
  return log.slice(epoch === 0n ? 0 : endOf(epoch - 1n) + 1, end + 1)
}

export function kindsOfEntries(entries: readonly LogEntry[]): string[] {
  return entries.map(({ body }) => body.kind)
}

/** Whether an `ack` of everything below `end` is among these messages. */
export function acknowledges(messages: readonly Message[], end: LogEnd): boolean {
  return messages.some((message) => message.kind === 'ack' && message.progress.receivedEnd >= end)
}
