/**
 * Bressoud & Schneider's protocol with real processes and a Debian guest: a primary that runs in epochs is killed while
 * clients count in Redis, which syncs every write. Its disk is virtio-scsi, so what was under way at the kill comes back to
 * the guest's driver as uncertain interrupts (P7). Everything that was acknowledged is there once, and the two replicas never differed.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { EpochDiscipline } from '../../../src/log/discipline.ts'
import { runCampaign } from '../../faults/campaign.ts'
import { faultKinds } from '../../faults/fault-kinds.ts'

const kill = faultKinds.findIndex(({ name }) => name === 'primary-killed') + 1

const disciplines: readonly EpochDiscipline[] = [
  { kind: 'epoch', protocol: 'revised', instructions: 50_000 },
  { kind: 'epoch', protocol: 'original', instructions: 50_000 },
]

for (const discipline of disciplines) {
  test(`a primary that is killed in an epoch of ${discipline.instructions} instructions loses nothing (${discipline.protocol})`, async (t) => {
    const { totals } = await runCampaign([kill], (line) => t.diagnostic(line), { discipline, bus: 'scsi' })
    const { trials, lost, duplicated, resets, divergences, two_live, unclean_filesystems, failed } = totals
    assert.deepEqual(
      { trials, lost, duplicated, resets, divergences, two_live, unclean_filesystems, failed },
      {
        trials: 1,
        lost: 0,
        duplicated: 0,
        resets: 0,
        divergences: 0,
        two_live: 0,
        unclean_filesystems: 0,
        failed: undefined,
      },
    )
  })
}
