/**
 * The backup of a measured pair, a process of its own: the real hart thread, the real Backup, the real logging channel. Until it
 * is told to begin it acknowledges what it gets and does nothing with it, so that a round trip can be measured on the very
 * channel.
 */

import { once } from 'node:events'
import { Hart } from '../../src/host/hart.ts'
import type { FromHartThread } from '../../src/host/hart-messages.ts'
import { LoggingChannel } from '../../src/host/logging-channel.ts'
import type { Discipline } from '../../src/log/discipline.ts'
import type { BootImage, MachineConfig } from '../../src/machine/types.ts'
import type { Endpoint } from '../../src/net/address.ts'
import { connectTo } from '../../src/net/connect.ts'
import { Backup } from '../../src/replication/backup.ts'
import type { BackupEffect } from '../../src/replication/effects.ts'
import type { Message } from '../../src/replication/messages.ts'
import { Line } from './line.ts'
import { acknowledgement, hartOptions, identity, policyOf } from './measured-settings.ts'

/** What the other process sends first, and all it sends besides `'begin'`. */
export interface BackupSettings {
  readonly endpoint: Endpoint
  readonly config: MachineConfig
  readonly image: BootImage
  readonly discipline: Discipline
  readonly channelBitsPerSecond: number
}

const tickMs = 20

class MeasuredBackup {
  readonly #hart: Hart
  readonly #backup: Backup
  readonly #line: Line

  constructor({ config, image, discipline }: BackupSettings, line: Line) {
    this.#line = line
    this.#hart = new Hart({
      ...hartOptions(config, image, discipline),
      mode: 'replaying',
      onMessage: (message) => this.#onHart(message),
    })
    this.#backup = new Backup({ identity, replica: 'b', policy: policyOf(discipline) }, performance.now())
    setInterval(() => this.#carryOut(this.#backup.onTick(performance.now())), tickMs)
  }

  /** Not in the middle of WebAssembly: that would abort the process. */
  async end(): Promise<void> {
    await this.#hart.stop()
    process.exit(0)
  }

  start(): void {
    this.#carryOut(this.#backup.onChannelOpen(performance.now()))
  }

  onMessage(message: Message): void {
    this.#carryOut(this.#backup.onMessage(message, performance.now()))
  }

  #onHart(message: FromHartThread): void {
    if (message.kind === 'diverged') {
      throw new Error(`divergence: ${message.divergence.expected}, ${message.divergence.found}`)
    }
    if (message.kind !== 'replayed') return
    const { replayedEnd, outputs } = message
    this.#carryOut(this.#backup.onReplayed({ replayedEnd, outputs, count: this.#hart.instructions }, performance.now()))
  }

  #carryOut(effects: readonly BackupEffect[]): void {
    for (const effect of effects) {
      if (effect.kind === 'send') this.#line.send(effect.message)
      if (effect.kind === 'replay') this.#hart.send({ kind: 'append', batch: effect.batch })
      if (effect.kind === 'halt' || effect.kind === 'testAndSet') throw new Error(`the pair parted: ${effect.kind}`)
    }
  }
}

const [settings] = (await once(process, 'message')) as [BackupSettings]
const channel: LoggingChannel = new LoggingChannel(await connectTo(settings.endpoint, { purpose: 'bench' }), {
  onMessage: () => line.send(acknowledgement),
  onBadMessage: (detail) => {
    throw new Error(detail)
  },
  // The other process has ended.
  onClosed: () => process.exit(0),
})
const line = new Line(settings.channelBitsPerSecond, (message) => channel.send(message))
process.once('message', () => {
  const backup = new MeasuredBackup(settings, line)
  channel.listen({
    onMessage: (message) => backup.onMessage(message),
    onBadMessage: (detail) => {
      throw new Error(detail)
    },
    onClosed: () => void backup.end(),
  })
  backup.start()
})
