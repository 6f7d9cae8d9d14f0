/**
 * Where a log has come to in its epochs, by its entries alone: what a backup must know to end the failover epoch in its
 * primary's place (Bressoud & Schneider, P6).
 *
 *   ─[end, E−1]──── outputs' markers, environment values ────[E, Int]…─[Tme]─[end, E]─
 *              └ startCount                                 └ the end of E has come
 *
 * A log of the exact discipline has no epochs: it looks like one long epoch 0 that nobody needs to end.
 */

import type { ByteReader, ByteWriter } from '../../base/bytes.ts'
import type { EntryBody } from '../../log/entry.ts'
import { type InstructionCount, instructionCount } from '../../machine/types.ts'

export class EpochPosition {
  #epoch = 0n
  #startCount = instructionCount(0n)
  #isAtItsEnd = false
  #hasTme = false

  /** E: the epoch that is under way. */
  get epoch(): bigint {
    return this.#epoch
  }

  /** The count at which it began. */
  get startCount(): InstructionCount {
    return this.#startCount
  }

  /** Something that is let in only at an epoch's end was let in: E runs no further instruction. */
  get isAtItsEnd(): boolean {
    return this.#isAtItsEnd
  }

  /** The [Tme] of E has come. */
  get hasTme(): boolean {
    return this.#hasTme
  }

  onEntry(count: InstructionCount, body: EntryBody): void {
    switch (body.kind) {
      case 'epochEnd':
        this.#epoch = body.epoch + 1n
        this.#startCount = count
        this.#isAtItsEnd = false
        this.#hasTme = false
        return
      case 'clock':
        this.#isAtItsEnd = true
        this.#hasTme = true
        return
      case 'frame':
      case 'diskCompletion':
      case 'diskRead':
      case 'consoleInput':
      case 'powerButton':
        this.#isAtItsEnd = true
        return
      case 'boot':
      case 'entropy':
      case 'marker':
      case 'digest':
    }
  }

  save(writer: ByteWriter): void {
    writer.u64(this.#epoch).u64(this.#startCount).bool(this.#isAtItsEnd).bool(this.#hasTme)
  }

  load(reader: ByteReader): void {
    this.#epoch = reader.u64()
    this.#startCount = instructionCount(reader.u64())
    this.#isAtItsEnd = reader.bool()
    this.#hasTme = reader.bool()
  }
}
