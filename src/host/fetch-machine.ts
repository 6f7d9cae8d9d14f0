/** A backup without a VM file gets its machine from its primary: `BootFetch` (replication/) wired to the channel. */

import { formatBytes } from '../base/units.ts'
import type { BootArtefacts } from '../log/boot-artefacts.ts'
import { BootFetch, type FetchEffect } from '../replication/boot-fetch.ts'
import { defaultReplicationPolicy } from '../replication/policy.ts'
import { instructionTableHash } from './instruction-table-hash.ts'
import type { PrimaryChannel } from './primary-channel.ts'

const tickIntervalMs = 200
const traceEveryShare = 0.25

export interface FetchOptions {
  readonly machine: string
  readonly channel: PrimaryChannel
  /** Connects the channel, as often and as long as it takes. */
  readonly connect: () => Promise<void>
  readonly trace: (line: string) => void
}

/**
 * Resolves with the machine; the channel is open then, or has just closed.
 * @throws WorldError the primary refused, or sent something else than it promised
 */
export async function fetchMachine({ machine, channel, connect, trace }: FetchOptions): Promise<BootArtefacts> {
  const { helloTimeoutMs: answerTimeoutMs } = defaultReplicationPolicy
  const fetch = new BootFetch({ machine, instructionTableHash: instructionTableHash(), answerTimeoutMs })
  const done = Promise.withResolvers<BootArtefacts>()
  let tracedShare = 0
  const open = (): void => {
    connect().then(() => carryOut(fetch.onChannelOpen(performance.now())), done.reject)
  }
  const carryOut = (effects: readonly FetchEffect[]): void => {
    for (const effect of effects) {
      switch (effect.kind) {
        case 'send':
          channel.send(effect.message)
          break
        case 'progress': {
          const { receivedBytes, lengthBytes } = effect
          const share = receivedBytes / lengthBytes
          if (share < 1 && share < tracedShare + traceEveryShare) break
          tracedShare = share
          trace(`fetching the machine: ${formatBytes(receivedBytes)} of ${formatBytes(lengthBytes)}`)
          break
        }
        case 'connectAgain':
          trace(`fetching the machine: ${effect.reason}; connecting again`)
          channel.close()
          open()
          break
        case 'fetched':
          trace('the machine is here, and has the digests that the primary named')
          done.resolve(effect.artefacts)
          break
        case 'failed':
          done.reject(effect.error)
      }
    }
  }
  channel.listen({
    onMessage: (message) => carryOut(fetch.onMessage(message, performance.now())),
    onBadMessage: (detail) => carryOut(fetch.onBadMessage(detail)),
    onClosed: () => carryOut(fetch.onChannelClosed()),
  })
  const ticker = setInterval(() => carryOut(fetch.onTick(performance.now())), tickIntervalMs)
  try {
    open()
    return await done.promise
  } finally {
    clearInterval(ticker)
  }
}
