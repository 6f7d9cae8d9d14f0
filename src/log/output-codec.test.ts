import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { WorldError } from '../base/assert.ts'
import type { DiskOperation, Output } from '../machine/types.ts'
import { decodeOutput, encodeOutput, outputChecksum } from './output-codec.ts'

const sequence = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const bytes = fc.uint8Array({ maxLength: 40 })

const outputs: fc.Arbitrary<Output> = fc
  .oneof(
    fc.record({ kind: fc.constant('frame' as const), sequence, bytes }),
    fc.record({ kind: fc.constant('console' as const), sequence, bytes }),
    fc.record(
      {
        kind: fc.constant('disk' as const),
        sequence,
        disk: fc.nat(7),
        operation: fc.constantFrom<DiskOperation>('read', 'write', 'flush', 'discard', 'writeZeroes'),
        sector: sequence,
        lengthBytes: fc.nat(2 ** 31 - 1),
        data: bytes,
      },
      { requiredKeys: ['kind', 'sequence', 'disk', 'operation', 'sector', 'lengthBytes'] },
    ),
    fc.record({ kind: fc.constant('entropyRequest' as const), sequence, lengthBytes: fc.nat(1024) }),
    fc.record({
      kind: fc.constant('power' as const),
      sequence,
      action: fc.constantFrom('off' as const, 'reboot'),
      failed: fc.boolean(),
    }),
  )
  .map((output) => ({ ...output }))

test('decoding an output yields the output', () => {
  fc.assert(fc.property(outputs, (output) => assert.deepEqual(decodeOutput(encodeOutput(output)), output)))
})

test('the checksum of an output changes with every bit of its encoding that still is an output', () => {
  fc.assert(
    fc.property(outputs, fc.nat(), (output, at) => {
      const other = encodeOutput(output)
      other[Math.floor(at / 8) % other.length]! ^= 1 << (at % 8)
      try {
        assert.notEqual(outputChecksum(decodeOutput(other)), outputChecksum(output))
      } catch (error) {
        if (!(error instanceof WorldError)) throw error
      }
    }),
    { numRuns: 1000 },
  )
})

test('damaged outputs are WorldErrors', () => {
  for (const wrong of [[], [0, 0], [2, 0, 0, 9, 0, 0, 0], [1, 0, 5, 1], [5, 0, 2, 0], [4, 0, 1, 0]]) {
    assert.throws(() => decodeOutput(Uint8Array.from(wrong)), WorldError)
  }
})
