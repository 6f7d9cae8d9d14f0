/** One replica as a process: the replica, its console, its control socket. Whoever starts it, `up` or its host's operator. */

import { ExitCode, type WorldError } from '../base/assert.ts'
import { ConsolePort } from './console-port.ts'
import { Replica } from './replica.ts'
import { listenForReplicaControl } from './replica-control.ts'
import type { ReplicaSettings } from './replica-settings.ts'

export interface ReplicaProcessSettings extends ReplicaSettings {
  readonly controlPath: string
  readonly consolePath: string
  /** It takes the place of an earlier process of this name, which may be frozen: its sockets are ours now. */
  readonly takesPlace?: boolean
}

export interface ReplicaProcessEvents {
  readonly trace: (line: string) => void
  /** The guest is off: the replica has ended, and its process is to end. */
  readonly onOff: (exitCode: ExitCode) => void
  readonly onBackupsMayDiffer?: () => void
}

/**
 * Makes the replica and opens its sockets; `start` is the caller's. After a halt the process ends with the halt's exit
 * code, after `stop` with 0.
 */
export async function openReplica(settings: ReplicaProcessSettings, events: ReplicaProcessEvents): Promise<Replica> {
  const { trace, onOff, onBackupsMayDiffer } = events
  const viewers = new ConsolePort({ onKeys: (bytes) => replica.sendConsoleInput(bytes) })
  const replica: Replica = new Replica(settings, {
    onConsole: (output) => viewers.onReleased(output),
    onConsoleRegenerated: (output) => viewers.onRegenerated(output),
    onLive: (generation) => viewers.onLive(generation),
    onOff: (failed) => {
      viewers.onOff(failed)
      trace('the guest is off')
      onOff(failed ? ExitCode.guestPanicked : ExitCode.ok)
    },
    onHalt: (error: WorldError) => {
      trace(`halted: ${error.message}`)
      process.exit(error.exitCode)
    },
    ...(onBackupsMayDiffer ? { onBackupsMayDiffer } : {}),
    trace,
  })
  const { controlPath: path, consolePath, takesPlace } = settings
  await listenForReplicaControl({
    path,
    takesPlace: takesPlace ?? false,
    replica,
    onStopped: () => process.exit(ExitCode.ok),
  })
  await viewers.listen(consolePath, takesPlace)
  return replica
}
