/** What both processes of a measured pair have in common. */

import { BatchBuilder, type LogBatch } from '../../src/log/batch.ts'
import { type Discipline, exactDiscipline } from '../../src/log/discipline.ts'
import { logIndex } from '../../src/log/entry.ts'
import { type BootImage, instructionCount, type MachineConfig } from '../../src/machine/types.ts'
import type { Message } from '../../src/replication/messages.ts'
import { defaultReplicationPolicy, type ReplicationPolicy } from '../../src/replication/policy.ts'
import { fullReach } from '../../src/replication/reach.ts'

/** About what an epoch without interrupts sends … */
export const entriesOfAnEpoch: Message = { kind: 'entries', batch: batchOfAnEpoch(), commonEnd: logIndex(1_000_000n) }

/** … and gets. Round trips are measured with these. */
export const acknowledgement: Message = {
  kind: 'ack',
  progress: {
    receivedEnd: logIndex(1_000_002n),
    replayedEnd: logIndex(1_000_000n),
    replayedCount: 1_000_000_000n,
    lagMs: 0,
  },
  reach: fullReach,
}

function batchOfAnEpoch(): LogBatch {
  const builder = new BatchBuilder(logIndex(1_000_000n))
  const count = instructionCount(1_000_000_000n)
  builder.append(count, { kind: 'epochEnd', epoch: 1_000_000n })
  const atTheEnd = instructionCount(count + 1000n)
  builder.append(atTheEnd, { kind: 'clock', ticks: 100_000_000n, ratePer2p32: 0n, capTicks: 0n })
  return builder.take()!.batch
}

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
