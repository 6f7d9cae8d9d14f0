/**
 * Which outputs the Output Rule (VMware FT) and revised P2 (Bressoud & Schneider) are about: those the outside could see.
 *
 * Some need not wait, because the outside learns nothing from them:
 *  - a disk read: its result enters through a log entry; a backup that goes live reads again. (A read never overtakes a
 *    held write to the same sectors: the machine keeps overlapping requests in order before they become outputs.)
 *  - an entropy request: it is answered by our own host.
 */

import type { Output } from '../machine/types.ts'

/** Whether the outside could see this output. */
export function obeysOutputRule(output: Output): boolean {
  return !(output.kind === 'entropyRequest' || (output.kind === 'disk' && output.operation === 'read'))
}
