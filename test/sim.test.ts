/** The simulator's short form: the seeds that ever failed, and the first 500. `npm run sim` runs as many as one likes. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Campaign } from '../src/sim/campaign.ts'
import { knownSeeds } from '../src/sim/known-seeds.ts'
import { leastEntries, repeatCommand, runSeed } from '../src/sim/simulation.ts'

test('seeds that ever failed pass', () => {
  for (const { seed, found } of knownSeeds) assert.deepEqual(runSeed(seed).violations, [], found)
})

test('500 seeds: nothing lost, never two live, and every situation comes up', () => {
  const campaign = new Campaign()
  for (let seed = 1; seed <= 500; seed++) campaign.run(seed)
  const { failed, situations, leastEntries: shortest, leastFaults } = campaign.result
  const [first] = failed
  assert.equal(failed.length, 0, first ? `${first.violations.join('\n')}\nrepeat: ${repeatCommand(first)}` : '')
  assert.ok(shortest >= leastEntries, `a log of ${shortest} entries`)
  assert.ok(leastFaults >= 1)
  const missing = Object.entries(situations).filter(([, seeds]) => seeds === 0)
  assert.deepEqual(missing, [], 'situations that never came up')
})

test('every process dies at boundaries of log entries all along short runs: with one backup, with two, while one is given the machine', () => {
  const campaign = new Campaign()
  for (const seed of [1, 6, 22]) campaign.runExhaustively(seed, 12)
  const { failed, seeds, situations } = campaign.result
  const [first] = failed
  assert.equal(failed.length, 0, first ? `${first.violations.join('\n')}\nrepeat: ${repeatCommand(first)}` : '')
  assert.ok(seeds > 800, `${seeds} runs`)
  for (const situation of [
    'failover',
    'protected_again',
    'promoted_with_another_attached',
    'reissued_write',
  ] as const) {
    assert.ok(situations[situation] > 0, situation)
  }
})

test('a seed is repeatable: the same seed goes the same way', () => {
  assert.deepEqual(runSeed(7), runSeed(7))
})
