import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MiB } from '../../src/base/units.ts'
import { measureEngineMemory } from './engine-memory.ts'

test('an engine whose slots and cache were filled and emptied takes at most 200 MiB beside guest RAM', (t) => {
  const { regions, evicted, invalidated, engineBytes } = measureEngineMemory(40_000)
  t.diagnostic(
    `${Math.round(engineBytes / MiB)} MiB, ${regions} regions, ${evicted} evicted, ${invalidated} invalidated`,
  )
  assert.ok(regions >= 40_000 && evicted + invalidated > 20_000, `${regions}, ${evicted}, ${invalidated}`)
  assert.ok(engineBytes <= 200 * MiB, `${Math.round(engineBytes / MiB)} MiB beside guest RAM`)
  assert.ok(engineBytes >= 84 * MiB, 'predecoded code alone takes that: what was measured is no engine')
})
