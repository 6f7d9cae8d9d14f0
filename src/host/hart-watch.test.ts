import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type HartHealth, HartWatch } from './hart-watch.ts'

function healths(turns: readonly bigint[]): HartHealth[] {
  const watch = new HartWatch(3)
  return turns.map((count) => watch.onTick(count))
}

test('a hart that takes turns is left alone; one that takes none is rung, and is well with its next turn', () => {
  assert.deepEqual(healths([1n, 2n, 900n, 901n]), ['well', 'well', 'well', 'well'])
  assert.deepEqual(healths([1n, 1n, 1n, 2n, 2n, 2n, 5n]), [
    'well',
    'silent',
    'silent',
    'well',
    'silent',
    'silent',
    'well',
  ])
})

test('a hart that takes no turn for so many ticks hangs', () => {
  assert.deepEqual(healths([7n, 7n, 7n, 7n]), ['well', 'silent', 'silent', 'hanging'])
})

test('a hart that has not come up yet is waited for', () => {
  assert.ok(healths(Array.from({ length: 100 }, () => 0n)).every((health) => health === 'well'))
})
