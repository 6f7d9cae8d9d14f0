/**
 * A machine to measure disciplines on: real hart threads, a real Primary and Backup that speak the real messages, and a disk
 * and a channel that are as slow as they are told to be. Everything but the harts is on one thread of one process, so the
 * figures are of the protocol and not of processes around it.
 */

import { Hart } from '../../src/host/hart.ts'
import type { FromHartThread } from '../../src/host/hart-messages.ts'
import { type Discipline, exactDiscipline } from '../../src/log/discipline.ts'
import type { Output } from '../../src/log/entry.ts'
import type { BootImage, MachineConfig } from '../../src/machine/types.ts'
import { Backup } from '../../src/replication/backup.ts'
import type { BackupEffect, PrimaryEffect } from '../../src/replication/effects.ts'
import { encodeMessage, MessageDecoder } from '../../src/replication/message-codec.ts'
import type { Message } from '../../src/replication/messages.ts'
import { defaultReplicationPolicy } from '../../src/replication/policy.ts'
import { Primary } from '../../src/replication/primary.ts'

export interface Surroundings {
  /** How long the disk takes for a request. */
  readonly diskMs: number
  /** 0: as fast as it goes. */
  readonly channelBitsPerSecond: number
}

const identity = { machine: 'bench', instructionTableHash: 1n, configDigest: 2n, imageDigest: 3n }
const channel = 1

export class MeasuredPair {
  readonly #hart: Hart
  readonly #primary: Primary
  readonly #backupHart: Hart | undefined
  readonly #backup: Backup | undefined
  readonly #surroundings: Surroundings
  readonly #toBackup = new Wire()
  readonly #toPrimary = new Wire()
  readonly #ticker: NodeJS.Timeout
  #isOn = false
  /** Requests that the disk has answered. */
  operations = 0
  /** Batches that the hart handed over: each was a message to the backup. */
  batches = 0

