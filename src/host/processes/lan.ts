/** The process of the LAN: switch, replica ports, gateway. Outlives every replica. */

import { runAsProcess, trace } from '../child-process.ts'
import { type LanSettings, serveLan } from '../lan-process.ts'

export interface LanReady {
  readonly gatewayPid: number | undefined
}

runAsProcess<LanSettings, LanReady>(async (settings) => {
  const lan = await serveLan(settings, trace)
  return { gatewayPid: lan.gatewayProcessId }
})
