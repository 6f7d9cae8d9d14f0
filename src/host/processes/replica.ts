/** The process of one replica. It ends with its role: after a halt with the halt's exit code, after `stop` with 0. */

import { runAsProcess } from '../child-process.ts'
import { listenForControl } from '../control.ts'
import { Replica, type ReplicaSettings } from '../replica.ts'

export interface ReplicaReady {
  readonly channelPort?: number
}

export type { ReplicaSettings }

runAsProcess<ReplicaSettings & { readonly controlPath: string }, ReplicaReady>(async (settings) => {
  const trace = (line: string): void => console.error(`${new Date().toISOString()} ${line}`)
  const replica = new Replica(settings, {
    onConsole: () => {},
    onOff: (failed) => {
      trace('the guest is off')
      process.exit(failed ? 9 : 0)
    },
    onHalt: (error) => {
      trace(`halted: ${error.message}`)
      process.exit(error.exitCode)
    },
    trace,
  })
  await listenForControl(settings.controlPath, async (command, body) => {
    switch (command) {
      case 'status':
        return replica.status()
      case 'consoleInput':
        replica.sendConsoleInput(new TextEncoder().encode((body as { text: string }).text))
        return {}
      case 'stop':
        await replica.stop()
        setImmediate(() => process.exit(0))
        return {}
      default:
        throw new Error(`unknown command ${command}`)
    }
  })
  return await replica.start()
})
