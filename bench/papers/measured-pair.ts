/**
 * A machine to measure disciplines on: two processes, each with a real hart thread and the real Primary or Backup, on the
 * logging channel of two replicas on one host; a disk and a line that are as slow as they are told to be. There is no disk
 * server, LAN or arbiter around them: the figures are of the protocol.
 */

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Hart } from '../../src/host/hart.ts'
import type { FromHartThread } from '../../src/host/hart-messages.ts'
import { LoggingChannel } from '../../src/host/logging-channel.ts'
import type { Discipline } from '../../src/log/discipline.ts'
import type { Output } from '../../src/log/entry.ts'
import type { BootImage, MachineConfig } from '../../src/machine/types.ts'
import type { Endpoint } from '../../src/net/address.ts'
import { Listener } from '../../src/net/listener.ts'
import { generateKey } from '../../src/net/shared-key.ts'
import type { PrimaryEffect } from '../../src/replication/effects.ts'
import type { Message } from '../../src/replication/messages.ts'
import { Primary } from '../../src/replication/primary.ts'
import { median } from '../support/figures.ts'
import { Line } from './line.ts'
import type { BackupSettings } from './measured-backup.ts'
import { entriesOfAnEpoch, hartOptions, identity, policyOf } from './measured-settings.ts'

export interface Surroundings {
  /** How long the disk takes for a request. */
  readonly diskMs: number
  /** 0: as fast as it goes. */
  readonly channelBitsPerSecond: number
  /** TCP with TLS, as between two hosts, instead of a unix socket. */
  readonly isSecured?: boolean
}

export interface MeasuredPairOptions {
  readonly config: MachineConfig
  readonly image: BootImage
  /** Undefined: the bare machine, without a backup. */
  readonly discipline: Discipline | undefined
  readonly surroundings: Surroundings
  /** For the channel's socket. */
  readonly folder: string
}

/** The primary's name for its one channel. */
const channelId = 1
const tickMs = 20

/** The other process, connected, and not a backup yet. */
class Peer {
  readonly #process: ChildProcess
  readonly #listener: Listener
  readonly #channel: LoggingChannel
  readonly #line: Line
  onMessage: (message: Message) => void = () => {}

  private constructor(child: ChildProcess, listener: Listener, channel: LoggingChannel, bitsPerSecond: number) {
    this.#process = child
    this.#listener = listener
    this.#channel = channel
    this.#line = new Line(bitsPerSecond, (message) => channel.send(message))
    channel.listen({
      onMessage: (message) => this.onMessage(message),
      onBadMessage: (detail) => {
        throw new Error(detail)
      },
      onClosed: () => {
        throw new Error('the backup of the measured pair ended')
      },
    })
  }

  static async start({ config, image, discipline, surroundings, folder }: MeasuredPairOptions): Promise<Peer> {
    if (!discipline) throw new Error('a bare machine has no backup')
    const { channelBitsPerSecond, isSecured } = surroundings
    const connected = Promise.withResolvers<LoggingChannel>()
    const endpoint: Endpoint = isSecured
      ? { address: { host: '127.0.0.1', port: 0 }, key: generateKey() }
      : { address: { path: join(folder, 'channel.socket') } }
    const listener = await Listener.open({
      purpose: 'bench',
      endpoint,
      takesPlace: true,
      onConnection: (socket) =>
        connected.resolve(new LoggingChannel(socket, { onMessage() {}, onBadMessage() {}, onClosed() {} })),
    })
    const child = fork(join(import.meta.dirname, 'measured-backup.ts'), { serialization: 'advanced' })
    const settings: BackupSettings = {
      endpoint: { ...endpoint, address: listener.address },
      config,
      image,
      discipline,
      channelBitsPerSecond,
    }
    child.send(settings)
    return new Peer(child, listener, await connected.promise, channelBitsPerSecond)
  }

  /** Becomes the backup. */
  begin(): void {
    this.#process.send('begin')
  }

  send(message: Message): void {
    this.#line.send(message)
  }

  /** Median, in microseconds, of so many messages there and back, one at a time. Before `begin`. */
  async roundTrip(count: number): Promise<number> {
    const times: number[] = []
    const { promise, resolve } = Promise.withResolvers<void>()
    let sentAt = performance.now()
    this.onMessage = () => {
      const nowMs = performance.now()
      times.push((nowMs - sentAt) * 1000)
      sentAt = nowMs
      if (times.length === count) resolve()
      else this.send(entriesOfAnEpoch)
    }
    this.send(entriesOfAnEpoch)
    await promise
    return median(times)
  }

