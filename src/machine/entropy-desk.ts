/**
 * Who waits for entropy. Randomness is recorded, never made here: a request goes out as an `entropyRequest`, and each
 * `entropy` input answers the oldest one. Customers are the entropy device and the pool of Zkr's `seed` CSR.
 *
 * The pool is looked at only when the hart starts to wait and when a clock input is applied: positions that every
 * replica shares. How far a slice ran must not show.
 */

import { assert } from '../base/assert.ts'
import type { ByteReader, ByteWriter } from '../base/bytes.ts'
import type { Engine } from '../engine/types.ts'
import type { Outbox } from './outbox.ts'

const poolLowBytes = 32
const poolRequestBytes = 64

type Customer = 'seedPool' | 'device'

export class EntropyDesk {
  readonly #engine: Engine
  readonly #outbox: Outbox
  #waiting: { readonly customer: Customer; readonly lengthBytes: number }[] = []

  constructor(engine: Engine, outbox: Outbox) {
    this.#engine = engine
    this.#outbox = outbox
  }

  request(customer: Customer, lengthBytes: number): void {
    this.#waiting.push({ customer, lengthBytes })
    this.#outbox.emit<'entropyRequest'>({ kind: 'entropyRequest', lengthBytes })
  }

  /** Asks for more words for the `seed` CSR when few are left. */
  topUp(): void {
    if (this.#engine.seedPool.availableBytes >= poolLowBytes) return
    if (this.#waiting.some(({ customer }) => customer === 'seedPool')) return
    this.request('seedPool', poolRequestBytes)
  }

  /** Takes the oldest request off; a request of the pool is served here, one of the device by `toDevice`. */
  onEntropy(bytes: Uint8Array, toDevice: (bytes: Uint8Array) => void): void {
    const oldest = this.#waiting.shift()
    assert(oldest, 'entropy that nobody asked for')
    assert(bytes.length === oldest.lengthBytes, `${bytes.length} bytes of entropy instead of ${oldest.lengthBytes}`)
    if (oldest.customer === 'seedPool') this.#engine.seedPool.add(bytes)
    else toDevice(bytes)
  }

  saveState(writer: ByteWriter): void {
    writer.u32(this.#waiting.length)
    for (const { customer, lengthBytes } of this.#waiting) writer.bool(customer === 'device').u32(lengthBytes)
  }

  loadState(reader: ByteReader): void {
    this.#waiting = []
    const count = reader.u32()
    for (let index = 0; index < count; index++) {
      const customer = reader.bool() ? 'device' : 'seedPool'
      this.#waiting.push({ customer, lengthBytes: reader.u32() })
    }
  }
}
