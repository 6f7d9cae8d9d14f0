/**
 * Entropy for the `seed` CSR (RISC-V cryptography extensions, Zkr): bytes come in as logged inputs and are handed out
 * once, two per read.
 */

import type { ByteReader, ByteWriter } from '../base/bytes.ts'
import { concatBytes } from '../base/bytes.ts'

/** The OPST field, bits 31:30. */
const status = { wait: 1n << 30n, entropy16: 2n << 30n } as const

export class SeedPool {
  #bytes: Uint8Array = new Uint8Array(0)

  get availableBytes(): number {
    return this.#bytes.length
  }

  add(bytes: Uint8Array): void {
    this.#bytes = concatBytes([this.#bytes, bytes])
  }

  /** The CSR's next value: 16 fresh bits, or WAIT when there are none. */
  take(): bigint {
    const [low, high] = this.#bytes
    if (low === undefined || high === undefined) return status.wait
    this.#bytes = this.#bytes.slice(2)
    return status.entropy16 | BigInt(low | (high << 8))
  }

  clear(): void {
    this.#bytes = new Uint8Array(0)
  }

  save(writer: ByteWriter): void {
    writer.bytes(this.#bytes)
  }

  load(reader: ByteReader): void {
    this.#bytes = reader.bytes()
  }
}
