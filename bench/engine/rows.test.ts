import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inTurns } from '../support/turns.ts'
import { contestants } from './contestants.ts'
import { Measurement, summarize, type Work } from './rows.ts'

const work: Work = { group: 'bare', name: 'hash', title: 'Hash', isQuick: true }
const timing = (seconds: number, result = 'ok') => ({ seconds, cpuSeconds: seconds * 2, result })

test('a ratio is the median time of QEMU by ours, so above 1 we are faster', () => {
  const measurement = new Measurement(work)
  for (const seconds of [1, 2, 9]) measurement.add('understudy', timing(seconds))
  for (const seconds of [4, 5, 1]) measurement.add('qemu', timing(seconds))
  for (const seconds of [8, 8, 8]) measurement.add('icount', timing(seconds))
  const row = measurement.row()
  assert.deepEqual(row.seconds, { understudy: 2, qemu: 4, icount: 8 })
  assert.deepEqual([row.vs_qemu, row.vs_icount], [2, 4])
  assert.deepEqual(row.cpu_seconds, { understudy: 4, qemu: 8, icount: 16 })
  assert.deepEqual([row.cpu_vs_qemu, row.cpu_vs_icount], [2, 4])
})

test('contestants that do not agree on the result end the run', () => {
  const measurement = new Measurement(work)
  measurement.add('understudy', timing(1, 'one'))
  assert.throws(() => measurement.add('qemu', timing(1, 'other')), /hash: understudy says "one", qemu says "other"/)
})

test('a group is summed up by geometric mean and least ratio; a group without rows by null', () => {
  const rows = [1, 4].map((factor) => {
    const measurement = new Measurement(work)
    measurement.add('understudy', timing(1))
    measurement.add('qemu', timing(factor))
    measurement.add('icount', timing(2 * factor))
    return measurement.row()
  })
  const [vsQemu, vsIcount] = [
    { geomean: 2, min: 1 },
    { geomean: 4, min: 2 },
  ]
  assert.deepEqual(summarize(rows, 'bare'), {
    vs_qemu: vsQemu,
    vs_icount: vsIcount,
    cpu_vs_qemu: vsQemu,
    cpu_vs_icount: vsIcount,
  })
  assert.equal(summarize(rows, 'linux'), null)
})

test('every round lets another contestant begin', () => {
  assert.deepEqual(new Set([0, 1, 2].map((round) => inTurns(contestants, round)[0])), new Set(contestants))
  assert.deepEqual(new Set(inTurns(contestants, 5)), new Set(contestants))
})

test('rounds of an earlier run count like those of this one', () => {
  const earlier = new Measurement(work)
  for (const contestant of contestants) earlier.add(contestant, timing(1))
  const measurement = new Measurement(work, structuredClone(earlier.timings))
  assert.equal(measurement.rounds, 1)
  for (const contestant of contestants) measurement.add(contestant, timing(3))
  assert.equal(measurement.rounds, 2)
  assert.deepEqual(measurement.row().rounds.qemu, [1, 3])
})
