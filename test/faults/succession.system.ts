/** One failure after the other on the same guest, in short. `npm run faults -- --successive 50` has as many as you like. */

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { FaultyVmOptions } from './faulty-vm.ts'
import { runSuccession, type SuccessionReport } from './succession.ts'

async function survives(t: TestContext, failures: number, options: FaultyVmOptions = {}): Promise<SuccessionReport> {
  const report = await runSuccession(failures, 1, (line) => t.diagnostic(line), options)
  const { lost, duplicated, resets, divergences, two_live, unclean_filesystems, failure } = report
  assert.deepEqual(
    {
      failures: report.failures,
      ...{ lost, duplicated, resets, divergences, two_live, unclean_filesystems, failure },
    },
    {
      failures,
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
  return report
}

test('after each of three failures in a row the VM is protected again by itself, and no client notices', async (t) => {
  await survives(t, 3)
})

test('so it is with two backups', async (t) => {
  await survives(t, 3, { backups: 2 })
})

test('so it is when each replica has its own copy of the disk, and the copies are equal', async (t) => {
  const { copies_differ } = await survives(t, 2, { ownDisks: true })
  assert.equal(copies_differ, 0)
})

test('so it is in epochs', async (t) => {
  await survives(t, 2, { discipline: { kind: 'epoch', protocol: 'revised', instructions: 50_000 }, bus: 'scsi' })
})
