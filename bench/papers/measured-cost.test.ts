import assert from 'node:assert/strict'
import { test } from 'node:test'
import { exactReport, latencyName } from './exact-report.ts'
import { addCost, costRow, type MeasuredCost } from './measured-cost.ts'
import { Samples } from './samples.ts'

const cost = (wall: number, hart: number, sentBytes = 0): MeasuredCost => ({
  ...{ wall, hart, all: 2 * hart, amount: 10 },
  ...{ sentBytes, receivedBytes: sentBytes / 10, channelSeconds: 2 * wall },
})

test('a ratio is what is done in a second protected by what is done unprotected, and bandwidth is bits on the channel in its own time', () => {
  const samples = new Samples()
  for (const wall of [1, 2, 9]) addCost(samples, 'row', 'unprotected', cost(wall, 1))
  for (const wall of [4, 4, 1]) addCost(samples, 'row', 'protected', cost(wall, 2, wall * 1000))
  const row = costRow(samples, 'row')
  assert.deepEqual([row.ratio, row.cpuRatio], [0.5, 0.5])
  assert.deepEqual([row.logBitsPerSecond, row.backBitsPerSecond], [4000, 400])
  assert.equal(row.rounds, 3)
})

test('a row that was not measured in both modes has bandwidth, but no ratio', () => {
  const samples = new Samples()
  addCost(samples, 'exact/idle', 'protected', cost(1, 1, 5000))
  for (const mode of ['unprotected', 'protected']) samples.add(`${latencyName}/${mode}`, { medianMs: 1 })
  assert.equal(costRow(samples, 'exact/idle').ratio, undefined)
  assert.match(exactReport(samples)!.text, /^\| idle \| {2}\| {2}\| 20 kbit\/s \| ≤ 50 kbit\/s \|/m)
  assert.equal(exactReport(new Samples()), undefined)
})
