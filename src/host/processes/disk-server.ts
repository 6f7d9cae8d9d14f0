/** The process of the shared disk: exports, arbiter, and nothing else. Outlives every replica. */

import { startDiskServer } from '../../disk/disk-server.ts'
import { runAsProcess, trace } from '../child-process.ts'
import { listenForStatusAndStop } from '../control.ts'
import { exportName } from '../export-name.ts'
import type { DiskPorts } from '../vm-folder.ts'

export interface DiskServerSettings {
  readonly machine: string
  readonly token: string
  readonly disks: readonly { readonly path: string; readonly readOnly: boolean }[]
  readonly recordFolder: string
  readonly controlPath: string
  /** Where an earlier one listened, whose clients look for this one there. Default: any free ports. */
  readonly ports?: DiskPorts
}

export type DiskServerReady = DiskPorts

runAsProcess<DiskServerSettings, DiskServerReady>(async (settings) => {
  const { machine, token } = settings
  const server = await startDiskServer({
    exports: settings.disks.map(({ path, readOnly }, index) => ({ name: exportName(index), path, readOnly, machine })),
    nbd: { host: '127.0.0.1', port: settings.ports?.nbdPort ?? 0 },
    arbiter: { host: '127.0.0.1', port: settings.ports?.arbiterPort ?? 0 },
    recordFolder: settings.recordFolder,
    tokens: { [machine]: token },
    trace,
  })
  await listenForStatusAndStop(
    settings.controlPath,
    () => ({ bootId: server.bootId }),
    () => server.close(),
  )
  const { nbd, arbiter } = server.addresses
  if (!('port' in nbd) || !('port' in arbiter)) throw new Error('the disk server listens on TCP here')
  return { nbdPort: nbd.port, arbiterPort: arbiter.port }
})
