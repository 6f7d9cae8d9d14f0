/** The process of the LAN: switch, replica ports, gateway. Outlives every replica. */

import { startLan } from '../../lan/lan.ts'
import { runAsProcess, trace } from '../child-process.ts'
import { listenForControl } from '../control.ts'
import type { PortForward } from '../vm-config.ts'

export interface LanSettings {
  readonly machine: string
  readonly mac: string
  readonly token: string
  readonly replicaSocketPath: string
  readonly controlPath: string
  readonly gateway: {
    readonly passtPath: string
    readonly guestAddress: string
    readonly gatewayAddress: string
    readonly forwards: readonly PortForward[]
  }
}

export interface LanReady {
  readonly gatewayPid: number | undefined
}

runAsProcess<LanSettings, LanReady>(async (settings) => {
  const { machine, mac, token, gateway } = settings
  const lan = await startLan({
    replicaListen: { path: settings.replicaSocketPath },
    machines: [{ name: machine, mac, token }],
    gateway,
    trace,
    onGatewayLost: (error) => {
      trace(error.message)
      process.exit(error.exitCode)
    },
  })
  const control = await listenForControl(settings.controlPath, (command) => {
    if (command === 'status') return { pid: process.pid, ...lan.statistics() }
    if (command === 'stop') {
      control.close()
      setImmediate(() => void lan.close().then(() => process.exit(0)))
      return {}
    }
    throw new Error(`unknown command ${command}`)
  })
  return { gatewayPid: lan.gatewayProcessId }
})
