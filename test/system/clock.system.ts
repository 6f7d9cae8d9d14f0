/**
 * The guest's clock from outside, in its short form; `clock-campaign.ts` is the long one. "Within 20 ms of the host's
 * after 10 minutes of mixed idle and load, never back, across a failover too".
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { freePort, writeRedisVm } from '../../src/host/redis-vm.ts'
import { ownFolder } from '../support/own-folder.ts'
import { bestSamples, type ClockSample, certainErrorMs, provenErrorMs } from './clock-probe.ts'
import { type TrialReport, trialHolds, tryClock } from './clock-trial.ts'

const folder = ownFolder('clock')

test('a sample leaves half its round trip in doubt, and the one with the shortest round trip counts', () => {
  const sample = (atMs: number, offsetMs: number, roundTripMs: number): ClockSample => ({ atMs, offsetMs, roundTripMs })
  assert.equal(provenErrorMs(sample(0, -30, 20)), 20)
  assert.equal(certainErrorMs(sample(0, -30, 20)), 40)
  assert.equal(provenErrorMs(sample(0, 5, 20)), 0)
  const near = sample(400, 1, 2)
  const next = sample(1400, 3, 9)
  const left = sample(2300, 9, 30)
  assert.deepEqual(bestSamples([sample(100, 9, 30), near, sample(900, -9, 30), next, left], 1000), [near, next])
})

test('a trial holds only if the clock was read sharply, never proven wrong and never went back', () => {
  const phase = {
    kind: 'idle',
    seconds: 10,
    afterFailover: false,
    samples: 90,
    worst_offset_ms: 3,
    median_offset_ms: 1,
    worst_proven_error_ms: 2,
    worst_certain_error_ms: 4,
    windows: 4,
    certain_windows: 3,
    median_round_trip_ms: 1,
    mips: 1,
  } as const
  const good: TrialReport = {
    minutes: 1,
    samples: 90,
    went_back: 0,
    worst_offset_ms: 3,
    worst_proven_error_ms: 2,
    worst_certain_error_ms: 4,
    failover_stall_ms: 100,
    phases: [phase],
  }
  assert.ok(trialHolds(good))
  assert.ok(!trialHolds({ ...good, went_back: 1 }))
  assert.ok(!trialHolds({ ...good, worst_proven_error_ms: 20.1 }))
  assert.ok(!trialHolds({ ...good, phases: [{ ...phase, certain_windows: 2 }] }))
})

test('the guest keeps its host’s time, idle and at work, and across a failover', async (context) => {
  const port = await freePort()
  const vm = await writeRedisVm(folder, `clock-${process.pid}`, port)
  const report = await tryClock(
    vm,
    port,
    [
      { kind: 'idle', seconds: 15 },
      { kind: 'load', seconds: 15 },
      { kind: 'failover' },
      { kind: 'idle', seconds: 15 },
      { kind: 'load', seconds: 15 },
    ],
    (text) => context.diagnostic(text),
  )
  assert.ok(trialHolds(report), JSON.stringify(report, undefined, 2))
})
