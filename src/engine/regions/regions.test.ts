/** Translated code does what the interpreter does, to the instruction, however and whenever it is made or dropped. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ByteReader, ByteWriter } from '../../base/bytes.ts'
import { Prng } from '../../base/prng.ts'
import { bareHart, stateOf } from '../test-support/bare-hart.ts'
import { type HotMode, hotProgramRamBytes, loadHotProgram, scriptDevice } from '../test-support/hot-program.ts'
import type { Engine } from '../types.ts'
import type { EngineOptions } from '../wasm-engine.ts'

interface Drive {
  readonly translation: EngineOptions['translation']
  readonly slice: () => number
  /** Moves to a fresh engine at every checkpoint. */
  readonly moves?: boolean
}

const total = 60_000n
const checkpoint = 7_500n

function statesOf(seed: number, mode: HotMode, { translation, slice, moves = false }: Drive): string[] {
  let { engine, bus } = bareHart(hotProgramRamBytes, translation)
  scriptDevice(engine, bus)
  loadHotProgram(engine, new Prng(seed), mode)
  const states: string[] = []
  for (let end = checkpoint; end <= total; end += checkpoint) {
    while (engine.count < end) {
      const until = engine.count + BigInt(slice())
      engine.run(until < end ? until : end)
    }
    states.push(`${bus.accesses.length} ${stateOf(engine)}`)
    if (moves) {
      const next = bareHart(hotProgramRamBytes, translation)
      copyInto(engine, next.engine)
      engine = next.engine
      next.bus.accesses.push(...bus.accesses)
      next.bus.loadValue = bus.loadValue
      bus = next.bus
      scriptDevice(engine, bus)
    }
  }
  return states
}

function copyInto(from: Engine, to: Engine): void {
  const writer = new ByteWriter()
  from.saveState(writer)
  for (let page = 0; page < from.ramBytes / 4096; page++) {
    to.restorePage(page, from.ram.slice(page * 4096, page * 4096 + 4096))
  }
  to.loadState(new ByteReader(writer.finish()))
}

const always = (count: number) => () => count

function drives(prng: Prng): Record<string, Drive> {
  const random = (): number => 1 + prng.below(3000)
  const often = { threshold: 1, batchRuns: 1 }
  return {
    'threshold 1': { translation: often, slice: always(500) },
    'threshold 1 in one go': { translation: often, slice: always(1 << 20) },
    'a random threshold, random slices': {
      translation: { threshold: 2 + prng.below(50), batchRuns: 1 + prng.below(3) },
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
        { translation: { threshold: 3, batchRuns: 1 }, slice: always(count) },
      ]),
    ),
  }
}

describe('a random program has one state at every count, translated or not', () => {
  for (const mode of ['machine', 'supervisor'] as const) {
    for (let seed = 1; seed <= 6; seed++) {
      test(`in ${mode} mode, seed ${seed}`, () => {
        const expected = statesOf(seed, mode, { translation: 'off', slice: always(1 << 20) })
        assert.equal(new Set(expected).size, expected.length, 'the program goes on')
        for (const [name, drive] of Object.entries(drives(new Prng(seed)))) {
          assert.deepEqual(statesOf(seed, mode, drive), expected, name)
        }
      })
    }
  }
})
