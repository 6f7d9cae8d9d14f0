/**
 * A Debian guest that is up: for system tests that want a running guest without the 20 seconds of its boot.
 *
 * Redis listens on 10.0.2.15:6379, nothing is in flight, the hart waits. The guest's time continues from the snapshot;
 * whoever drives the machine gives it a clock entry first.
 */

import type { LogEnd } from '../../src/log/entry.ts'
import type { Machine } from '../../src/machine/types.ts'
import { MemoryDisk } from './memory-disk.ts'
import { recordedBoot } from './recorded-boot.ts'

export interface BootedSnapshot {
  /** A new machine in the snapshot's state. */
  newMachine(): Machine
  /** A new disk with what the guest had written. Close it. */
  newDisk(): MemoryDisk
  /** The snapshot's bytes, for a machine of `newMachine().config` and the same boot image. */
  readonly snapshot: Uint8Array
  /** Index of the log entry that comes next. */
  readonly nextIndex: LogEnd
}

export async function bootedSnapshot(): Promise<BootedSnapshot> {
  const boot = await recordedBoot()
  const { snapshot, start } = boot.windows.ready
  return {
    snapshot,
    nextIndex: start,
    newMachine: () => {
      const machine = boot.newMachine()
      machine.restore(snapshot)
      return machine
    },
    newDisk: () => {
      const disk = new MemoryDisk(boot.rootPath)
      disk.loadWritten(boot.writtenWhenReady)
      return disk
    },
  }
}
