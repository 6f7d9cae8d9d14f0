/**
 * What the world owes the machine, as far as the log tells: answers to its entropy requests and to its power requests.
 * (Disk answers are in `Machine.inFlightDiskRequests`.) Whoever writes the log settles them. A replica that goes live
 * inherits the debts whose answer did not make it into the log.
 */

import type { ByteReader, ByteWriter } from '../base/bytes.ts'
import { type LogEntry, logIndex, type ReadOrdered } from '../log/entry.ts'
import { readOutput, writeOutput } from '../log/output-codec.ts'
import { readBoundedVarint, writeVarint } from '../log/varint.ts'
import type { Input, Output } from '../machine/types.ts'
import { EpochPosition } from './epoch/epoch-position.ts'
import { ReadLedger } from './read-ledger.ts'

export type EntropyRequest = Extract<Output, { kind: 'entropyRequest' }>
export type PowerRequest = Extract<Output, { kind: 'power' }>

/** More than any machine has open at once: it has one entropy device. */
const maxRequests = 4096

export class Obligations {
  #entropy: EntropyRequest[] = []
  #power: PowerRequest | undefined
  /** Where the log has come to in its epochs; in the epoch discipline, the end of the one under way is owed. */
  readonly epochs = new EpochPosition()
  /** Reads whose data is not in the log: what this replica owes the others is not to overwrite it too early. */
  readonly reads = new ReadLedger()

  /** Not answered yet, oldest first. */
  get entropyRequests(): readonly EntropyRequest[] {
    return this.#entropy
  }

  /** The guest went off or wants to be booted again, and nobody has booted it since. */
  get powerRequest(): PowerRequest | undefined {
    return this.#power
  }

  /** Call right after the machine applied `input`. */
  onInput(input: Input): void {
    if (input.kind === 'entropy') this.#entropy.shift()
    if (input.kind === 'boot') {
      // A reset forgets the device's requests: an answer to one of them would be an answer to nobody.
      this.#entropy = []
      this.#power = undefined
    }
  }

  /** Call for each entry, after its input was applied. */
  onEntry({ index, count, body }: LogEntry): void {
    this.epochs.onEntry(count, body)
    if (body.kind === 'diskCompletion') this.reads.onAnswer(body.sequence)
    if (body.kind === 'diskRead') this.reads.onAnswer(body.sequence, logIndex(index + 1n))
  }

  onOutput(output: Output): void {
    this.reads.onOutput(output)
    if (output.kind === 'entropyRequest') this.#entropy.push(output)
    if (output.kind === 'power') this.#power = output
  }

  /** What an output has to wait for, as a part of it. */
  orderOf(output: Output): Pick<ReadOrdered, 'afterReadsEnd'> {
    const afterReadsEnd = this.reads.endBefore(output)
    return afterReadsEnd === undefined ? {} : { afterReadsEnd }
  }

  /** For a copy of the machine: it owes the same. */
  save(writer: ByteWriter): void {
    const requests = [...this.#entropy, ...(this.#power ? [this.#power] : [])]
    writeVarint(writer, requests.length)
    for (const request of requests) writeOutput(writer, request)
    this.epochs.save(writer)
    writer.u64(this.reads.lastEnd)
  }

  /** The machine's disk requests in flight are to be reported by `onOutput` too. @throws WorldError */
  load(reader: ByteReader): void {
    for (let left = readBoundedVarint(reader, maxRequests, 'number of requests'); left > 0; left--) {
      this.onOutput(readOutput(reader))
    }
    this.epochs.load(reader)
    this.reads.beginAfter(logIndex(reader.u64()))
  }
}
