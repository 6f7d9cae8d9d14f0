import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type DiskChange, lengthOf, UnflushedWrites } from './unflushed-writes.ts'

const write = (offset: number, length: number, byte: number): DiskChange => ({
  operation: 'write',
  offset,
  data: new Uint8Array(length).fill(byte),
})
const zeroes = (offset: number, lengthBytes: number): DiskChange => ({ operation: 'writeZeroes', offset, lengthBytes })
const trim = (offset: number, lengthBytes: number): DiskChange => ({ operation: 'trim', offset, lengthBytes })

function kept(...changes: readonly DiskChange[]): UnflushedWrites {
  const unflushed = new UnflushedWrites()
  for (const change of changes) unflushed.onCompleted(change)
  return unflushed
}

test('a flush covers what was completed before it began, and nothing else', () => {
  const [early, late] = [write(0, 512, 1), write(1024, 512, 2)]
  const unflushed = kept(early)
  const reach = unflushed.beginFlush()
  unflushed.onCompleted(late)
  assert.deepEqual(unflushed.inOrder(), [early, late], 'a flush that is not answered yet covers nothing')
  unflushed.onFlushed(reach)
  assert.deepEqual(unflushed.inOrder(), [late])
  unflushed.onFlushed(unflushed.beginFlush())
  assert.deepEqual([unflushed.count, unflushed.bytes], [0, 0])
})

test('answers of flushes may come in any order', () => {
  const unflushed = kept(write(0, 512, 1))
  const first = unflushed.beginFlush()
  unflushed.onCompleted(write(512, 512, 2))
  const second = unflushed.beginFlush()
  unflushed.onCompleted(write(1024, 512, 3))
  unflushed.onFlushed(second)
  unflushed.onFlushed(first)
  assert.deepEqual(unflushed.inOrder(), [write(1024, 512, 3)])
})

test('a later change of the same place takes the place of the earlier one, unless it is shorter', () => {
  assert.deepEqual(kept(write(0, 512, 1), write(0, 512, 2)).inOrder(), [write(0, 512, 2)])
  assert.deepEqual(kept(write(0, 512, 1), zeroes(0, 1024)).inOrder(), [zeroes(0, 1024)])
})

test('of a change that was overwritten in part only the rest is written again: nothing older lies over it meanwhile', () => {
  assert.deepEqual(kept(zeroes(0, 1024), write(0, 512, 2)).inOrder(), [zeroes(512, 512), write(0, 512, 2)])
  const around = kept(write(0, 1536, 1), write(512, 512, 2)).inOrder()
  assert.deepEqual(around, [write(0, 512, 1), write(1024, 512, 1), write(512, 512, 2)])
  assert.deepEqual(kept(trim(0, 1024), write(512, 512, 2)).inOrder(), [trim(0, 512), write(512, 512, 2)])
})

test('a change that was overwritten before a flush began stays kept by its newer contents', () => {
  const unflushed = kept(write(0, 512, 1))
  const reach = unflushed.beginFlush()
  unflushed.onCompleted(write(0, 512, 2))
  unflushed.onFlushed(reach)
  assert.deepEqual(unflushed.inOrder(), [write(0, 512, 2)])
})

test('a trim replaces no contents: a disk may do nothing about it', () => {
  assert.deepEqual(kept(write(0, 512, 1), trim(0, 512)).inOrder(), [write(0, 512, 1), trim(0, 512)])
})

test('memory counts the data, and something for each change', () => {
  const unflushed = kept(write(0, 4096, 1), zeroes(8192, 1 << 30), trim(0, 1 << 30))
  assert.ok(unflushed.bytes >= 4096 && unflushed.bytes < 8192)
})

const sectors = 8
const someChange = fc
  .tuple(fc.nat(sectors - 1), fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 255 }), fc.boolean())
  .map(([offset, length, byte, isZero]) => (isZero ? zeroes(offset, length) : write(offset, length, byte)))
const someStep = fc.oneof(someChange, fc.constant('beginFlush' as const), fc.constant('flushed' as const))

function apply(contents: Uint8Array, change: DiskChange): void {
  const end = change.offset + lengthOf(change)
  if (change.operation === 'write')
    contents.set(change.data.subarray(0, contents.length - change.offset), change.offset)
  else contents.fill(0, change.offset, end)
}

test('what is durable and what is kept make up the whole disk, whatever else survived the crash', () => {
  fc.assert(
    fc.property(fc.array(someStep, { maxLength: 40 }), fc.infiniteStream(fc.boolean()), (steps, survives) => {
      const unflushed = new UnflushedWrites()
      const contents = new Uint8Array(sectors)
      let durable = new Uint8Array(sectors)
      const volatile: DiskChange[] = []
      let flush: { reach: number; contents: Uint8Array<ArrayBuffer>; volatile: number } | undefined
      for (const step of steps) {
        if (step === 'beginFlush') {
          flush = { reach: unflushed.beginFlush(), contents: contents.slice(), volatile: volatile.length }
        } else if (step === 'flushed') {
          if (!flush) continue
          unflushed.onFlushed(flush.reach)
          durable = flush.contents
          volatile.splice(0, flush.volatile)
          flush = undefined
        } else {
          apply(contents, step)
          unflushed.onCompleted(step)
          volatile.push(step)
        }
        const afterCrash = durable.slice()
        for (const change of volatile) if (survives.next().value) apply(afterCrash, change)
        // Without a crash nothing is to change meanwhile: whoever writes may be lost after each.
        const unharmed = contents.slice()
        for (const change of unflushed.inOrder()) {
          apply(afterCrash, change)
          apply(unharmed, change)
          assert.deepEqual(unharmed, contents)
        }
        assert.deepEqual(afterCrash, contents)
      }
    }),
    { numRuns: 500, seed: 2026 },
  )
})
