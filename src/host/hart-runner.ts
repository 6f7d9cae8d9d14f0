/** Who gives a hart its turns, as its replica sees it: a thread of its own, or the replica's own thread. */

import type { FromHartThread, ToHartThread } from './hart-messages.ts'

export interface HartRunner {
  /** @param transfer buffers that are handed over instead of copied */
  send(message: ToHartThread, transfer: readonly ArrayBuffer[]): void
  /** There is something to look at: an acknowledgement, or nothing, to see whether it lives. */
  ring(): void
  /** Ends between two slices. */
  stop(): Promise<void>
}

export interface HartRunnerEvents {
  readonly onMessage: (message: FromHartThread) => void
  /** It ended without being told to. */
  readonly onFailed: (error: Error) => void
}
