/**
 * Which disk reads of the log every replica does for itself, and which changes of a disk must not overtake them (VMware FT,
 * "Disk reads on the backup"). Kept by whoever writes the log and by whoever replays it, so that a replica that goes live
 * knows what its predecessor knew.
 *
 *   marker of R ──► R is open ──► diskRead entry ──► R is done here; another replica may still have to read its sectors
 *                                                     └─► a write to them names the end of that entry (`afterReadsEnd`)
 *
 * The device keeps overlapping requests in order, so a change that touches R's sectors goes out only after R's answer, and all
 * that is left to order is the reads of other replicas. Who has replayed what is not known here: the primary's main thread
 * compares (replication/read-barrier.ts).
 *
 * The newest done reads are kept one by one. Of older ones only the latest end is kept, and every change waits for that: it is
 * long past, unless a backup is very far behind.
 */

import { sectorBytes } from '../base/units.ts'
import { type DiskRequest, type LogEnd, logIndex } from '../log/entry.ts'
import type { Output } from '../machine/types.ts'

interface DoneRead {
  readonly request: DiskRequest
  /** Of its entry. */
  readonly end: LogEnd
}

const mostDone = 1024

export class ReadLedger {
  /** Reads that the log has no answer to, by their number. */
  readonly #open = new Map<bigint, DiskRequest>()
  /** Oldest first. */
  #done: DoneRead[] = []
  /** Past every read that was forgotten. 0: none was. */
  #forgottenEnd = logIndex(0n)

  /** The read of this number is made and has no answer yet. */
  isOpen(sequence: bigint): boolean {
    return this.#open.has(sequence)
  }

  /** Past the last read whose data is not in the log; 0: there was none. */
  get lastEnd(): LogEnd {
    return this.#done.at(-1)?.end ?? this.#forgottenEnd
  }

  /** For a machine that was copied. @param lastEnd that of the original */
  beginAfter(lastEnd: LogEnd): void {
    this.#forgottenEnd = lastEnd
  }

  onOutput(output: Output): void {
    if (output.kind === 'disk' && output.operation === 'read') this.#open.set(output.sequence, output)
  }

  /** @param end of the entry, if it left the data out */
  onAnswer(sequence: bigint, end?: LogEnd): void {
    const request = this.#open.get(sequence)
    if (!request) return
    this.#open.delete(sequence)
    if (end === undefined) return
    this.#done.push({ request, end })
    if (this.#done.length <= mostDone) return
    const older = this.#done.splice(0, mostDone / 2)
    this.#forgottenEnd = older.at(-1)!.end
  }

  /** `MarkedOutput.afterReadsEnd` of an output that is made now, or is made again. */
  endBefore(output: Output): LogEnd | undefined {
    if (output.kind !== 'disk' || output.operation === 'read' || output.operation === 'flush') return undefined
    const latest = this.#done.findLast(({ request }) => touch(request, output))
    if (latest) return latest.end
    return this.#forgottenEnd === 0n ? undefined : this.#forgottenEnd
  }
}

function touch(one: DiskRequest, other: DiskRequest): boolean {
  return one.disk === other.disk && one.sector < endOf(other) && other.sector < endOf(one)
}

/** A part of a sector counts as the whole. */
function endOf({ sector, lengthBytes }: DiskRequest): bigint {
  return sector + BigInt(Math.ceil(lengthBytes / sectorBytes))
}
