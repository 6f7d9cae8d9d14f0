/**
 * What a replica and its hart say to each other. The hart runs the machine and nothing else, on a thread of its own; sockets,
 * roles and decisions stay outside, so that neither ever stalls the other.
 *
 *   replica ──► hart:  inputs from live devices (live) │ log batches (replaying) │ power on, go live, pause
 *   hart ──► replica:  log batches and marked outputs (live) │ replayed end and regenerated outputs (replaying)
 */

import type { Interrupt } from '../hypervisor/epoch/interrupts.ts'
import type { DiskAnswer, NeededRead } from '../hypervisor/replayer.ts'
import type { LogBatch } from '../log/batch.ts'
import type { Divergence } from '../log/divergence.ts'
import type { BytesByCause, DiskRequest, LogEnd, MarkedOutput, ReissuedRequest } from '../log/entry.ts'

export type ToHart =
  /** `arrivedNs`: the hart's clock (`HartWorld.nowNs`) when it reached the replica. */
  | { readonly kind: 'input'; readonly input: Interrupt; readonly arrivedNs: bigint }
  | { readonly kind: 'append'; readonly batch: LogBatch }
  | { readonly kind: 'powerOn' }
  | { readonly kind: 'goLive' }
  /** Live: begin to copy the machine, and send at most so many bytes of its pages. */
  | { readonly kind: 'startCopy'; readonly copy: number; readonly creditBytes: number }
  | { readonly kind: 'allowPages'; readonly copy: number; readonly bytes: number }
  | { readonly kind: 'endCopy'; readonly copy: number }
  /** Replaying, before the first batch: the machine is one that runs elsewhere. */
  | { readonly kind: 'loadPages'; readonly bytes: Uint8Array }
  | { readonly kind: 'loadState'; readonly state: Uint8Array }
  /** Replaying: what this replica's disk gave for a request whose answer the log has without data, or is going to have. */
  | { readonly kind: 'read'; readonly sequence: bigint; readonly data: Uint8Array }
  | { readonly kind: 'pause'; readonly isPaused: boolean }
  /** Lag control: run this share of real time. */
  | { readonly kind: 'cpuPercent'; readonly percent: number }

export type FromHart =
  | {
      readonly kind: 'recorded'
      readonly batches: readonly LogBatch[]
      readonly outputs: readonly MarkedOutput[]
      /** The hart's clock (`HartWorld.nowNs`) when it made the first of the outputs. */
      readonly outputsSinceNs: bigint
      readonly bytesByCause: BytesByCause
    }
  | {
      readonly kind: 'replayed'
      readonly replayedEnd: LogEnd
      readonly outputs: readonly MarkedOutput[]
      readonly diskAnswers: readonly DiskAnswer[]
      /** It stands still until it gets the data of this disk request, with `read`. */
      readonly need: NeededRead | undefined
    }
  | { readonly kind: 'diverged'; readonly divergence: Divergence }
  /** Everything appended is replayed and the machine runs on by itself; its first own outputs follow as `recorded`. */
  | { readonly kind: 'live'; readonly reissue: readonly ReissuedRequest[] }
  /** Live: memory of the machine that is being copied. */
  | { readonly kind: 'pages'; readonly copy: number; readonly bytes: Uint8Array }
  /** Live: the rest of it, as it is at the end of all that was `recorded` so far. The guest stood still for `pauseMs`. */
  | {
      readonly kind: 'copied'
      readonly copy: number
      readonly state: Uint8Array
      readonly pauseMs: number
      readonly rounds: number
    }
  /** Replaying: so many bytes of pages are in the machine. */
  | { readonly kind: 'pagesLoaded'; readonly bytes: number }
  /** Replaying: the machine is whole, and the same as the original. Its disk requests without an answer: */
  | { readonly kind: 'restored'; readonly inFlight: readonly DiskRequest[] }
  | { readonly kind: 'restoreFailed'; readonly detail: string }
  /** The guest switched itself off; with `failed`, after a panic. */
  | { readonly kind: 'off'; readonly failed: boolean }
