/** What a running VM says of itself, awaited. */

import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { type PairStatus, pairStatus } from '../../src/host/local-pair.ts'
import type { ReplicaStatus } from '../../src/host/replica-status.ts'

export function primaryOf({ replicas }: PairStatus): ReplicaStatus | undefined {
  return replicas.find(({ role }) => role === 'primary')
}

/** @returns the first status of the VM of which this holds */
export async function statusWhen(
  vm: string,
  what: string,
  holds: (status: PairStatus) => boolean,
  withinMs = 60_000,
): Promise<PairStatus> {
  const deadline = performance.now() + withinMs
  for (;;) {
    const status = await pairStatus(vm)
    if (holds(status)) return status
    assert.ok(performance.now() < deadline, `${what}: ${JSON.stringify(status)}`)
    await sleep(50)
  }
}
