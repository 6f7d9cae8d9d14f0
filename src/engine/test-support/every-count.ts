/**
 * A program's state at every single count of a window, interpreted and translated. The translated hart runs to each count in
 * one go, from the start of the window on: its blocks end, and its budgets run out, at every instruction there is.
 */

import assert from 'node:assert/strict'
import { ByteReader, ByteWriter } from '../../base/bytes.ts'
import { pageBytes } from '../../base/units.ts'
import type { Engine } from '../types.ts'
import { createEngine, type EngineOptions, type ProfiledEngine } from '../wasm-engine.ts'
import { ScriptedBus, stateOf } from './bare-hart.ts'

export interface EveryCount {
  readonly ramBytes: number
  /** Writes the program into a hart that was just made. */
  readonly load: (engine: Engine, bus: ScriptedBus) => void
  /** The translated hart gets so far in slices, and translates on its way. */
  readonly from: number
  readonly window: number
}

const warmUpSlice = 97

interface Hart {
  readonly engine: ProfiledEngine
  readonly bus: ScriptedBus
}

function hartOf({ ramBytes, load }: EveryCount, translation: NonNullable<EngineOptions['translation']>): Hart {
  const bus = new ScriptedBus()
  // The stopwatch only makes regions count what they run.
  const engine = createEngine({ ramBytes, bus, translation, nowMs: () => 0 })
  engine.setClock({ n0: 0n, t0: 0n, ratePer2p32: 1n << 32n, cap: 1n << 62n })
  load(engine, bus)
  return { engine, bus }
}

/** Devices may ask for a stop on the way. */
function runTo({ engine }: Hart, count: number): void {
  while (engine.count < BigInt(count)) engine.run(BigInt(count))
}

/** What a hart looked like, to go back to: what has not changed since keeps what was derived from it. */
function mark({ engine, bus }: Hart): () => void {
  const writer = new ByteWriter()
  engine.saveState(writer)
  const state = writer.finish()
  const ram = engine.ram.slice()
  const { length } = bus.accesses
  const { loadValue } = bus
  return () => {
    for (let page = 0; page * pageBytes < ram.length; page++) {
      const before = ram.subarray(page * pageBytes, (page + 1) * pageBytes)
      const now = engine.ram.subarray(page * pageBytes, (page + 1) * pageBytes)
      if (Buffer.compare(before, now) !== 0) engine.restorePage(page, before)
    }
    engine.loadState(new ByteReader(state))
    bus.accesses.length = length
    bus.loadValue = loadValue
  }
}

/** @returns the interpreted hart behind the window, for who knows what it must have calculated */
export function assertAlikeAtEveryCount(program: EveryCount): Engine {
  const { from, window } = program
  const interpreted = hartOf(program, 'off')
  runTo(interpreted, from)
  const expected = Array.from({ length: window }, (_, index) => {
    runTo(interpreted, from + index + 1)
    return stateOf(interpreted.engine)
  })
  const translated = hartOf(program, { threshold: 1, batchRegions: 1 })
  for (let count = 0; count < from; count = Math.min(from, count + warmUpSlice)) {
    runTo(translated, Math.min(from, count + warmUpSlice))
  }
  const { regions: before } = translated.engine.profile.instructions
  const goBack = mark(translated)
  expected.forEach((state, index) => {
    runTo(translated, from + index + 1)
    assert.equal(stateOf(translated.engine), state, `at count ${from + index + 1}`)
    goBack()
  })
  const inRegions = Number(translated.engine.profile.instructions.regions - before)
  const inAll = (window * (window + 1)) / 2
  assert.ok(inRegions > inAll / 4, `translated code ran ${inRegions} of ${inAll} instructions`)
  return interpreted.engine
}
