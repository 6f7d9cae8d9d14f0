import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { concatBytes } from '../base/bytes.ts'
import { instructionCount } from '../machine/types.ts'
import { BatchBuilder, type LogBatch } from './batch.ts'
import { logIndex } from './entry.ts'
import type { MachineIdentity } from './identity.ts'
import { encodeKeptBatch, encodeKeptLogHeader, KeptLogReader } from './kept-log.ts'

const identity: MachineIdentity = {
  machine: 'shop',
  instructionTableHash: 1n,
  configDigest: 2n,
  imageDigest: 2n ** 64n - 1n,
}

function batches(): LogBatch[] {
  const builder = new BatchBuilder(logIndex(3n))
  return [1, 2, 5].map((length) => {
    for (let entry = 0; entry < length; entry++) {
      builder.append(instructionCount(100n), { kind: 'consoleInput', bytes: new Uint8Array(length) })
    }
    return builder.take()!.batch
  })
}

function file(): Uint8Array {
  return concatBytes([encodeKeptLogHeader({ identity, firstIndex: logIndex(3n) }), ...batches().map(encodeKeptBatch)])
}

test('a kept log read in pieces of any size yields its header and its batches', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 60 })), (sizes) => {
      const reader = new KeptLogReader()
      const read: LogBatch[] = []
      let rest = file()
      for (const size of [...sizes, rest.length]) {
        read.push(...reader.push(rest.subarray(0, size)))
        rest = rest.subarray(size)
      }
      assert.deepEqual(reader.header, { identity, firstIndex: 3n })
      assert.deepEqual(read, batches())
      assert.equal(reader.end, 11n)
      assert.equal(reader.tornBytes, 0)
    }),
  )
})

test('a torn last batch is counted, not read, and the batches before it are whole', () => {
  const whole = file()
  const reader = new KeptLogReader()
  assert.equal(reader.push(whole.subarray(0, whole.length - 1)).length, 2)
  assert.ok(reader.tornBytes > 0)
})

test('a flipped bit anywhere is refused or leaves a torn end, and is never read as another log', () => {
  const whole = file()
  const original = batches()
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const damaged = whole.slice()
    damaged[bit >> 3]! ^= 1 << (bit & 7)
    const reader = new KeptLogReader()
    try {
      const read = reader.push(damaged)
      assert.deepEqual(read, original.slice(0, read.length))
      assert.ok(reader.tornBytes > 0, `bit ${bit} went unnoticed`)
    } catch (error) {
      assert.match(
        (error as { code?: string }).code ?? String(error),
        /^(kept-log-damaged|not-a-kept-log|log-version)$/,
      )
    }
  }
})

test('batches in a wrong order are damage', () => {
  const [first, second, third] = batches()
  const reader = new KeptLogReader()
  reader.push(encodeKeptLogHeader({ identity, firstIndex: logIndex(3n) }))
  assert.equal(reader.push(encodeKeptBatch(first!)).length, 1)
  assert.throws(() => reader.push(encodeKeptBatch(third!)), /entry 6 follows where 4 is due/)
  assert.ok(second)
})

test('another file is said to be none', () => {
  assert.throws(() => new KeptLogReader().push(new TextEncoder().encode('#!/bin/sh')), /not a kept log/)
})
