/** The process of the LAN: switch, replica ports, gateway. Outlives every replica. */

import { startLan } from '../../lan/lan.ts'
import type { Endpoint } from '../../net/address.ts'
import { runAsProcess, trace } from '../child-process.ts'
import { listenForStatusAndStop } from '../control.ts'
import type { PortForward } from '../vm-config.ts'

export interface LanSettings {
  readonly machine: string
  readonly mac: string
  readonly token: string
  readonly replicaListen: Endpoint
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
    replicaListen: settings.replicaListen,
    machines: [{ name: machine, mac, token }],
    gateway,
    trace,
    onGatewayLost: (error) => {
      trace(error.message)
      process.exit(error.exitCode)
    },
  })
  await listenForStatusAndStop(
    settings.controlPath,
    () => lan.statistics(),
    () => lan.close(),
  )
  return { gatewayPid: lan.gatewayProcessId }
})
