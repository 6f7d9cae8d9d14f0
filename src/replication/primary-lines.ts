/**
 * A primary's logging channels: what it says on them, what the detector and the buffer of a backup's link note of that, and how
 * a channel ends.
 */

import { batchEnd, type LogBatch } from '../log/batch.ts'
import type { LogEnd } from '../log/entry.ts'
import type { BackupLink } from './backup-links.ts'
import type { ChannelId, PrimaryEffect } from './effects.ts'
import type { ConfirmedEnds, Message } from './messages.ts'

/** A backup, or one that is to be. */
export type Peer = Pick<BackupLink, 'channel' | 'detector'>

export class PrimaryLines {
  readonly #effects: PrimaryEffect[]

  constructor(effects: PrimaryEffect[]) {
    this.#effects = effects
  }

  /** To who is no peer (yet, or any more). */
  say(channel: ChannelId, message: Message): void {
    this.#effects.push({ kind: 'send', channel, message })
  }

  send({ channel, detector }: Peer, message: Message, nowMs: number): void {
    this.say(channel, message)
    detector.onSent(nowMs)
  }

  /** @param commonEnd nobody needs what is below it from anybody any more */
  sendEntries(link: BackupLink, batch: LogBatch, commonEnd: LogEnd, nowMs: number): void {
    this.send(link, { kind: 'entries', batch, commonEnd }, nowMs)
    link.buffer.onSent(batchEnd(batch), batch.bytes.length)
    link.detector.setOwes(true, nowMs)
  }

  /** What the receivers have, if that is news for this backup. */
  sendConfirmed(link: BackupLink, ends: ConfirmedEnds, nowMs: number): void {
    if (!link.owesConfirmed) return
    link.owesConfirmed = false
    link.confirmedAtMs = nowMs
    this.send(link, { kind: 'confirmed', ends }, nowMs)
  }

  refuse(channel: ChannelId, reason: string): void {
    this.say(channel, { kind: 'refuse', reason })
    this.close(channel, reason)
  }

  /** The backup ends, in good order. */
  dismiss(channel: ChannelId, reason: string): void {
    this.say(channel, { kind: 'goodbye', reason })
    this.close(channel, reason)
  }

  close(channel: ChannelId, reason: string): void {
    this.#effects.push({ kind: 'closeChannel', channel, reason })
  }
}
