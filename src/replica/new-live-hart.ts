/** A hart that writes the log, by the discipline of its machine. */

import { EpochPrimary } from '../hypervisor/epoch/epoch-primary.ts'
import type { Recorder } from '../hypervisor/recorder.ts'
import { EpochHart } from './epoch-hart.ts'
import { ExactHart } from './exact-hart.ts'
import type { HartWorld } from './hart-world.ts'
import type { LiveHart } from './live-hart.ts'

export function newLiveHart(recorder: Recorder, world: HartWorld): LiveHart {
  const { discipline } = world
  if (discipline.kind === 'exact') return new ExactHart(recorder, world)
  return new EpochHart(new EpochPrimary(recorder, discipline), world)
}
