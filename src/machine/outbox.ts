/**
 * Outputs on their way out, numbered from 0 in the order the machine makes them. A machine stops right after the
 * instruction that filled the outbox, and runs on once it is empty.
 */

import type { ByteReader, ByteWriter } from '../base/bytes.ts'
import type { Output } from './types.ts'

type Unnumbered<T> = T extends Output ? Omit<T, 'sequence'> : never

export class Outbox {
  #nextSequence = 0n
  #outputs: Output[] = []

  get isEmpty(): boolean {
    return this.#outputs.length === 0
  }

  /** Queues an output and returns it with its number. */
  emit<K extends Output['kind']>(output: Unnumbered<Extract<Output, { kind: K }>>): Extract<Output, { kind: K }> {
    const numbered = { ...output, sequence: this.#nextSequence++ } as unknown as Extract<Output, { kind: K }>
    this.#outputs.push(numbered)
    return numbered
  }

  take(): Output[] {
    const outputs = this.#outputs
    if (outputs.length > 0) this.#outputs = []
    return outputs
  }

  saveState(writer: ByteWriter): void {
    writer.u64(this.#nextSequence)
  }

  loadState(reader: ByteReader): void {
    this.#nextSequence = reader.u64()
    this.#outputs = []
  }
}
