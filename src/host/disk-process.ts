/** The shared disk as a process: exports, arbiter, control socket. Whoever starts it, `up` or an operator of its host. */

import { assert } from '../base/assert.ts'
import { type DiskExport, startDiskServer } from '../disk/disk-server.ts'
import type { Endpoint } from '../net/address.ts'
import { listenForStatusAndStop } from './control.ts'
import { exportName } from './export-name.ts'
import type { VmDisk } from './vm-config.ts'
import { type ReplicaName, replicaNames } from './vm-folder.ts'

export interface DiskServerSettings {
  readonly machine: string
  readonly token: string
  readonly disks: readonly VmDisk[]
  /** Whose own copies are served, of disks that are not shared, and which image of a disk they are. */
  readonly copies: Readonly<Partial<Record<ReplicaName, 'path' | 'copyPath'>>>
  readonly recordFolder: string
  readonly controlPath: string
  readonly nbd: Endpoint
  readonly arbiter: Endpoint
  /** Another arbiter decides: this disk server only fences. */
  readonly isDecidedElsewhere: boolean
}

/** @returns what ends it in good order */
export async function serveDisks(
  settings: DiskServerSettings,
  trace: (line: string) => void,
): Promise<() => Promise<void>> {
  const { machine, token } = settings
  const server = await startDiskServer({
    exports: settings.disks.flatMap((disk, index) => exportsOfDisk(disk, index, settings)),
    nbd: settings.nbd,
    arbiter: settings.arbiter,
    isDecidedElsewhere: settings.isDecidedElsewhere,
    recordFolder: settings.recordFolder,
    tokens: { [machine]: token },
    trace,
  })
  const close = (): Promise<void> => server.close()
  await listenForStatusAndStop(settings.controlPath, () => ({ bootId: server.bootId }), close)
  return close
}

/** One for all replicas, or one for each whose copy is here. */
function exportsOfDisk(disk: VmDisk, index: number, { machine, copies }: DiskServerSettings): DiskExport[] {
  const { readOnly } = disk
  if (!disk.isOwn) return [{ ...disk, name: exportName(index), machine }]
  assert('path' in disk, 'a disk that is not shared has a path')
  const { path, copyPath } = disk
  return replicaNames.flatMap((owner) => {
    const image = copies[owner] === 'copyPath' ? copyPath : copies[owner] && path
    return image === undefined ? [] : [{ path: image, readOnly, name: exportName(index, owner), machine, owner }]
  })
}
