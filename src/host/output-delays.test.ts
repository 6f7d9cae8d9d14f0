import assert from 'node:assert/strict'
import { test } from 'node:test'
import { logIndex, type MarkedOutput } from '../log/entry.ts'
import { summarizeDelays } from './delay-histogram.ts'
import { OutputDelays } from './output-delays.ts'

const output = (index: bigint): MarkedOutput => ({
  output: { kind: 'console', sequence: index, bytes: new Uint8Array(1) },
  markerIndex: logIndex(index),
})

const us = 1000n

test('the time of an output is what it waited for the flush, and then for acknowledgements', () => {
  const delays = new OutputDelays()
  delays.onSent([output(1n), output(2n)], 1000n * us, 1008n * us)
  delays.onReleased([output(1n)], true, 1072n * us)
  const { flush, acknowledgement, total } = delays.summaries
  assert.deepEqual([flush.count, acknowledgement.count, total.count], [1, 1, 1])
  assert.equal(flush.medianMs, 0.008)
  assert.equal(acknowledgement.medianMs, 0.064)
  assert.ok(total.medianMs >= 0.072 && total.medianMs <= 0.0865, `${total.medianMs}`)
})

test('an output that waited for nobody is not counted, nor kept', () => {
  const delays = new OutputDelays()
  delays.onSent([output(1n)], 0n, 1n * us)
  delays.onReleased([output(1n)], false, 5n * us)
  delays.onReleased([output(1n)], true, 900n * us)
  assert.equal(delays.summaries.total.count, 0)
})

test('of two readings of the counts, the difference is what happened in between', () => {
  const delays = new OutputDelays()
  const wait = (index: bigint, delayUs: bigint): void => {
    delays.onSent([output(index)], 0n, 0n)
    delays.onReleased([output(index)], true, delayUs * us)
  }
  for (let index = 0n; index < 10n; index++) wait(index, 4096n)
  const before = delays.counts.total
  for (let index = 10n; index < 13n; index++) wait(index, 16n)
  const between = delays.counts.total.map((count, bucket) => count - before[bucket]!)
  assert.deepEqual(summarizeDelays(between), { count: 3, medianMs: 0.016, p99Ms: 0.016 })
})
