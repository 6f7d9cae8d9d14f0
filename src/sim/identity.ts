/** What every replica of a simulation agrees on. */

import type { MachineIdentity } from '../log/identity.ts'
import { machineName } from './names.ts'

export const identity: MachineIdentity = {
  machine: machineName,
  instructionTableHash: 1n,
  configDigest: 2n,
  imageDigest: 3n,
}
