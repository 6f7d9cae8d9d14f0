import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DelayHistogram } from './delay-histogram.ts'

test('a quantile is at least the true one, and at most a fifth more', () => {
  const histogram = new DelayHistogram()
  // 1 µs … 1 ms: the median is 500 µs, the 99th percentile 990 µs.
  for (let us = 1; us <= 1000; us++) histogram.add(BigInt(us) * 1000n)
  const { count, medianMs, p99Ms } = histogram.summary
  assert.equal(count, 1000)
  assert.ok(medianMs >= 0.5 && medianMs <= 0.6, `${medianMs}`)
  assert.ok(p99Ms >= 0.99 && p99Ms <= 1.19, `${p99Ms}`)
})

test('what one thread adds another reads; nothing at all is 0; an endless delay is the last bucket', () => {
  const hart = new DelayHistogram()
  const main = new DelayHistogram(hart.buffer)
  assert.deepEqual(main.summary, { count: 0, medianMs: 0, p99Ms: 0 })
  hart.add(0n)
  assert.deepEqual(main.summary, { count: 1, medianMs: 0.001, p99Ms: 0.001 })
  hart.add(10n ** 15n)
  assert.ok(main.summary.p99Ms > 16_000)
})
