/** The shared disk as a process: exports, arbiter, control socket. Whoever starts it, `up` or an operator of its host. */

import { startDiskServer } from '../disk/disk-server.ts'
import type { Endpoint } from '../net/address.ts'
import { listenForStatusAndStop } from './control.ts'
import { exportName } from './export-name.ts'
import type { VmDisk } from './vm-config.ts'

export interface DiskServerSettings {
  readonly machine: string
  readonly token: string
  readonly disks: readonly VmDisk[]
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
    exports: settings.disks.map((disk, index) => ({ ...disk, name: exportName(index), machine })),
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
