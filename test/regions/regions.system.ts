import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MiB } from '../../src/base/units.ts'
import { churn } from './churn.ts'

test('regions that are built and discarded give their memory back', () => {
  const { regions, evicted, invalidated, peakBytes } = churn(20_000, 16 * MiB)
  assert.ok(regions >= 20_000 && evicted > 5000 && invalidated > 1000, `${regions}, ${evicted}, ${invalidated}`)
  assert.ok(peakBytes <= 200 * MiB, `${Math.round(peakBytes / MiB)} MiB beyond guest RAM`)
})
