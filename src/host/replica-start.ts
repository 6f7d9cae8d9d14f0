/**
 * How a replica comes to its role: what it looks up, connects to and waits for before `Primary` or `Backup` begins. A
 * primary takes the machine's next generation; a backup learns what machine it is, if no file of its own says so, and
 * finds its primary.
 *
 * Nothing here listens or is decided: the role that comes out is given its facts by `Replica`.
 */

import type { BootArtefacts } from '../log/boot-artefacts.ts'
import type { BootImage } from '../machine/types.ts'
import { type Endpoint, formatAddress } from '../net/address.ts'
import { Backup } from '../replication/backup.ts'
import { Primary } from '../replication/primary.ts'
import type { ArbiterBackend } from './arbiter-backend.ts'
import { machineConfig, readBootImage } from './boot-files.ts'
import { CopyStamp } from './copy-stamp.ts'
import { diskSizes } from './disk-backend.ts'
import type { Equipment } from './equipment.ts'
import { exportsOf } from './export-name.ts'
import { fetchMachine } from './fetch-machine.ts'
import { OwnCopies } from './own-copies.ts'
import { untilThere } from './patience.ts'
import type { PrimaryChannel } from './primary-channel.ts'
import type { ReplicaSettings } from './replica-settings.ts'
import { disciplineOf, readVmConfig, type VmConfig } from './vm-config.ts'

/** The machine as this host's files have it. */
export interface OwnVm {
  readonly config: VmConfig
  readonly image: BootImage
}

/** @throws WorldError when the VM's file or what it boots from is not in order */
export function readOwnVm(vmPath: string): OwnVm {
  const { config } = readVmConfig(vmPath)
  return { config, image: readBootImage(config) }
}

export interface ReplicaStartOptions {
  readonly settings: ReplicaSettings
  /** Undefined: a backup that gets the machine from its primary. */
  readonly vm: OwnVm | undefined
  readonly arbiter: ArbiterBackend
  /** Gives the host a hart, disks and a network, as soon as the machine is known. */
  readonly equip: (artefacts: BootArtefacts) => Equipment
  readonly trace: (line: string) => void
  /** Ends what it still waits for. */
  readonly signal: AbortSignal
}

export interface StartedBackup {
  readonly backup: Backup
  /** Its own copies of disks, nearly as good as the primary's. */
  readonly copies: OwnCopies | undefined
}

export class ReplicaStart {
  readonly #options: ReplicaStartOptions

  constructor(options: ReplicaStartOptions) {
    this.#options = options
  }

  /**
   * Takes the machine's next generation, with switch and disks in it.
   * @param vm the machine
   * @param runId names this run of the machine
   * @throws WorldError `held-elsewhere`
   */
  async primary(vm: OwnVm, runId: bigint): Promise<Primary> {
    const { settings, arbiter, equip } = this.#options
    const { policy, identity, artefacts, network, disk, hasOwnDisks } = equip(await this.#ownArtefacts(vm))
    await this.#untilThere(async () => network?.connect())
    const copies = hasOwnDisks ? CopyStamp.of(settings.folderPath, settings.replica) : undefined
    const generation = await this.#untilThere(() =>
      arbiter.takeGeneration(settings.holderHasEnded ?? false, (record) =>
        copies?.requireNewest(record, settings.replica),
      ),
    )
    copies?.write({ state: 'live', generation })
    await network?.bind({ generation: BigInt(generation), coveredFrameId: 0n, receivedFrameId: 0n, logId: runId })
    await disk.connect(BigInt(generation))
    const { role, listen } = settings
    return new Primary({
      identity,
      artefacts,
      replica: settings.replica,
      generation,
      runId,
      state: role === 'alone' || artefacts.protection.backups === 0 ? 'alone' : 'starting',
      address: addressOf(listen),
      policy,
    })
  }

  /**
   * Finds the primary. The channel is open then, or has just closed.
   * @returns undefined: it was ended while it waited
   */
  async backup(channel: PrimaryChannel): Promise<StartedBackup | undefined> {
    const { settings, vm, arbiter, equip, trace, signal } = this.#options
    const { machine, replica } = settings
    await this.#untilThere(() => arbiter.connect())
    const connect = (): Promise<void> => this.#untilThere(() => channel.connect())
    const own = vm && (await this.#ownArtefacts(vm))
    const artefacts = own ?? (await fetchMachine({ machine, channel, connect, trace }))
    const { identity, policy, network, hasOwnDisks } = equip(artefacts)
    let copies: OwnCopies | undefined
    if (hasOwnDisks) {
      // Who listens has taken its disks, and drained what an earlier run of it had left on the way.
      if (!channel.isOpen) await connect()
      copies = await this.#untilThere(() => OwnCopies.begin(settings, artefacts.config.disks, trace))
    }
    await this.#untilThere(async () => network?.connect())
    if (!channel.isOpen) await connect()
    if (signal.aborted) return undefined
    const address = addressOf(settings.listen)
    return { backup: new Backup({ identity, replica, artefacts, address, policy }, performance.now()), copies }
  }

  /** What the VM's file says, with the disks that the disk server has. */
  async #ownArtefacts({ config, image }: OwnVm): Promise<BootArtefacts> {
    const { disk, replica } = this.#options.settings
    const exports = exportsOf(config.disks, replica)
    const sizes = await this.#untilThere(() => diskSizes(disk, exports))
    const { backups, heartbeat, timeout, digestEvery, lag, backupReads } = config.protection
    const times = { heartbeatMs: heartbeat, timeoutMs: timeout, digestEveryMs: digestEvery, lagMs: lag }
    return {
      config: machineConfig(config, sizes),
      image,
      protection: { backups, ...times, backupReads },
      discipline: disciplineOf(config),
    }
  }

  #untilThere<Result>(attempt: () => Promise<Result>): Promise<Result> {
    const { settings, trace, signal } = this.#options
    return untilThere(attempt, settings.isPatient ? { trace, signal } : undefined)
  }
}

/** What other replicas are told. */
function addressOf(listen: Endpoint | undefined): string {
  return listen ? formatAddress(listen.address) : ''
}
