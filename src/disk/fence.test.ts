import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ArbiterRecord } from './arbiter-record.ts'
import { type DiskPass, Fence } from './fence.ts'

const inGeneration1: DiskPass = { kind: 'replica', replica: 'a', generation: 1 }
const inGeneration2: DiskPass = { kind: 'replica', replica: 'b', generation: 2 }

const held1 = ArbiterRecord.fresh('web').start('a').next.setEligible('a', 1, ['b']).next
const held2 = held1.testAndSet('b', 1).next

function isDrained(fence: Fence): boolean {
  let isDrained = false
  fence.whenDrained(() => (isDrained = true))
  return isDrained
}

test('only the holder in its generation is let through', () => {
  const fence = new Fence(held1)
  assert.ok(fence.enter(inGeneration1))
  assert.equal(fence.enter(inGeneration2), undefined)
  assert.equal(fence.enter({ kind: 'replica', replica: 'b', generation: 1 }), undefined)
  fence.raise(held2)
  assert.equal(fence.enter(inGeneration1), undefined)
  assert.ok(fence.enter(inGeneration2))
})

test('a fence is drained when the last older request has left, and not before', () => {
  const fence = new Fence(held1)
  const leaveFirst = fence.enter(inGeneration1)!
  const leaveSecond = fence.enter(inGeneration1)!
  fence.raise(held2)
  let drained = 0
  fence.whenDrained(() => drained++)
  leaveFirst()
  assert.equal(drained, 0)
  leaveSecond()
  assert.equal(drained, 1)
})

test('requests of the present generation do not hold up a drain', () => {
  const fence = new Fence(held1)
  const leave = fence.enter(inGeneration1)!
  assert.equal(isDrained(fence), true)
  fence.raise(held1.openGeneration('a', 1, ['b']).next)
  assert.equal(isDrained(fence), true, 'same holder, next generation')
  leave()
})

test('a tool is let through while nobody holds the machine, and never again after a start', () => {
  const fence = new Fence(ArbiterRecord.fresh('web'))
  const tool: DiskPass = { kind: 'tool', generation: 0 }
  const leave = fence.enter(tool)!
  fence.raise(held1)
  assert.equal(fence.enter(tool), undefined)
  assert.equal(isDrained(fence), false)
  leave()
  assert.equal(isDrained(fence), true)
  fence.raise(held1.release('a', 1).next)
  assert.equal(fence.enter(tool), undefined, 'its picture of the disk is old')
})

test('a request that leaves twice is a broken invariant', () => {
  const fence = new Fence(held1)
  const leave = fence.enter(inGeneration1)!
  leave()
  assert.throws(leave, /left the fence twice/)
})
