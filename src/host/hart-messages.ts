/**
 * What a replica and its hart say to each other, whoever gives the hart its turns: the hart's own messages (replica/hart-messages.ts), and
 * what only a host has to say.
 *
 * Both share the hart's progress, which the failure detector and `status` read; on a thread of its own also a doorbell, rung
 * after every message so that a sleeping hart wakes at once.
 */

import type { Discipline } from '../log/discipline.ts'
import type { BootImage, MachineConfig } from '../machine/types.ts'
import type { FromHart, ToHart } from '../replica/hart-messages.ts'
import type { EngineSetting } from './engine-setting.ts'
import type { MachineProfile } from './profiler.ts'

export interface HartSettings {
  readonly config: MachineConfig
  readonly image: BootImage
  /** Live: writes the log from the start. Replaying: reads it. */
  readonly mode: 'live' | 'replaying'
  readonly digestEveryMs: number
  readonly leavesOutReads: boolean
  readonly discipline: Discipline
  /** Count where the work goes, and say so at the end. */
  readonly isProfiled: boolean
  readonly engine: EngineSetting
  readonly progress: SharedArrayBuffer
  /** A DelayHistogram of frames. */
  readonly frameDelays: SharedArrayBuffer
}

/** Of a hart on a thread of its own. */
export interface HartThreadSettings extends HartSettings {
  readonly doorbell: SharedArrayBuffer
}

export type ToHartThread =
  | ToHart
  | { readonly kind: 'stop' }
  /** For fault trials: the thread dies of an error, or never takes another turn. */
  | { readonly kind: 'fault'; readonly fault: 'die' | 'hang' }

export type FromHartThread =
  | FromHart
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
