/** What a replica gives on of a machine whose disk is not shared. (One that shares it has everything without.) */

import type { BootArtefacts } from '../log/boot-artefacts.ts'
import type { Times } from './replica.ts'
import { tinyConfig } from './tiny-machine.ts'

export function ownDiskArtefacts({ policy, digestEveryMs, backupReads }: Times): BootArtefacts {
  const { backups, detector, lag, discipline } = policy
  const config = { ...tinyConfig, disks: tinyConfig.disks.map((disk) => ({ ...disk, isOwn: true })) }
  const { heartbeatMs, timeoutMs } = detector
  return {
    config,
    image: { kind: 'elf', file: new Uint8Array() },
    protection: { backups, heartbeatMs, timeoutMs, digestEveryMs, lagMs: lag.mostMs, backupReads },
    discipline,
  }
}
