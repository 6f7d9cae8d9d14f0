/** One replica as a process: the replica, its console, its control socket. Whoever starts it, `up` or its host's operator. */

import { setTimeout as sleep } from 'node:timers/promises'
import { ExitCode, type WorldError } from '../base/assert.ts'
import { BackupKeeper, type BackupStarter } from './backup-keeper.ts'
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
  /** The process is about to end: others may be told, for a moment. */
  readonly onEnding?: () => Promise<void>
  /** Who starts backups when the replica lacks some; undefined: nobody. */
  readonly starterOf?: (replica: Replica) => BackupStarter | undefined
}

const farewellMs = 500

/**
 * Makes the replica and opens its sockets; `start` is the caller's. After a halt the process ends with the halt's exit
 * code, after `stop` with 0.
 */
export async function openReplica(settings: ReplicaProcessSettings, events: ReplicaProcessEvents): Promise<Replica> {
  const { trace, onOff } = events
  const end = (exitCode: ExitCode): void => {
    const told = events.onEnding?.() ?? Promise.resolve()
    void Promise.race([told, sleep(farewellMs)]).then(() => process.exit(exitCode))
  }
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
      end(error.exitCode)
    },
    onBackupsMayDiffer: () => keeper?.look(performance.now()),
    trace,
  })
  const { controlPath: path, consolePath, takesPlace } = settings
  const starter = events.starterOf?.(replica)
  const keeper = starter && new BackupKeeper({ replica, starter, trace })
  await listenForReplicaControl({
    path,
    takesPlace: takesPlace ?? false,
    replica,
    ...(keeper ? { keeper } : {}),
    onStopped: () => end(ExitCode.ok),
  })
  await viewers.listen(consolePath, takesPlace)
  return replica
}
