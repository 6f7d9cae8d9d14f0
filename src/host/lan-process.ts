/** The LAN as a process: switch, replica ports, gateway, control socket. Whoever starts it, `up` or its host's operator. */

import { type Lan, startLan } from '../lan/lan.ts'
import type { Endpoint } from '../net/address.ts'
import { listenForStatusAndStop } from './control.ts'
import type { PortForward } from './vm-config.ts'

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

/** Serves until it is closed. When the gateway ends by itself, the process ends. */
export async function serveLan(settings: LanSettings, trace: (line: string) => void): Promise<Lan> {
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
  return lan
}
