/** The process of a replica that `understudy host` was asked to run, from the file that it wrote. It ends with its role. */

import { runAsProcess, trace } from '../child-process.ts'
import { runReplica } from '../host-processes.ts'

export interface HostReplicaSettings {
  /** The replica's file. */
  readonly path: string
}

runAsProcess<HostReplicaSettings, void>(({ path }) => runReplica(path, { isPatient: false, trace }))
