/** The process of one replica of a local pair. It ends with its role. */

import { BackupKeeper } from '../backup-keeper.ts'
import { runAsProcess, trace } from '../child-process.ts'
import { endSurroundings } from '../local-pair.ts'
import { openReplica, type ReplicaProcessSettings } from '../replica-process.ts'
import { VmFolder } from '../vm-folder.ts'

runAsProcess<ReplicaProcessSettings, void>(async (settings) => {
  const replica = await openReplica(settings, {
    trace,
    onBackupsMayDiffer: () => keeper.look(performance.now()),
    // Nobody else ends what stands around the last replica.
    onOff: (exitCode) => void endSurroundings(VmFolder.at(settings.folderPath)).then(() => process.exit(exitCode)),
  })
  const keeper = new BackupKeeper({ replica, settings, folder: VmFolder.at(settings.folderPath), trace })
  await replica.start()
})
