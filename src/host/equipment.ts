/**
 * What a replica's host gives its machine: a hart that runs it, its disks, its network. Made as soon as the replica knows
 * what machine it is: from its VM's file, or from its primary.
 */

import { ExitCode, WorldError } from '../base/assert.ts'
import { formatMac, macAt } from '../lan/frame.ts'
import type { BootArtefacts } from '../log/boot-artefacts.ts'
import { digestBootImage, digestConfig, type MachineIdentity } from '../log/identity.ts'
import type { DiskAnswer } from '../replica/disk-requests.ts'
import { defaultReplicationPolicy, type ReplicationPolicy } from '../replication/policy.ts'
import { DiskBackend } from './disk-backend.ts'
import { engineSettingOf } from './engine-setting.ts'
import { exportsOf } from './export-name.ts'
import { Hart } from './hart.ts'
import type { FromHartThread } from './hart-messages.ts'
import { instructionTableHash } from './instruction-table-hash.ts'
import { createNetworkBackend, type NetworkBackend } from './network-backend.ts'
import type { ReplicaSettings } from './replica-settings.ts'

export interface Equipment {
  readonly artefacts: BootArtefacts
  readonly identity: MachineIdentity
  readonly policy: ReplicationPolicy
  readonly hart: Hart
  readonly disk: DiskBackend
  /** Of some disk each replica has its own copy. */
  readonly hasOwnDisks: boolean
  /** Undefined: the machine has no network card, or this host no network for it. */
  readonly network: NetworkBackend | undefined
}

export interface EquipmentEvents {
  readonly onHart: (message: FromHartThread) => void
  readonly onDiskAnswer: (answer: DiskAnswer) => void
  /** A backup has read what its primary read. */
  readonly onDiskRead: (sequence: bigint, data: Uint8Array) => void
  /** @returns whether the machine takes it */
  readonly onFrame: (frameId: bigint, bytes: Uint8Array) => boolean
  /** Whether another replica could go on with the machine. */
  readonly isProtected: () => boolean
  /** The network has, or will never have, every frame up to this output. */
  readonly onFrameConfirmed: (sequence: bigint) => void
  /** Disk server or switch know a later generation. */
  readonly onFenced: () => void
  readonly onHalt: (error: WorldError) => void
  readonly trace: (line: string) => void
}

export function equip(settings: ReplicaSettings, artefacts: BootArtefacts, events: EquipmentEvents): Equipment {
  const { machine, replica, token } = settings
  const { config, image, protection, discipline } = artefacts
  const { onFenced, trace } = events
  const ownDisks = new Set(config.disks.flatMap(({ isOwn }, disk) => (isOwn ? [disk] : [])))
  const disk = new DiskBackend({
    endpoint: settings.disk,
    exports: exportsOf(config.disks, replica),
    machine,
    replica,
    token,
    onAnswer: events.onDiskAnswer,
    onRead: events.onDiskRead,
    readsAhead: protection.backupReads,
    onFenced,
    own: {
      disks: ownDisks,
      hasOther: events.isProtected,
      onFailed: (error) => events.onHalt(ownDiskFailed(error)),
    },
    trace,
  })
  const network =
    config.nic &&
    createNetworkBackend(settings, formatMac(macAt(config.nic.mac, 0)), {
      onFrame: events.onFrame,
      onConfirmed: events.onFrameConfirmed,
      onFenced,
      trace,
    })
  const engine = engineSettingOf(replica)
  if (engine === 'interpret') trace('the engine interprets, and translates nothing')
  const hart = new Hart({
    config,
    image,
    mode: settings.role === 'backup' ? 'replaying' : 'live',
    digestEveryMs: protection.digestEveryMs,
    discipline,
    leavesOutReads: protection.backupReads,
    isProfiled: settings.isProfiled ?? false,
    engine,
    onMessage: events.onHart,
    onFailed: (error) =>
      events.onHalt(
        new WorldError('hart-failed', `the hart stopped: ${error.stack ?? error.message}`, ExitCode.failure),
      ),
  })
  const { heartbeatMs, timeoutMs, backups, lagMs } = protection
  const policy = {
    ...defaultReplicationPolicy,
    // A machine that began without one can be given one.
    backups: Math.max(1, backups),
    lag: { ...defaultReplicationPolicy.lag, mostMs: lagMs },
    detector: { ...defaultReplicationPolicy.detector, heartbeatMs, timeoutMs },
    discipline,
  }
  const identity = {
    machine,
    instructionTableHash: instructionTableHash(),
    configDigest: digestConfig(config),
    imageDigest: digestBootImage(image),
  }
  return { artefacts, identity, policy, hart, disk, hasOwnDisks: ownDisks.size > 0, network }
}

/** A side whose copy of a disk fails is removed: the other one goes on, and its guest sees no error. */
function ownDiskFailed(error: Error): WorldError {
  return new WorldError(
    'own-disk-failed',
    `this replica's own copy of a disk failed, and it leaves the machine to the other one: ${error.message}`,
    ExitCode.diskOrArbiterUnreachable,
  )
}
