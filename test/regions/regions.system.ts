import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MiB } from '../../src/base/units.ts'
import { measureEngineMemory } from './engine-memory.ts'

for (const flags of [[], ['--no-liftoff']]) {
  const compilers = flags.length > 0 ? "V8's optimizing compiler alone" : "V8's own tiering"
  test(`an engine whose slots and cache were filled and emptied takes at most 200 MiB beside guest RAM, with ${compilers}`, (t) => {
    const { regions, evicted, invalidated, engineBytes, sum } = measureEngineMemory(20_000, flags)
    t.diagnostic(
      `${Math.round(engineBytes / MiB)} MiB, ${regions} regions, ${evicted} evicted, ${invalidated} invalidated`,
    )
    assert.ok(regions >= 20_000 && evicted + invalidated > 10_000, `${regions}, ${evicted}, ${invalidated}`)
    assert.notEqual(sum, '0', 'the functions did something')
    assert.ok(engineBytes <= 200 * MiB, `${Math.round(engineBytes / MiB)} MiB beside guest RAM`)
    assert.ok(engineBytes >= 84 * MiB, 'predecoded code alone takes that: what was measured is no engine')
  })
}
