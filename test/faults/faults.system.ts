/**
 * The fault trials in short: disk server and LAN die and come back under a protected VM, a primary wakes after it lost,
 * and both replicas die at once. `npm run faults` has all kinds, and as many as you like.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runCampaign } from './campaign.ts'
import { kindOfSeed } from './trial.ts'

const kinds = ['disk-server-killed', 'lan-killed', 'primary-paused', 'both-killed']

test('no fault loses or repeats an acknowledged write, resets a connection, or leaves two machines or a broken disk', async (t) => {
  const seeds = kinds.map((name) => {
    for (let seed = 1; ; seed++) if (kindOfSeed(seed).name === name) return seed
  })
  const { totals } = await runCampaign(seeds, (line) => t.diagnostic(line))
  assert.deepEqual(totals, {
    trials: kinds.length,
    lost: 0,
    duplicated: 0,
    resets: 0,
    divergences: 0,
    two_live: 0,
    unclean_filesystems: 0,
  })
})
