/**
 * Record mode: drives a machine from the live world and writes down everything a replay needs (VMware FT, deterministic
 * replay). The primary's hart runs behind it; so does `run VM`, which merely keeps the log to itself.
 *
 *   live input ──► Recorder.apply ──► log entry at (machine.count, next index) ──► machine.apply
 *   machine.run ──► output ──► marker entry ──► output with its marker's index
 *
 * It is the same machine and the same `apply` as in the Replayer: a different observer, not a different path.
 * It does not send, hold or release anything, and does not know who else exists.
 *
 * What a disk read has brought is in the log, unless the backups are to read for themselves (VMware FT, "Disk reads on the
 * backup"): then only its digest is. A read that failed is in the log as it is, in either case: nobody reads it again.
 */

import { hash64 } from '../base/digest.ts'
import { BatchBuilder, type LogBatch } from '../log/batch.ts'
import {
  addBytesByCause,
  type BytesByCause,
  type EntryBody,
  type LogIndex,
  logIndex,
  type MarkedOutput,
  noBytesByCause,
} from '../log/entry.ts'
import { outputChecksum } from '../log/output-codec.ts'
import type { Input, InstructionCount, Machine, Output, StopReason } from '../machine/types.ts'
import { Obligations } from './obligations.ts'

/** A batch is closed at this size, so that one never grows beyond what the channel carries. */
const fullBatchBytes = 1024 * 1024

export interface RecordedRun {
  readonly stop: StopReason
  /** What the machine made, in order, each with the index of its marker: input for the output gate. */
  readonly outputs: readonly MarkedOutput[]
}

export interface RecorderOptions {
  /** Disk reads get `diskRead` entries, without their data. Default: no, the data is in the log. */
  readonly leavesOutReads?: boolean
}

export class Recorder {
  readonly machine: Machine
  readonly obligations: Obligations
  readonly #leavesOutReads: boolean
  readonly #builder: BatchBuilder
  readonly #closed: LogBatch[] = []
  readonly #bytesByCause = noBytesByCause()

  /**
   * @param nextIndex index of the first entry to write: 0 for a new machine, one past the last replayed entry at go-live
   * @param obligations what the replayed part of the log left unanswered
   */
  constructor(
    machine: Machine,
    nextIndex: LogIndex = logIndex(0n),
    obligations: Obligations = new Obligations(),
    { leavesOutReads = false }: RecorderOptions = {},
  ) {
    this.machine = machine
    this.obligations = obligations
    this.#leavesOutReads = leavesOutReads
    this.#builder = new BatchBuilder(nextIndex)
  }

  /** Index of the next entry. */
  get nextIndex(): LogIndex {
    return this.#builder.nextIndex
  }

  /** Entries were written that nobody has taken. */
  get hasPending(): boolean {
    return this.#closed.length > 0 || this.#builder.pendingBytes > 0
  }

  /** Encoded log bytes so far, by cause, those not taken yet left out. */
  get bytesByCause(): Readonly<BytesByCause> {
    return this.#bytesByCause
  }

  /** Lets an input in, now. Returns the outputs it caused (a queued disk request that could start). */
  apply(input: Input): readonly MarkedOutput[] {
    const body = this.#bodyOf(input)
    const index = this.#builder.append(this.machine.count, body)
    this.#closeIfFull()
    this.machine.apply(input)
    this.obligations.onInput(input)
    this.obligations.onEntry({ index, count: this.machine.count, body })
    return this.#markOutputs()
  }

  /** Runs to `until` or to the machine's first reason to stop. */
  run(until: InstructionCount): RecordedRun {
    const stop = this.machine.run(until)
    return { stop, outputs: this.#markOutputs() }
  }

  /** Writes down what the machine looks like now, for backups to compare. */
  entryDigest(): void {
    this.#builder.append(this.machine.count, { kind: 'digest', digest: this.machine.digest() })
    this.#closeIfFull()
  }

  /** Writes [end, E] (the epoch discipline). */
  entryEpochEnd(): void {
    const { epochs } = this.obligations
    const body = { kind: 'epochEnd', epoch: epochs.epoch } as const
    const index = this.#builder.append(this.machine.count, body)
    this.#closeIfFull()
    this.obligations.onEntry({ index, count: this.machine.count, body })
  }

  /** Everything written since the last call, in order. The caller sends it at once (the primary flushes at once). */
  takeBatches(): LogBatch[] {
    this.#close()
    return this.#closed.splice(0)
  }

  /**
   * Writes a marker for each output: at this very count, before anything else is let in. Public for go-live alone, which
   * has outputs that were replayed but whose markers never arrived.
   */
  mark(outputs: readonly Output[]): readonly MarkedOutput[] {
    return outputs.map((output) => {
      const { kind: outputKind, sequence } = output
      const marker = { kind: 'marker', sequence, outputKind, checksum: outputChecksum(output) } as const
      const markerIndex = this.#builder.append(this.machine.count, marker)
      this.obligations.onOutput(output)
      return { output, markerIndex, ...this.obligations.orderOf(output) }
    })
  }

  #bodyOf(input: Input): EntryBody {
    const isLeftOut = this.#leavesOutReads && input.kind === 'diskCompletion' && input.data !== undefined
    return isLeftOut ? { kind: 'diskRead', sequence: input.sequence, dataDigest: hash64(input.data!) } : input
  }

  #markOutputs(): readonly MarkedOutput[] {
    return this.mark(this.machine.takeOutputs())
  }

  #closeIfFull(): void {
    if (this.#builder.pendingBytes >= fullBatchBytes) this.#close()
  }

  #close(): void {
    const taken = this.#builder.take()
    if (taken === undefined) return
    this.#closed.push(taken.batch)
    addBytesByCause(this.#bytesByCause, taken.bytesByCause)
  }
}
