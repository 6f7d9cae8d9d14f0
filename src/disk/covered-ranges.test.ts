import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { CoveredRanges } from './covered-ranges.ts'

const sizeBytes = 40
const someRange = fc
  .tuple(fc.nat(sizeBytes - 1), fc.integer({ min: 1, max: 9 }))
  .map(([offset, length]) => ({ offset, lengthBytes: Math.min(length, sizeBytes - offset) }))

test('what was not covered before are the bytes that no earlier range has, each once and in order', () => {
  fc.assert(
    fc.property(fc.array(someRange, { maxLength: 25 }), (ranges) => {
      const covered = new CoveredRanges()
      const bytes = new Set<number>()
      for (const range of ranges) {
        const expected = Array.from({ length: range.lengthBytes }, (_, index) => range.offset + index).filter(
          (byte) => !bytes.has(byte),
        )
        assert.deepEqual(covered.missingIn(range), covered.missingIn(range))
        const parts = covered.add(range)
        const found = parts.flatMap(({ offset, lengthBytes }) =>
          Array.from({ length: lengthBytes }, (_, index) => offset + index),
        )
        assert.deepEqual(found, expected)
        assert.ok(parts.every(({ lengthBytes }) => lengthBytes > 0))
        for (const byte of expected) bytes.add(byte)
        assert.deepEqual(covered.missingIn(range), [])
      }
    }),
    { numRuns: 1000, seed: 2026 },
  )
})

test('ranges that meet become one', () => {
  const covered = new CoveredRanges()
  covered.add({ offset: 0, lengthBytes: 4 })
  covered.add({ offset: 8, lengthBytes: 4 })
  assert.deepEqual(covered.add({ offset: 2, lengthBytes: 8 }), [{ offset: 4, lengthBytes: 4 }])
  assert.deepEqual(covered.missingIn({ offset: 0, lengthBytes: 14 }), [{ offset: 12, lengthBytes: 2 }])
})
