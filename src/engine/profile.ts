/**
 * Where an engine's work went, in counts: what `understudy run --profile` prints.
 *
 * Counters live on slow paths only (a trap, a TLB miss, an exit), where one more addition costs nothing; nothing counts
 * single instructions. They are no part of the machine's state: neither digest nor snapshot has them, and they start at
 * zero with the engine, also when a snapshot is restored into it.
 */

import { exceptionCause, interruptCause } from '../riscv/causes.ts'
import type { EngineExit } from './types.ts'

/** Translated code; all zeros in an engine that only interprets. */
export interface RegionProfile {
  /** Regions and WebAssembly modules built since the start. */
  readonly built: number
  readonly modules: number
  /** Guest instructions that were translated into them. */
  readonly translatedInstructions: number
  /** WebAssembly bytes built since the start, and those of regions alive now. */
  readonly builtBytes: number
  readonly liveBytes: number
  /** Regions lost to stores into their code, and to the cap on their bytes. */
  readonly invalidated: number
  readonly evicted: number
  /** Time spent on translating and instantiating; 0 without a stopwatch (`EngineOptions.nowMs`). */
  readonly translationMs: number
  /** How often translated code was entered, and why it was left. */
  readonly entries: number
  readonly leaves: Readonly<Record<string, number>>
}

export interface EngineProfile {
  /** Attempted instructions by the tier that ran them. */
  readonly instructions: { readonly interpreter: bigint; readonly regions: bigint }
  /** How often `run` came back, and why. */
  readonly exits: Readonly<Record<EngineExit, number>>
  /** How often the core was entered: more often than `run` came back, as timers and long runs split a run. */
  readonly coreRuns: number
  /** Accesses that the TLB did not answer; every access of a device is one, and a page-crossing one counts twice. */
  readonly tlbMisses: { readonly reads: number; readonly writes: number; readonly fetches: number }
  /** How often all translations were dropped. */
  readonly translationFlushes: number
  /** By cause, those that happened. */
  readonly traps: Readonly<Record<string, number>>
  /** Accesses outside RAM. */
  readonly deviceAccesses: { readonly loads: number; readonly stores: number }
  /** Instructions decoded, and stores that hit a page with decoded code. */
  readonly decodedInstructions: number
  readonly storesIntoCode: number
  readonly regions: RegionProfile
}

export const noRegions: RegionProfile = {
  built: 0,
  modules: 0,
  translatedInstructions: 0,
  builtBytes: 0,
  liveBytes: 0,
  invalidated: 0,
  evicted: 0,
  translationMs: 0,
  entries: 0,
  leaves: {},
}

/** Trap counters in the engine's memory: exceptions by cause, then interrupts by cause. */
export const trapCausesPerKind = 32

/** What `traps` calls each of the core's counters. */
export const trapNames: ReadonlyMap<number, string> = new Map([
  ...Object.entries(exceptionCause).map(([name, cause]): [number, string] => [cause, name]),
  ...Object.entries(interruptCause).map(([name, cause]): [number, string] => [
    trapCausesPerKind + cause,
    `${name}Interrupt`,
  ]),
])
