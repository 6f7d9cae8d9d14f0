/** The process of the shared disk: exports, arbiter, and nothing else. Outlives every replica. */

import { startDiskServer } from '../../disk/disk-server.ts'
import type { Endpoint } from '../../net/address.ts'
import { runAsProcess, trace } from '../child-process.ts'
import { listenForStatusAndStop } from '../control.ts'
import { exportName } from '../export-name.ts'

export interface DiskServerSettings {
  readonly machine: string
  readonly token: string
  readonly disks: readonly { readonly path: string; readonly readOnly: boolean }[]
  readonly recordFolder: string
  readonly controlPath: string
  readonly nbd: Endpoint
  readonly arbiter: Endpoint
}

runAsProcess<DiskServerSettings, void>(async (settings) => {
  const { machine, token } = settings
  const server = await startDiskServer({
    exports: settings.disks.map(({ path, readOnly }, index) => ({ name: exportName(index), path, readOnly, machine })),
    nbd: settings.nbd,
    arbiter: settings.arbiter,
    recordFolder: settings.recordFolder,
    tokens: { [machine]: token },
    trace,
  })
  await listenForStatusAndStop(
    settings.controlPath,
    () => ({ bootId: server.bootId }),
    () => server.close(),
  )
})
