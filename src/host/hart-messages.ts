/**
 * What a replica's main thread and its hart's thread say to each other. The hart's thread runs the machine and nothing
 * else; sockets, roles and decisions stay on the main thread, so that neither ever stalls the other.
 *
 *   main ──► hart:  inputs from live devices (live) │ log batches (replaying) │ power on, go live, pause
 *   hart ──► main:  log batches and marked outputs (live) │ replayed end and regenerated outputs (replaying)
 *
 * Both threads share two cells: a doorbell, rung after every message so that a sleeping hart wakes at once, and the
 * hart's progress, which the failure detector and `status` read.
 */

import type { ClockPolicy } from '../hypervisor/clock-keeper.ts'
import type { Interrupt } from '../hypervisor/epoch/interrupts.ts'
import type { DiskAnswer } from '../hypervisor/replayer.ts'
import type { LogBatch } from '../log/batch.ts'
import type { Discipline } from '../log/discipline.ts'
import type { Divergence } from '../log/divergence.ts'
import type { BytesByCause, LogEnd, MarkedOutput } from '../log/entry.ts'
import type { BootImage, MachineConfig, Output } from '../machine/types.ts'
import type { EngineSetting } from './engine-setting.ts'
import type { MachineProfile } from './profiler.ts'

export interface HartSettings {
  readonly config: MachineConfig
  readonly image: BootImage
  /** Live: writes the log from the start. Replaying: reads it. */
  readonly mode: 'live' | 'replaying'
  readonly digestEveryMs: number
  readonly discipline: Discipline
  /** Count where the work goes, and say so at the end. */
  readonly isProfiled: boolean
  readonly engine: EngineSetting
  readonly clockPolicy?: ClockPolicy
  readonly doorbell: SharedArrayBuffer
  readonly progress: SharedArrayBuffer
  /** A DelayHistogram of frames. */
  readonly frameDelays: SharedArrayBuffer
}

export type ToHart =
  /** `arrivedNs`: host time (process.hrtime) at which it reached the replica. */
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
  | { readonly kind: 'pause'; readonly isPaused: boolean }
  /** Lag control: run this share of real time. */
  | { readonly kind: 'cpuPercent'; readonly percent: number }
  | { readonly kind: 'stop' }
  /** For fault trials: the thread dies of an error, or never takes another turn. */
  | { readonly kind: 'fault'; readonly fault: 'die' | 'hang' }

export type DiskRequest = Extract<Output, { kind: 'disk' }>

export type FromHart =
  | {
      readonly kind: 'recorded'
      readonly batches: readonly LogBatch[]
      readonly outputs: readonly MarkedOutput[]
      readonly bytesByCause: BytesByCause
    }
  | {
      readonly kind: 'replayed'
      readonly replayedEnd: LogEnd
      readonly outputs: readonly MarkedOutput[]
      readonly diskAnswers: readonly DiskAnswer[]
    }
  | { readonly kind: 'diverged'; readonly divergence: Divergence }
  /** Everything appended is replayed and the machine runs on by itself; its first own outputs follow as `recorded`. */
  | { readonly kind: 'live'; readonly reissue: readonly DiskRequest[] }
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
  /** The last word of a profiled hart that was told to stop. */
  | { readonly kind: 'profile'; readonly profile: MachineProfile }

/** Indexes into the shared progress cells (BigInt64Array). */
export const progressCell = {
  instructions: 0,
  ticks: 1,
  digestsCompared: 2,
  /** How many turns the hart has begun. */
  turns: 3,
  /** 1: a driver of the guest has taken the power button. */
  powerButtonDriver: 4,
  /** Written by the main thread: every entry below this index is acknowledged (epoch discipline). */
  acknowledgedEnd: 5,
} as const
export const progressCells = 6

/** In `acknowledgedEnd`: there is no backup to wait for. */
export const nobodyAcknowledges = (1n << 63n) - 1n
