import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HartWatch } from './hart-watch.ts'

test('a hart that hears a new ring within the ticks is well, however often it is late', () => {
  const watch = new HartWatch(3)
  const heard = [1n, 1n, 1n, 2n, 2n, 2n, 5n, 5n, 5n]
  assert.deepEqual(
    heard.map((ring) => watch.onTick(ring)),
    heard.map(() => false),
  )
})

test('a hart that hears nothing new for so many ticks hangs', () => {
  const watch = new HartWatch(3)
  assert.deepEqual(
    [7n, 7n, 7n, 7n].map((ring) => watch.onTick(ring)),
    [false, false, false, true],
  )
})

test('a hart that has not come up yet is waited for', () => {
  const watch = new HartWatch(3)
  for (let tick = 0; tick < 100; tick++) assert.equal(watch.onTick(0n), false)
  assert.equal(watch.onTick(1n), false)
})
