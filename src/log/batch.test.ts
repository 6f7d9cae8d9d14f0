import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { WorldError } from '../base/assert.ts'
import { concatBytes } from '../base/bytes.ts'
import { type DiskStatus, instructionCount } from '../machine/types.ts'
import { BatchBuilder, batchEnd, decodeBatch, openBatch } from './batch.ts'
import { addBytesByCause, causeOf, type EntryBody, type LogEntry, logIndex, noBytesByCause } from './entry.ts'

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const bytes = fc.uint8Array({ maxLength: 40 })

const bodies: fc.Arbitrary<EntryBody> = fc
  .oneof(
    fc.record({ kind: fc.constant('boot' as const), rngSeed: bytes, wallClockNs: u64 }),
    fc.record({ kind: fc.constant('clock' as const), ticks: u64, ratePer2p32: u64, capTicks: u64 }),
    fc.record({ kind: fc.constant('frame' as const), frameId: fc.bigInt({ min: 0n, max: 2n ** 63n }), bytes }),
    fc.record(
      {
        kind: fc.constant('diskCompletion' as const),
        sequence: u64,
        status: fc.constantFrom<DiskStatus>('ok', 'ioError', 'unsupported'),
        data: bytes,
      },
      { requiredKeys: ['kind', 'sequence', 'status'] },
    ),
    fc.record({ kind: fc.constant('consoleInput' as const), bytes }),
    fc.record({ kind: fc.constant('entropy' as const), bytes }),
    fc.record({ kind: fc.constant('powerButton' as const) }),
    fc.record({
      kind: fc.constant('marker' as const),
      sequence: u64,
      outputKind: fc.constantFrom('frame' as const, 'disk', 'console', 'entropyRequest', 'power'),
      checksum: u64,
    }),
    fc.record({ kind: fc.constant('digest' as const), digest: u64 }),
  )
  .map((body) => ({ ...body }))

const steps = fc.array(fc.record({ delta: fc.bigInt({ min: 0n, max: 2n ** 40n }), body: bodies }), { minLength: 1 })

function build(list: readonly { delta: bigint; body: EntryBody }[], first = 7n) {
  const builder = new BatchBuilder(logIndex(first))
  const entries: LogEntry[] = []
  let count = 1000n
  for (const { delta, body } of list) {
    count += delta
    const index = builder.append(instructionCount(count), body)
    entries.push({ index, count: instructionCount(count), body })
  }
  return { builder, entries, taken: builder.take()! }
}

test('decoding a batch yields the entries that were appended, with their indexes and counts', () => {
  fc.assert(
    fc.property(steps, (list) => {
      const { entries, taken } = build(list)
      assert.deepEqual(decodeBatch(taken.batch.bytes), entries)
    }),
  )
})

test('the header alone tells which entries and which frames a batch covers', () => {
  fc.assert(
    fc.property(steps, (list) => {
      const { entries, taken, builder } = build(list)
      assert.deepEqual(openBatch(taken.batch.bytes), taken.batch)
      assert.equal(taken.batch.firstIndex, 7n)
      assert.equal(batchEnd(taken.batch), builder.nextIndex)
      const frames = entries.flatMap(({ body }) => (body.kind === 'frame' ? [body.frameId] : []))
      assert.equal(taken.batch.lastFrameId, frames.at(-1))
    }),
  )
})

test('indexes run on from batch to batch, and an empty builder has nothing to take', () => {
  const builder = new BatchBuilder(logIndex(0n))
  assert.equal(builder.take(), undefined)
  builder.append(instructionCount(5n), { kind: 'powerButton' })
  assert.equal(builder.take()?.batch.lastIndex, 0n)
  builder.append(instructionCount(5n), { kind: 'frame', frameId: 0n, bytes: Uint8Array.of(1) })
  const { batch } = builder.take()!
  assert.equal(batch.firstIndex, 1n)
  assert.equal(batch.lastFrameId, 0n)
  assert.equal(builder.take(), undefined)
})

test('log bytes are counted by cause, and add up to the batch without its header', () => {
  fc.assert(
    fc.property(steps, (list) => {
      const { entries, taken } = build(list)
      const sum = Object.values(taken.bytesByCause).reduce((total, part) => total + part, 0)
      assert.ok(sum < taken.batch.bytes.length && sum > taken.batch.bytes.length - 40)
      for (const { body } of entries) assert.ok(taken.bytesByCause[causeOf(body)] > 0)
      const total = noBytesByCause()
      addBytesByCause(total, taken.bytesByCause)
      addBytesByCause(total, taken.bytesByCause)
      assert.equal(total.frame, 2 * taken.bytesByCause.frame)
    }),
  )
})

test('a clock entry of a running machine takes at most 18 bytes, a marker at most 16', () => {
  const builder = new BatchBuilder(logIndex(0n))
  builder.append(instructionCount(10n ** 12n), { kind: 'powerButton' })
  builder.append(instructionCount(10n ** 12n + 500_000n), {
    kind: 'clock',
    ticks: 36_000_000_000n,
    ratePer2p32: 429_496_729n,
    capTicks: 100_000n,
  })
  builder.append(instructionCount(10n ** 12n + 500_100n), {
    kind: 'marker',
    sequence: 1_000_000n,
    outputKind: 'frame',
    checksum: 2n ** 64n - 1n,
  })
  const { bytesByCause } = builder.take()!
  assert.ok(bytesByCause.clock <= 18, `${bytesByCause.clock}`)
  assert.ok(bytesByCause.marker <= 16, `${bytesByCause.marker}`)
})

test('entries never go back in instruction count', () => {
  const builder = new BatchBuilder(logIndex(0n))
  builder.append(instructionCount(5n), { kind: 'powerButton' })
  assert.throws(() => builder.append(instructionCount(4n), { kind: 'powerButton' }), /comes before its predecessor/)
})

test('any damage to a batch is a WorldError or another batch, never another exception', () => {
  fc.assert(
    fc.property(steps, fc.nat(), fc.integer({ min: 1, max: 255 }), fc.boolean(), (list, at, flip, cut) => {
      const damaged = build(list).taken.batch.bytes.slice()
      const place = at % damaged.length
      damaged[place]! ^= flip
      try {
        decodeBatch(cut ? damaged.subarray(0, place) : damaged)
      } catch (error) {
        assert.ok(error instanceof WorldError, String(error))
      }
    }),
    { numRuns: 500 },
  )
})

test('a batch of another version, an empty one and one with bytes behind it are refused with their codes', () => {
  const { bytes: good } = build([{ delta: 0n, body: { kind: 'powerButton' } }]).taken.batch
  const refusal = (wrong: Uint8Array) => {
    try {
      decodeBatch(wrong)
    } catch (error) {
      return (error as WorldError).code
    }
    return 'accepted'
  }
  assert.equal(refusal(good), 'accepted')
  assert.equal(refusal(Uint8Array.of(9, ...good.subarray(1))), 'log-version')
  assert.equal(refusal(concatBytes([good, Uint8Array.of(0)])), 'trailing-bytes')
  assert.equal(refusal(Uint8Array.of(1, 0, 0, 0, 0)), 'bad-log-entry')
  assert.equal(refusal(Uint8Array.of(1, 0, 0, 0xff, 0xff, 0x7f, 0)), 'too-large')
  assert.equal(refusal(new Uint8Array(0)), 'truncated')
})
