/** What a running replica answers on its control socket, in whichever process it lives. */

import type { Server } from 'node:net'
import type { BackupKeeper } from './backup-keeper.ts'
import { listenForControl } from './control.ts'
import type { Replica } from './replica.ts'
import type { ReplicaFault } from './replica-settings.ts'

export interface ReplicaControlOptions {
  readonly path: string
  /** Whoever listens there has lost the place. */
  readonly takesPlace?: boolean
  readonly replica: Replica
  /** Who sees to it that the machine has a backup. */
  readonly keeper?: BackupKeeper
  /** The replica has ended in good order because `stop` was asked for. */
  readonly onStopped: () => void
}

export function listenForReplicaControl({
  path,
  takesPlace,
  replica,
  keeper,
  onStopped,
}: ReplicaControlOptions): Promise<Server> {
  const answer = async (command: string, body: unknown): Promise<unknown> => {
    switch (command) {
      case 'status':
        return { ...replica.status(), keeper: keeper?.status }
      case 'outputDelays':
        return replica.outputDelayCounts
      case 'consoleInput':
        replica.sendConsoleInput(new TextEncoder().encode((body as { text: string }).text))
        return {}
      case 'powerButton':
        return { isHeard: replica.pressPowerButton() }
      case 'handOver':
        return { isBegun: replica.handOver() }
      case 'unprotect':
        return { isBegun: replica.unprotect() }
      case 'wantBackup': {
        const { isWanted } = body as { isWanted: boolean }
        await keeper?.want(isWanted)
        return { isKept: keeper !== undefined }
      }
      case 'stop':
        await replica.stop()
        setImmediate(onStopped)
        return {}
      case 'fault':
        if (process.env.UNDERSTUDY_FAULTS !== '1') throw new Error('faults are for fault trials only')
        replica.injectFault(body as ReplicaFault)
        return {}
      default:
        throw new Error(`unknown command ${command}`)
    }
  }
  return listenForControl(path, answer, takesPlace)
}