  async end(): Promise<void> {
    const ended = once(this.#process, 'exit')
    this.#channel.close()
    await ended
    await this.#listener.close()
  }
}

export class MeasuredPair {
  readonly #hart: Hart
  readonly #primary: Primary
  readonly #peer: Peer | undefined
  readonly #surroundings: Surroundings
  readonly #ticker: NodeJS.Timeout
  #isOn = false
  #hasEnded = false
  #onBatch: () => void = () => {}
  /** Requests that the disk has answered. */
  operations = 0

  private constructor({ config, image, discipline, surroundings }: MeasuredPairOptions, peer: Peer | undefined) {
    this.#surroundings = surroundings
    this.#peer = peer
    this.#hart = new Hart({
      ...hartOptions(config, image, discipline),
      mode: 'live',
      onMessage: (message) => this.#onHart(message),
    })
    const state = peer ? 'starting' : 'alone'
    const policy = policyOf(discipline)
    this.#primary = new Primary({ identity, replica: 'a', generation: 1, state, runId: 1n, policy })
    this.#ticker = setInterval(() => this.#tick(), tickMs)
    this.#onPrimary(this.#primary.start(0))
    if (!peer) return
    peer.onMessage = (message) => this.#onPrimary(this.#primary.onMessage(channelId, message, performance.now()))
    this.#onPrimary(this.#primary.onChannelOpen(channelId, performance.now()))
    peer.begin()
  }

  static async start(options: MeasuredPairOptions): Promise<MeasuredPair> {
    if (!options.discipline) return new MeasuredPair(options, undefined)
    return new MeasuredPair(options, await Peer.start(options))
  }

  /** A round trip between the two processes, in microseconds; then the pair begins. */
  static async startAfterRoundTrips(
    options: MeasuredPairOptions,
    count: number,
  ): Promise<{ readonly pair: MeasuredPair; readonly roundTripUs: number }> {
    const peer = await Peer.start(options)
    await peer.roundTrip(count / 10)
    const roundTripUs = await peer.roundTrip(count)
    return { pair: new MeasuredPair(options, peer), roundTripUs }
  }

  /**
   * Median, in microseconds, of the time from one batch of the hart's to the next. Under original P2, of a guest that only
   * computes, that is an epoch.
   */
  async batchTime(windowMs: number): Promise<number> {
    const times: number[] = []
    let lastMs = performance.now()
    this.#onBatch = () => {
      const nowMs = performance.now()
      times.push((nowMs - lastMs) * 1000)
      lastMs = nowMs
    }
    await sleep(windowMs)
    this.#onBatch = () => {}
    return median(times)
  }

  get instructions(): bigint {
    return this.#hart.instructions
  }

  async end(): Promise<void> {
    this.#hasEnded = true
    clearInterval(this.#ticker)
    await this.#hart.stop()
    await this.#peer?.end()
  }

  #tick(): void {
    this.#onPrimary(this.#primary.onTick(performance.now()))
  }

  #onHart(message: FromHartThread): void {
    if (message.kind !== 'recorded') return
    for (const batch of message.batches) {
      this.#onBatch()
      this.#onPrimary(this.#primary.onBatch(batch, performance.now()))
    }
    if (message.outputs.length > 0) this.#onPrimary(this.#primary.onOutputs(message.outputs))
  }

  #release(output: Output): void {
    if (output.kind === 'console') this.#onPrimary(this.#primary.onConfirmed('console', output.sequence))
    if (output.kind !== 'disk') return
    const answer = { kind: 'diskCompletion', sequence: output.sequence, status: 'ok' } as const
    const complete = (): void => {
      this.operations++
      const data = new Uint8Array(output.lengthBytes)
      this.#hart.sendInput(output.operation === 'read' ? { ...answer, data } : answer)
    }
    if (this.#surroundings.diskMs === 0) setImmediate(complete)
    else setTimeout(complete, this.#surroundings.diskMs)
  }

  #onPrimary(effects: readonly PrimaryEffect[]): void {
    if (this.#hasEnded) return
    for (const effect of effects) {
      if (effect.kind === 'send') this.#peer?.send(effect.message)
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
}
