/** The calls of a backup that won to its siblings (replica/sibling-calls.ts), over this host's sockets and timers. */

import { WorldError } from '../base/assert.ts'
import { type Endpoint, parseAddress } from '../net/address.ts'
import { type SiblingCallEvents, SiblingCalls } from '../replica/sibling-calls.ts'
import type { ChannelId } from '../replication/effects.ts'
import type { ReplicaName, Sibling } from '../replication/messages.ts'
import type { PeerChannels } from './peer-channels.ts'

export interface SiblingCallerOptions extends SiblingCallEvents {
  readonly peers: PeerChannels
  /** For TCP addresses: the key of the machine's own channel. */
  readonly key: Endpoint['key']
  readonly callMs: number
  readonly trace: (line: string) => void
}

const callAgainMs = 200

export class SiblingCaller {
  readonly #options: SiblingCallerOptions
  readonly #calls: SiblingCalls
  /** Why each could not be reached the last time: not told again. */
  readonly #said = new Map<ReplicaName, string>()

  constructor(options: SiblingCallerOptions) {
    this.#options = options
    const { peers, callMs } = options
    this.#calls = new SiblingCalls(
      {
        nowMs: () => performance.now(),
        after: (delayMs, run) => void setTimeout(run, delayMs).unref(),
        dial: (sibling, opened, failed) => void this.#dial(sibling, opened, failed),
        isOpen: (channel) => peers.has(channel),
      },
      { callMs, callAgainMs },
      options,
    )
  }

  call(siblings: readonly Sibling[]): void {
    this.#calls.call(siblings)
  }

  close(): void {
    this.#calls.close()
  }

  async #dial({ replica, address }: Sibling, opened: (channel: ChannelId) => void, failed: () => void): Promise<void> {
    const { peers, key, trace } = this.#options
    try {
      await peers.dial({ address: parseAddress(address), ...(key ? { key } : {}) }, opened)
    } catch (error) {
      if (!(error instanceof WorldError)) throw error
      if (error.message !== this.#said.get(replica)) trace(`sibling "${replica}": ${error.message}`)
      this.#said.set(replica, error.message)
      failed()
    }
  }
}
