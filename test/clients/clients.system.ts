/**
 * Clients that nobody here wrote, all in the middle of their work when the primary is killed: a benchmark, a pipe that
 * counts, a download, a login. To each of them the machine was only slow for a moment.
 * `node test/clients/run.ts --kills N` does it again and again.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ClientVm, missingTool } from './kill-trial.ts'

test('redis-benchmark, redis-cli, curl and ssh go on through a kill of the primary and miss nothing', async (t) => {
  const missing = missingTool()
  if (missing !== undefined) {
    t.skip(missing)
    return
  }
  const vm = await ClientVm.create((line) => t.diagnostic(line))
  try {
    const { faults, gapsMs } = await vm.killUnderClients(1)
    t.diagnostic(`longest gaps in ms: ${JSON.stringify(gapsMs)}`)
    assert.deepEqual(faults, [])
  } finally {
    await vm.remove(false)
  }
})
