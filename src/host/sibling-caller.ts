/**
 * Connects to the siblings of a backup that won: the other backups of the machine that it took over. Each is tried again and
 * again for a while, also when its connection has ended, because it may be frozen, or busy with its own question to the
 * arbiter. What is said on the connections is the role's business.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { WorldError } from '../base/assert.ts'
import { type Endpoint, parseAddress } from '../net/address.ts'
import type { ChannelId } from '../replication/effects.ts'
import type { ReplicaName, Sibling } from '../replication/messages.ts'
import type { PeerChannels } from './peer-channels.ts'

export interface SiblingCallerOptions {
  readonly peers: PeerChannels
  /** For TCP addresses: the key of the machine's own channel. */
  readonly key: Endpoint['key']
  readonly callMs: number
  readonly onOpen: (channel: ChannelId, replica: ReplicaName) => void
  readonly onUnreachable: (replica: ReplicaName) => void
  readonly trace: (line: string) => void
}

const callAgainMs = 200

export class SiblingCaller {
  readonly #options: SiblingCallerOptions
  readonly #ending = new AbortController()

  constructor(options: SiblingCallerOptions) {
    this.#options = options
  }

  call(siblings: readonly Sibling[]): void {
    for (const sibling of siblings) void this.#call(sibling)
  }

  close(): void {
    this.#ending.abort()
  }

  async #call({ replica, address }: Sibling): Promise<void> {
    const { peers, key, callMs, onOpen, onUnreachable, trace } = this.#options
    const { signal } = this.#ending
    const untilMs = performance.now() + callMs
    let said = ''
    while (!signal.aborted && performance.now() < untilMs) {
      try {
        const endpoint = { address: parseAddress(address), ...(key ? { key } : {}) }
        const channel = await peers.dial(endpoint, (id) => onOpen(id, replica))
        while (peers.has(channel) && !signal.aborted) await sleep(callAgainMs)
      } catch (error) {
        if (!(error instanceof WorldError)) throw error
        if (signal.aborted) return
        if (error.message !== said) trace(`sibling "${replica}": ${error.message}`)
        said = error.message
        onUnreachable(replica)
      }
      await sleep(callAgainMs)
    }
  }
}
