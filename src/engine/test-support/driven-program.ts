/**
 * A hot program driven in a way that must not matter: cut into slices, translated sooner or later or not at all, its
 * translations thrown away, moved to a fresh engine. What it gives is the states at fixed counts; any two drives of one
 * program must give the same.
 */

import { ByteReader, ByteWriter } from '../../base/bytes.ts'
import { Prng } from '../../base/prng.ts'
import type { Engine } from '../types.ts'
import type { EngineOptions } from '../wasm-engine.ts'
import { bareHart, stateOf } from './bare-hart.ts'
import { type HotMode, hotProgramRamBytes, loadHotProgram, scriptDevice } from './hot-program.ts'

export interface Drive {
  readonly translation: NonNullable<EngineOptions['translation']>
  /** Length of the next slice in instructions. */
  readonly slice: () => number
  /** Moves to a fresh engine at every checkpoint. */
  readonly moves?: boolean
}

export interface DrivenStates {
  /** One a checkpoint. */
  readonly states: readonly string[]
  /** How many regions were built, all engines together. */
  readonly regionsBuilt: number
}

const programInstructions = 60_000n
const checkpointInstructions = 7_500n

const always = (count: number) => () => count

/** Nothing is translated, and nothing cut: what every other drive is compared with. */
export const interpretedDrive: Drive = { translation: 'off', slice: always(1 << 20) }

/** Every way of driving, by name. */
export function drives(prng: Prng): Readonly<Record<string, Drive>> {
  const random = (): number => 1 + prng.below(3000)
  const often = { threshold: 1, batchRegions: 1 }
  return {
    'threshold 1': { translation: often, slice: always(500) },
    'threshold 1 in one go': { translation: often, slice: always(1 << 20) },
    'a random threshold, random slices': {
      translation: { threshold: 2 + prng.below(50), batchRegions: 1 + prng.below(3) },
      slice: random,
    },
    'threshold 1, random slices, every batch empties the cache': {
      translation: { ...often, cacheBytes: 1 },
      slice: random,
    },
    'threshold 1, random slices, moved to a fresh engine': { translation: often, slice: random, moves: true },
    ...Object.fromEntries(
      [1, 2, 3, 7, 1000].map((count) => [
        `slices of ${count}`,
        { translation: { threshold: 3, batchRegions: 1 }, slice: always(count) },
      ]),
    ),
  }
}

/** Runs the program of this seed, and says what state it had at each checkpoint. */
export function driveProgram(seed: number, mode: HotMode, { translation, slice, moves = false }: Drive): DrivenStates {
  let { engine, bus } = bareHart(hotProgramRamBytes, translation)
  scriptDevice(engine, bus)
  loadHotProgram(engine, new Prng(seed), mode)
  const states: string[] = []
  let regionsBuilt = 0
  for (let end = checkpointInstructions; end <= programInstructions; end += checkpointInstructions) {
    while (engine.count < end) {
      const until = engine.count + BigInt(slice())
      engine.run(until < end ? until : end)
    }
    states.push(`${bus.accesses.length} ${stateOf(engine)}`)
    if (!moves) continue
    const next = bareHart(hotProgramRamBytes, translation)
    copyInto(engine, next.engine)
    regionsBuilt += engine.profile.regions.built
    engine = next.engine
    next.bus.accesses.push(...bus.accesses)
    next.bus.loadValue = bus.loadValue
    bus = next.bus
    scriptDevice(engine, bus)
  }
  return { states, regionsBuilt: regionsBuilt + engine.profile.regions.built }
}

function copyInto(from: Engine, to: Engine): void {
  const writer = new ByteWriter()
  from.saveState(writer)
  for (let page = 0; page < from.ramBytes / 4096; page++) {
    to.restorePage(page, from.ram.slice(page * 4096, page * 4096 + 4096))
  }
  to.loadState(new ByteReader(writer.finish()))
}
