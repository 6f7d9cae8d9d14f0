/** The bare guest in a synthetic world: a tenth of a second of its life, recorded in a few milliseconds. */

import { Prng } from '../../src/base/prng.ts'
import { createEngine, type EngineOptions, type ProfiledEngine } from '../../src/engine/wasm-engine.ts'
import type { LogBatch } from '../../src/log/batch.ts'
import { createMachine } from '../../src/machine/machine.ts'
import type { Machine } from '../../src/machine/types.ts'
import { MemoryDisk } from '../support/memory-disk.ts'
import { type Station, SyntheticWorld } from '../support/synthetic-world.ts'
import { bareGuestConfig, bareGuestImage, bareGuestSectors } from './bare-guest.ts'

const image = bareGuestImage()

/** How its engine translates must not matter; `onEngine` may look at what it did. */
export function newBareMachine(
  translation: EngineOptions['translation'] = {},
  onEngine: (engine: ProfiledEngine) => void = () => {},
): Machine {
  return createMachine(bareGuestConfig, image, ({ ramBytes, bus }) => {
    const engine = createEngine({ ramBytes, bus, translation })
    onEngine(engine)
    return engine
  })
}

/** Sends frames of random content, some at their own time and some in answer to the guest's. */
class Chatterbox implements Station {
  readonly #prng: Prng

  constructor(seed: number) {
    this.#prng = new Prng(seed)
  }

  onFrame(): Uint8Array[] {
    return this.#prng.chance(0.7) ? [this.#frame()] : []
  }

  onTick(): Uint8Array[] {
    return Array.from({ length: 1 + this.#prng.below(6) }, () => this.#frame())
  }

  #frame(): Uint8Array {
    return this.#prng.bytes(60 + this.#prng.below(200))
  }
}

/** A host of 5 to 20 million instructions per second: its clock entries, answers and frames lie close together. */
const psPerInstruction = { least: 50_000, most: 200_000 }

export interface BareRecording {
  readonly batches: readonly LogBatch[]
  /** Of the machine at the end. */
  readonly digest: bigint
}

export interface BareRecordingOptions {
  readonly instructions?: bigint
  /** How far apart digest entries are. */
  readonly checkpointInstructions?: bigint
  /** The longest stretch without a look at the clock. */
  readonly longestSlice?: bigint
}

export function recordBareGuest(seed: number, options: BareRecordingOptions = {}): BareRecording {
  const { instructions = 1_000_000n, checkpointInstructions = 50_000n, longestSlice = 5000n } = options
  const disk = new MemoryDisk(bareGuestSectors)
  const station = new Chatterbox(seed)
  const world = new SyntheticWorld(newBareMachine(), { seed, disk, station, psPerInstruction, longestSlice })
  world.powerOn()
  for (let count = checkpointInstructions; count <= instructions; count += checkpointInstructions) {
    world.runTo(count)
    world.recorder.entryDigest()
  }
  return { batches: world.recorder.takeBatches(), digest: world.machine.digest() }
}
