/** The fault trials in short: each kind of fault once. `npm run faults` has as many as you like. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runCampaign } from './campaign.ts'
import { faultKinds } from './fault-kinds.ts'

test('no fault loses or repeats an acknowledged write, resets a connection, or leaves two machines or a broken disk', async (t) => {
  const seeds = faultKinds.map((_, index) => index + 1)
  const { totals } = await runCampaign(seeds, (line) => t.diagnostic(line))
  assert.deepEqual(totals, {
    trials: faultKinds.length,
    lost: 0,
    duplicated: 0,
    resets: 0,
    divergences: 0,
    two_live: 0,
    unclean_filesystems: 0,
  })
})
