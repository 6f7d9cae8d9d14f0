/** The process of a VM's monitoring: metrics and readiness over HTTP. Outlives every replica, so that a failover is seen. */

import { runAsProcess } from '../child-process.ts'
import { listenForStatusAndStop } from '../control.ts'
import { startMonitor } from '../monitor.ts'
import { VmFolder } from '../vm-folder.ts'

export interface MonitorSettings {
  readonly folderPath: string
  /** `[metrics] listen` of the VM's file. */
  readonly listen: string
}

export interface MonitorReady {
  readonly address: string
}

runAsProcess<MonitorSettings, MonitorReady>(async ({ folderPath, listen }) => {
  const folder = VmFolder.at(folderPath)
  const monitor = await startMonitor(folder, listen)
  await listenForStatusAndStop(
    folder.controlPath('monitor'),
    () => ({ address: monitor.address }),
    () => monitor.close(),
  )
  return { address: monitor.address }
})
