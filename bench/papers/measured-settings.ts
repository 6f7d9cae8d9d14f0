/** What both processes of a measured pair have in common. */

import { type Discipline, exactDiscipline } from '../../src/log/discipline.ts'
import type { BootImage, MachineConfig } from '../../src/machine/types.ts'
import { defaultReplicationPolicy, type ReplicationPolicy } from '../../src/replication/policy.ts'

export const identity = { machine: 'bench', instructionTableHash: 1n, configDigest: 2n, imageDigest: 3n }

/** Nobody is lost on a busy host. */
export function policyOf(discipline: Discipline | undefined): ReplicationPolicy {
  return {
    ...defaultReplicationPolicy,
    detector: { ...defaultReplicationPolicy.detector, timeoutMs: 600_000, logSilenceMs: 600_000 },
    discipline: discipline ?? exactDiscipline,
  }
}

export function hartOptions(config: MachineConfig, image: BootImage, discipline: Discipline | undefined) {
  return {
    config,
    image,
    digestEveryMs: 60_000,
    discipline: discipline ?? exactDiscipline,
    onFailed: (error: Error): void => {
      throw error
    },
  }
}
