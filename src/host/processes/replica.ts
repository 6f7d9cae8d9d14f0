/** The process of one replica. It ends with its role: after a halt with the halt's exit code, after `stop` with 0. */

import { runAsProcess, trace } from '../child-process.ts'
import { ConsolePort } from '../console-port.ts'
import { endSurroundings } from '../local-pair.ts'
import { Replica } from '../replica.ts'
import { listenForReplicaControl } from '../replica-control.ts'
import type { ReplicaSettings } from '../replica-settings.ts'
import { VmFolder } from '../vm-folder.ts'

export interface ReplicaProcessSettings extends ReplicaSettings {
  readonly controlPath: string
  readonly consolePath: string
}

runAsProcess<ReplicaProcessSettings, void>(async (settings) => {
  const viewers = new ConsolePort({ onKeys: (bytes) => replica.sendConsoleInput(bytes) })
  const replica: Replica = new Replica(settings, {
    onConsole: (output) => viewers.onReleased(output),
    onConsoleRegenerated: (output) => viewers.onRegenerated(output),
    onLive: (generation) => viewers.onLive(generation),
    onOff: (failed) => {
      viewers.onOff(failed)
      trace('the guest is off')
      void endSurroundings(VmFolder.at(settings.folderPath)).then(() => process.exit(failed ? 9 : 0))
    },
    onHalt: (error) => {
      trace(`halted: ${error.message}`)
      process.exit(error.exitCode)
    },
    trace,
  })
  await listenForReplicaControl(settings.controlPath, replica, () => process.exit(0))
  await viewers.listen(settings.consolePath)
  await replica.start()
})
