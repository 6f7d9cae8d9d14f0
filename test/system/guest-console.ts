/** Typing on the console of a VM that runs: to the root shell that the minimal guest has there. */

import { setTimeout as sleep } from 'node:timers/promises'
import { ask } from '../../src/host/control.ts'
import { pairStatus } from '../../src/host/local-pair.ts'
import type { ReplicaStatus } from '../../src/host/replica-status.ts'
import { readVmConfig } from '../../src/host/vm-config.ts'
import { VmFolder } from '../../src/host/vm-folder.ts'

const liveWithinMs = 10_000

export async function typeOnConsole(vm: string, line: string): Promise<void> {
  const { config } = readVmConfig(vm)
  const { name } = await liveReplica(vm)
  await ask(new VmFolder(config.name).controlPath(name), 'consoleInput', { text: `${line}\n` })
}

export async function liveReplica(vm: string): Promise<ReplicaStatus> {
  const deadline = performance.now() + liveWithinMs
  for (;;) {
    const live = (await pairStatus(vm)).replicas.find(({ role }) => role === 'primary')
    if (live) return live
    if (performance.now() > deadline) throw new Error('no replica is live')
    await sleep(50)
  }
}
