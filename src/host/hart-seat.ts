/** Where a hart sits, as its replica sees it: on a thread of its own, or in its replica's own thread. */

import type { FromHartThread, ToHartThread } from './hart-messages.ts'

export interface HartSeat {
  /** @param transfer buffers that are handed over instead of copied */
  send(message: ToHartThread, transfer: readonly ArrayBuffer[]): void
  /** There is something to look at: an acknowledgement, or nothing, to see whether it lives. */
  ring(): void
  /** Ends between two slices. */
  stop(): Promise<void>
}

export interface HartSeatEvents {
  readonly onMessage: (message: FromHartThread) => void
  /** It ended without being told to. */
  readonly onFailed: (error: Error) => void
}
