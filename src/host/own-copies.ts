/**
 * A backup's own copies of its machine's disks, from the moment it looks for a primary until they are as good as the
 * primary's. What decides when that is: whether it follows from the first entry on, before which nothing changes, or gets the
 * state of a machine that runs, after which there is a last round (replica/disks-with-copies.ts).
 */

import { formatBytes } from '../base/units.ts'
import type { DiskConfig } from '../machine/types.ts'
import { CopyStamp } from './copy-stamp.ts'
import { DiskCopy } from './disk-copy.ts'
import { exportName } from './export-name.ts'
import type { ReplicaSettings } from './replica-settings.ts'
import { replicaNames } from './vm-folder.ts'

interface NamedCopy {
  readonly name: string
  readonly copy: DiskCopy
}

export class OwnCopies {
  readonly #copies: readonly NamedCopy[]
  readonly #trace: (line: string) => void

  private constructor(copies: readonly NamedCopy[], trace: (line: string) => void) {
    this.#copies = copies
    this.#trace = trace
  }

  /**
   * Copies, in rounds, until little is left. Nobody starts from these copies meanwhile, nor later, unless this replica goes
   * live.
   * @throws NbdError
   */
  static async begin(
    settings: ReplicaSettings,
    disks: readonly DiskConfig[],
    trace: (line: string) => void,
  ): Promise<OwnCopies> {
    const { machine, replica, token, disk: endpoint, peerDisk = endpoint, folderPath } = settings
    const peer = replicaNames.find((name) => name !== replica)!
    CopyStamp.of(folderPath, replica).write({ state: 'follows' })
    const copies: NamedCopy[] = []
    const begun = new OwnCopies(copies, trace)
    try {
      for (const [index, { isOwn }] of disks.entries()) {
        if (!isOwn) continue
        const from = { endpoint: peerDisk, exportName: exportName(index, peer) }
        const to = { endpoint, exportName: exportName(index, replica) }
        const copy = await DiskCopy.open(from, to, { machine, replica, token, generation: 0 })
        copies.push({ name: to.exportName, copy })
        await copy.begin(({ comparedBytes, changedBytes }) =>
          trace(`${to.exportName}: ${formatBytes(comparedBytes)} compared, ${formatBytes(changedBytes)} copied`),
        )
      }
      return begun
    } catch (error) {
      void begun.close()
      throw error
    }
  }

  /** The last round: after the state of the running machine was taken. @throws NbdError */
  async finish(): Promise<void> {
    for (const { name, copy } of this.#copies) {
      const { comparedBytes, changedBytes } = await copy.round()
      this.#trace(`${name}: last round: ${formatBytes(comparedBytes)} compared, ${formatBytes(changedBytes)} copied`)
    }
    await this.close()
  }

  async close(): Promise<void> {
    await Promise.all(this.#copies.map(({ copy }) => copy.close()))
  }
}
