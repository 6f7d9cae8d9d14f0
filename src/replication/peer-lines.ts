/** A backup's connections besides its logging channel: to its siblings, and of strangers. */

import type { BackupEffect, ChannelId } from './effects.ts'
import type { Message } from './messages.ts'

export class PeerLines {
  readonly #effects: BackupEffect[]

  constructor(effects: BackupEffect[]) {
    this.#effects = effects
  }

  send(channel: ChannelId, message: Message): void {
    this.#effects.push({ kind: 'sendPeer', channel, message })
  }

  refuse(channel: ChannelId, reason: string): void {
    this.send(channel, { kind: 'refuse', reason })
    this.close(channel, reason)
  }

  /** Whoever says this has come to the wrong place. */
  turnAway(channel: ChannelId, message: Message): void {
    if (message.kind === 'hello' || message.kind === 'fetch') this.refuse(channel, 'this replica is no primary')
    else this.close(channel, `unexpected ${message.kind}`)
  }

  close(channel: ChannelId, reason: string): void {
    this.#effects.push({ kind: 'closePeer', channel, reason })
  }
}
