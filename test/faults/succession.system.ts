/** One failure after the other, in short. `npm run faults -- --successive 50` has as many as you like. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runSuccession } from './succession.ts'

test('after each of three failures in a row the VM is protected again by itself, and no client notices', async (t) => {
  const report = await runSuccession(3, 1, (line) => t.diagnostic(line))
  const { failures, lost, duplicated, resets, divergences, two_live, unclean_filesystems, failure } = report
  assert.deepEqual(
    { failures, lost, duplicated, resets, divergences, two_live, unclean_filesystems, failure },
    {
      failures: 3,
      lost: 0,
      duplicated: 0,
      resets: 0,
      divergences: 0,
      two_live: 0,
      unclean_filesystems: 0,
      failure: undefined,
    },
  )
  // How long it took depends on what else this host has to do.
  t.diagnostic(JSON.stringify(report))
})
