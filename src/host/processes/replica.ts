/** The process of one replica of a local pair. It ends with its role. */

import { runAsProcess, trace } from '../child-process.ts'
import { endSurroundings } from '../local-pair.ts'
import { openReplica, type ReplicaProcessSettings } from '../replica-process.ts'
import { SiblingStarter } from '../sibling-starter.ts'
import { VmFolder } from '../vm-folder.ts'

runAsProcess<ReplicaProcessSettings, void>(async (settings) => {
  const folder = VmFolder.at(settings.folderPath)
  const replica = await openReplica(settings, {
    trace,
    starterOf: (replica) => new SiblingStarter({ replica, settings, folder, trace }),
    // Nobody else ends what stands around the last replica.
    onOff: (exitCode) => void endSurroundings(folder).then(() => process.exit(exitCode)),
  })
  await replica.start()
})
