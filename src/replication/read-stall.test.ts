import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Divergence } from '../log/divergence.ts'
import { logIndex } from '../log/entry.ts'
import { instructionCount } from '../machine/types.ts'
import { ReadStall } from './read-stall.ts'

const limitMs = 1000
const difference: Divergence = {
  kind: 'differentRead',
  agreedEnd: logIndex(7n),
  index: logIndex(7n),
  count: instructionCount(100n),
  expected: 'what the primary read',
  found: 'what the backup read',
}

/** Waits from 0 on. */
function waitingStall(): ReadStall {
  const stall = new ReadStall(limitMs)
  stall.onNeed({ difference }, 0)
  return stall
}

/** Ticks as asked for, until `untilMs`. */
function tick(stall: ReadStall, fromMs: number, untilMs: number): void {
  for (let nowMs = fromMs; nowMs <= untilMs; nowMs = Math.max(nowMs + 1, Math.ceil(stall.dueMs))) {
    stall.onTick(nowMs)
    if (stall.hasEnded(nowMs)) return
  }
}

describe('a disk read that a backup has not done as its primary did (VMware FT, "Disk reads on the backup")', () => {
  test('is a divergence once it was waited for, for so long', () => {
    const stall = waitingStall()
    tick(stall, 0, limitMs - 1)
    assert.equal(stall.divergence(limitMs - 1), undefined)
    stall.onTick(limitMs)
    assert.equal(stall.divergence(limitMs), difference)
  })

  test('is none for a replica that stood still meanwhile, and may not have heard that it was dropped', () => {
    const stall = waitingStall()
    tick(stall, 0, limitMs / 2)
    const wokeMs = 10 * limitMs
    stall.onTick(wokeMs)
    assert.equal(stall.divergence(wokeMs), undefined)
    const endsMs = wokeMs + limitMs / 2
    tick(stall, wokeMs, endsMs - 1)
    assert.equal(stall.hasEnded(endsMs - 1), false)
    stall.onTick(endsMs)
    assert.equal(stall.hasEnded(endsMs), true)
  })

  test('waits for no time when nothing is read', () => {
    const stall = waitingStall()
    stall.onNeed(undefined, 10)
    assert.equal(stall.dueMs, Number.POSITIVE_INFINITY)
    assert.equal(stall.hasEnded(10 * limitMs), false)
    stall.onNeed({ difference }, 10 * limitMs)
    assert.equal(stall.hasEnded(10 * limitMs), false, 'its time begins when it does')
  })
})
