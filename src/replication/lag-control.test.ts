import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defaultLagPolicy, LagControl } from './lag-control.ts'

const { mostMs, stepIntervalMs, leastPercent } = defaultLagPolicy

/** Reports every 5 ms, as the backup's acknowledgements come, for so long. */
function report(control: LagControl, fromMs: number, durationMs: number, lagAt: (ms: number) => number): number[] {
  const changes: number[] = []
  for (let ms = fromMs; ms < fromMs + durationMs; ms += 5) {
    const percent = control.onLag(lagAt(ms), ms)
    if (percent !== undefined) changes.push(percent)
  }
  return changes
}

test('past 30 ms of lag the share is cut in small steps, one an interval, never to nothing, and given back after', () => {
  const control = new LagControl()
  assert.deepEqual(
    report(control, 0, 5 * stepIntervalMs + 1, () => mostMs + 1),
    [95, 90, 85, 80, 75],
  )
  report(control, 1000, 100 * stepIntervalMs, () => 5000)
  assert.equal(control.cpuPercent, leastPercent)
  assert.deepEqual(
    report(control, 60_000, 3 * stepIntervalMs, () => 0),
    [15, 20, 25],
  )
  report(control, 70_000, 100 * stepIntervalMs, () => 0)
  assert.equal(control.cpuPercent, 100)
})

test('a peak that does not last an interval costs nothing', () => {
  const control = new LagControl()
  assert.deepEqual(
    report(control, 0, 2000, (ms) => (ms % 50 === 25 ? 2 : 400)),
    [],
  )
})

test('between half and all of the lag that is allowed the share stays as it is', () => {
  const control = new LagControl()
  report(control, 0, 3 * stepIntervalMs + 1, () => mostMs + 1)
  const { cpuPercent } = control
  assert.deepEqual(report(control, 1000, 1000, () => 0.75 * mostMs).slice(1), [])
  assert.ok(Math.abs(control.cpuPercent - cpuPercent) <= 5)
})

test('a backup that can do half of what the primary does settles the primary at about half, with a lag that is bounded', () => {
  const control = new LagControl()
  let lagMs = 0
  let longestMs = 0
  const shares: number[] = []
  for (let ms = 0; ms < 60_000; ms += 5) {
    lagMs = Math.max(0, lagMs + 5 * (control.cpuPercent / 50 - 1))
    longestMs = Math.max(longestMs, lagMs)
    control.onLag(lagMs, ms)
    if (ms > 30_000) shares.push(control.cpuPercent)
  }
  const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length
  assert.ok(mean > 40 && mean <= 52, `${mean} %`)
  assert.ok(longestMs < 2000, `${longestMs} ms`)
})

test('without a backup the primary gets all at once', () => {
  const control = new LagControl()
  report(control, 0, 10 * stepIntervalMs, () => 500)
  assert.equal(control.onLag(undefined, 1100), 100)
  assert.equal(control.onLag(undefined, 1101), undefined)
})
