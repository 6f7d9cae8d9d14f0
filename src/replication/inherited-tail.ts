/**
 * What a backup that went live has for its siblings, the other backups of its predecessor: the end of the predecessor's log,
 * and its own from there on, kept until each of them has come, or does not come.
 *
 *   predecessor's log (its hold)          ours
 *   ├────────────────┬───────────────────┼───────────────────►
 *              a sibling's end         logEnd
 *
 * A sibling whose end lies at or before `logEnd` gets what it lacks, and follows. One that has run past it has executed
 * what this machine never did: only the machine's present state can help it.
 */

import type { LogBatch } from '../log/batch.ts'
import type { LogEnd } from '../log/entry.ts'
import type { Hello } from './hello.ts'
import type { LogTail } from './log-tail.ts'
import type { Generation, ReplicaName } from './messages.ts'

export interface Inheritance {
  /** The generation in which the predecessor went live, or started. */
  readonly hold: Generation
  /** Where the predecessor's log ends, and ours begins. */
  readonly logEnd: LogEnd
  readonly tail: LogTail
  readonly siblings: readonly ReplicaName[]
}

export class InheritedTail {
  readonly #inheritance: Inheritance
  /** Siblings that may still come. */
  readonly #awaited: Set<ReplicaName>
  readonly #keepMs: number
  #keepUntilMs: number | undefined

  constructor(inheritance: Inheritance, keepMs: number) {
    this.#inheritance = inheritance
    this.#awaited = new Set(inheritance.siblings)
    this.#keepMs = keepMs
  }

  /** We wrote this. */
  onBatch(batch: LogBatch): void {
    if (this.#awaited.size > 0) this.#inheritance.tail.append(batch)
  }

  get dueMs(): number {
    return this.#awaited.size > 0 ? (this.#keepUntilMs ?? 0) : Number.POSITIVE_INFINITY
  }

  onTick(nowMs: number): void {
    this.#keepUntilMs ??= nowMs + this.#keepMs
    if (nowMs >= this.#keepUntilMs) this.#forget()
  }

  onJoined(replica: ReplicaName): void {
    this.#awaited.delete(replica)
    if (this.#awaited.size === 0) this.#forget()
  }

  /** @param hold ours. @returns what a replica lacks that followed us, or our predecessor; undefined: we cannot help it */
  missingOf(hello: Hello, hold: Generation): readonly LogBatch[] | undefined {
    const isOurs = hello.hold === hold || (hello.hold === this.#inheritance.hold && this.surplusOf(hello) === 0n)
    return isOurs && this.#awaited.size > 0 ? this.#inheritance.tail.from(hello.nextIndex) : undefined
  }

  /** How many entries past the predecessor's end it has run. */
  surplusOf({ hold, nextIndex }: Hello): bigint {
    const { logEnd } = this.#inheritance
    return hold === this.#inheritance.hold && nextIndex > logEnd ? nextIndex - logEnd : 0n
  }

  #forget(): void {
    this.#awaited.clear()
    this.#inheritance.tail.forgetAll()
  }
}