  /** @param discipline undefined: the bare machine, without a backup */
  constructor(config: MachineConfig, image: BootImage, discipline: Discipline | undefined, surroundings: Surroundings) {
    this.#surroundings = surroundings
    const hartOptions = { config, image, digestEveryMs: 60_000, discipline: discipline ?? exactDiscipline }
    const onFailed = (error: Error): void => {
      throw error
    }
    const policy = {
      ...defaultReplicationPolicy,
      detector: { ...defaultReplicationPolicy.detector, timeoutMs: 600_000, logSilenceMs: 600_000 },
      discipline: discipline ?? exactDiscipline,
    }
    this.#hart = new Hart({ ...hartOptions, mode: 'live', onMessage: (message) => this.#onHart(message), onFailed })
    const state = discipline ? 'starting' : 'alone'
    this.#primary = new Primary({ identity, replica: 'a', generation: 1, state, runId: 1n, policy })
    this.#ticker = setInterval(() => this.#tick(), 20)
    if (discipline) {
      this.#backupHart = new Hart({
        ...hartOptions,
        mode: 'replaying',
        onMessage: (message) => this.#onBackupHart(message),
        onFailed,
      })
      this.#backup = new Backup({ identity, replica: 'b', policy }, performance.now())
      const { channelBitsPerSecond } = surroundings
      this.#toBackup.open(channelBitsPerSecond, (message) => {
        this.#onBackup(this.#backup!.onMessage(message, performance.now()))
      })
      this.#toPrimary.open(channelBitsPerSecond, (message) => {
        this.#onPrimary(this.#primary.onMessage(channel, message, performance.now()))
      })
    }
    this.#onPrimary(this.#primary.start())
    if (!this.#backup) return
    this.#onPrimary(this.#primary.onChannelOpen(channel, performance.now()))
    this.#onBackup(this.#backup.onChannelOpen(performance.now()))
  }

  get instructions(): bigint {
    return this.#hart.instructions
  }

  async end(): Promise<void> {
    clearInterval(this.#ticker)
    this.#toBackup.close()
    this.#toPrimary.close()
    await this.#hart.stop()
    await this.#backupHart?.stop()
  }

  #tick(): void {
    this.#onPrimary(this.#primary.onTick(performance.now()))
    if (this.#backup) this.#onBackup(this.#backup.onTick(performance.now()))
  }

  #onHart(message: FromHartThread): void {
    if (message.kind !== 'recorded') return
    for (const batch of message.batches) {
      this.batches++
      this.#onPrimary(this.#primary.onBatch(batch, performance.now()))
    }
    if (message.outputs.length > 0) this.#onPrimary(this.#primary.onOutputs(message.outputs))
  }

  #onBackupHart(message: FromHartThread): void {
    if (message.kind === 'diverged')
      throw new Error(`divergence: ${message.divergence.expected}, ${message.divergence.found}`)
    if (message.kind !== 'replayed') return
    const { replayedEnd, outputs } = message
    const report = { replayedEnd, outputs, count: this.#backupHart!.instructions }
    this.#onBackup(this.#backup!.onReplayed(report, performance.now()))
  }

  #release(output: Output): void {
    if (output.kind === 'console') this.#onPrimary(this.#primary.onConfirmed('console', output.sequence))
    if (output.kind !== 'disk') return
    const answer = { kind: 'diskCompletion', sequence: output.sequence, status: 'ok' } as const
    setTimeout(() => {
      this.operations++
      const data = new Uint8Array(output.lengthBytes)
      this.#hart.sendInput(output.operation === 'read' ? { ...answer, data } : answer)
    }, this.#surroundings.diskMs)
  }

  #onPrimary(effects: readonly PrimaryEffect[]): void {
    for (const effect of effects) {
      if (effect.kind === 'send') this.#toBackup.send(effect.message)
      if (effect.kind === 'acknowledged') this.#hart.acknowledged(effect.end)
      if (effect.kind === 'release') for (const { output } of effect.outputs) this.#release(output)
      if (effect.kind === 'pauseHart') this.#hart.send({ kind: 'pause', isPaused: true })
      if (effect.kind === 'setCpuPercent') this.#hart.send({ kind: 'cpuPercent', percent: effect.percent })
      if (effect.kind === 'openGeneration') {
        this.#onPrimary(this.#primary.onArbiterAnswer({ result: 'granted', generation: effect.generation + 1 }, 0))
      }
      if (effect.kind !== 'resumeHart') continue
      this.#hart.send({ kind: 'pause', isPaused: false })
      if (!this.#isOn) this.#hart.send({ kind: 'powerOn' })
      this.#isOn = true
    }
  }

  #onBackup(effects: readonly BackupEffect[]): void {
    for (const effect of effects) {
      if (effect.kind === 'send') this.#toPrimary.send(effect.message)
      if (effect.kind === 'replay') this.#backupHart!.send({ kind: 'append', batch: effect.batch })
      if (effect.kind === 'halt' || effect.kind === 'testAndSet') throw new Error(`the pair parted: ${effect.kind}`)
    }
  }
}

/** One way of the channel: bytes in order, each as long under way as the line needs for it. */
class Wire {
  readonly #decoder = new MessageDecoder()
  #bitsPerSecond = 0
  #onMessage: (message: Message) => void = () => {}
  #freeAtMs = 0
  #isClosed = false

  open(bitsPerSecond: number, onMessage: (message: Message) => void): void {
    this.#bitsPerSecond = bitsPerSecond
    this.#onMessage = onMessage
  }

  close(): void {
    this.#isClosed = true
  }

  send(message: Message): void {
    const bytes = encodeMessage(message)
    const arrive = (): void => {
      if (this.#isClosed) return
      for (const arrived of this.#decoder.push(bytes)) this.#onMessage(arrived)
    }
    if (this.#bitsPerSecond === 0) {
      setImmediate(arrive)
      return
    }
    const nowMs = performance.now()
    this.#freeAtMs = Math.max(nowMs, this.#freeAtMs) + (bytes.length * 8000) / this.#bitsPerSecond
    setTimeout(arrive, this.#freeAtMs - nowMs)
  }
}
