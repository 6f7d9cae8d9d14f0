/**
 * Which of a machine's own copies of its disks is the good one, when the machine is started. A stamp beside each replica's
 * copies says what became of them:
 *
 *   live, generation g   this replica went live in g: until another one does, its copies are the machine's disks
 *   follows              they are being copied, or follow a primary's: nobody starts from them
 *
 * A machine is started from copies that were live in the hold that the arbiter's record names last. Copies without a stamp
 * are new: their operator has put them there.
 *
 * Where the stamp stands, durably, is the host's.
 */

import type { ArbiterRecordFields } from '../disk/arbiter-record.ts'

export type CopyState = { readonly state: 'live'; readonly generation: number } | { readonly state: 'follows' }

/**
 * `newest`: a machine may be started from them. `outdated`: others were live later. `incomplete`: this replica took the machine
 * over, and was lost before its copies were known to have all that it had followed: nobody's are known to be the newest.
 */
export type CopyStanding = 'newest' | 'outdated' | 'incomplete'

/** What `replica`'s copies are, by their stamp (undefined: they are new) and the arbiter's record. */
export function copyStanding(
  stamp: CopyState | undefined,
  { heldSince, holder }: Pick<ArbiterRecordFields, 'heldSince' | 'holder'>,
  replica: string,
): CopyStanding {
  if (isNewest(stamp, heldSince)) return 'newest'
  return stamp?.state === 'follows' && holder === replica ? 'incomplete' : 'outdated'
}

/** @param heldSince first generation of the last hold of the machine */
export function isNewest(stamp: CopyState | undefined, heldSince: number): boolean {
  return stamp === undefined || (stamp.state === 'live' && stamp.generation >= heldSince)
}
