/** The shared disk as a process: exports, arbiter, control socket. Whoever starts it, `up` or an operator of its host. */

import { startDiskServer } from '../disk/disk-server.ts'
import type { Endpoint } from '../net/address.ts'
import { listenForStatusAndStop } from './control.ts'
import { exportName } from './export-name.ts'

export interface DiskServerSettings {
  readonly machine: string
  readonly token: string
  readonly disks: readonly { readonly path: string; readonly readOnly: boolean }[]
  readonly recordFolder: string
  readonly controlPath: string
  readonly nbd: Endpoint
  readonly arbiter: Endpoint
}

/** @returns what ends it in good order */
export async function serveDisks(
  settings: DiskServerSettings,
  trace: (line: string) => void,
): Promise<() => Promise<void>> {
  const { machine, token } = settings
  const server = await startDiskServer({
    exports: settings.disks.map(({ path, readOnly }, index) => ({ name: exportName(index), path, readOnly, machine })),
    nbd: settings.nbd,
    arbiter: settings.arbiter,
    recordFolder: settings.recordFolder,
    tokens: { [machine]: token },
    trace,
  })
  const close = (): Promise<void> => server.close()
  await listenForStatusAndStop(settings.controlPath, () => ({ bootId: server.bootId }), close)
  return close
}
