import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Alarm } from './alarm.ts'

/** A clock that the test moves; `rings` is when the alarm rang. */
function newAlarm(): { alarm: Alarm; rings: number[]; pass: (ms: number) => void } {
  let nowMs = 1000
  const timers = new Map<() => void, number>()
  const clock = {
    nowMs: () => nowMs,
    after(delayMs: number, ring: () => void) {
      timers.set(ring, nowMs + delayMs)
      return () => void timers.delete(ring)
    },
  }
  const rings: number[] = []
  const pass = (ms: number): void => {
    for (let passed = 0; passed < ms; passed++) {
      nowMs++
      for (const [ring, atMs] of [...timers]) {
        if (atMs <= nowMs && timers.delete(ring)) ring()
      }
    }
  }
  return { alarm: new Alarm(clock, () => rings.push(nowMs)), rings, pass }
}

test('rings once, at the earliest of the times it was set to', () => {
  const { alarm, rings, pass } = newAlarm()
  alarm.set(1500)
  alarm.set(1200.5)
  alarm.set(1300)
  alarm.set(Number.POSITIVE_INFINITY)
  pass(1000)
  assert.deepEqual(rings, [1201], 'not before, and not again')
  alarm.set(2100)
  pass(1000)
  assert.deepEqual(rings, [1201, 2100])
})

test('a time that has passed rings at the next turn, not within this one', () => {
  const { alarm, rings, pass } = newAlarm()
  alarm.set(5)
  assert.deepEqual(rings, [])
  pass(1)
  assert.deepEqual(rings, [1001])
})

test('a cancelled alarm does not ring', () => {
  const { alarm, rings, pass } = newAlarm()
  alarm.set(1100)
  alarm.cancel()
  pass(500)
  assert.deepEqual(rings, [])
})
