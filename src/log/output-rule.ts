/**
 * Which outputs the Output Rule (VMware FT) and revised P2 (Bressoud & Schneider) are about: those the outside could see.
 *
 * Some need not wait, because the outside learns nothing from them:
 *  - a disk read: its result enters through a log entry; a backup that goes live reads again. (A read never overtakes a
 *    held write to the same sectors: the machine keeps overlapping requests in order before they become outputs.)
 *  - anything to a disk of which each replica has its own copy: that is a part of the machine, and the backup makes the same
 *    changes to its copy as it replays (VMware FT: non-shared disks).
 *  - an entropy request: it is answered by our own host.
 */

import type { Output } from '../machine/types.ts'

/**
 * Whether the outside could see this output.
 * @param ownDisks numbers of the disks of which each replica has its own copy; default: none
 */
export function obeysOutputRule(output: Output, ownDisks?: ReadonlySet<number>): boolean {
  if (output.kind !== 'disk') return output.kind !== 'entropyRequest'
  return output.operation !== 'read' && !ownDisks?.has(output.disk)
}
