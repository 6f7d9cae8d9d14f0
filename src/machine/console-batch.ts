/**
 * Console bytes on their way out, gathered so that a line costs one output and one log entry, not one per byte.
 *
 * The rule is a function of the instruction stream and the inputs, never of slices. A batch goes out
 *  - with a newline byte, or when it holds 256 bytes: right after the instruction that wrote the byte;
 *  - when the hart starts to wait (WFI), right after that instruction;
 *  - when a clock input is applied: a prompt without a newline appears within one clock interval;
 *  - when the machine goes off, reboots or a bare program ends.
 */

import type { ByteReader, ByteWriter } from '../base/bytes.ts'
import type { Outbox } from './outbox.ts'

const batchBytes = 256
const newline = 0x0a

export class ConsoleBatch {
  readonly #outbox: Outbox
  readonly #bytes = new Uint8Array(batchBytes)
  #length = 0

  constructor(outbox: Outbox) {
    this.#outbox = outbox
  }

  append(byte: number): void {
    this.#bytes[this.#length++] = byte
    if (byte === newline || this.#length === batchBytes) this.flush()
  }

  flush(): void {
    if (this.#length === 0) return
    this.#outbox.emit<'console'>({ kind: 'console', bytes: this.#bytes.slice(0, this.#length) })
    this.#length = 0
  }

  saveState(writer: ByteWriter): void {
    writer.bytes(this.#bytes.subarray(0, this.#length))
  }

  loadState(reader: ByteReader): void {
    const bytes = reader.bytes()
    this.#bytes.set(bytes)
    this.#length = bytes.length
  }
}
