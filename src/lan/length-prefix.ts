/**
 * The framing on every stream of the LAN: a 32-bit big-endian length, then that many bytes.
 *
 * On plain ports the bytes are one Ethernet frame, which is QEMU's `stream` netdev framing (also passt's); on replica
 * ports they are one message (replica-message.ts). The splitter takes chunks as a socket happens to cut them and gives
 * whole payloads; a length that no peer may send is the world's fault and ends the stream, because after it nobody
 * knows where the next payload begins.
 */

import { WorldError } from '../base/assert.ts'

export const prefixBytes = 4

export function encodePrefix(lengthBytes: number): Uint8Array {
  const prefix = new Uint8Array(prefixBytes)
  new DataView(prefix.buffer).setUint32(0, lengthBytes)
  return prefix
}

/** Cuts a byte stream into its payloads. Memory is bounded by one payload. */
export class LengthPrefixSplitter {
  readonly #minBytes: number
  readonly #maxBytes: number
  readonly #prefix = new Uint8Array(prefixBytes)
  #prefixFilled = 0
  /** The payload under way when it spans chunks; undefined while the prefix is incomplete. */
  #payload: Uint8Array | undefined
  #payloadFilled = 0
  #broken = false

  constructor(minBytes: number, maxBytes: number) {
    this.#minBytes = minBytes
    this.#maxBytes = maxBytes
  }

  /**
   * Calls `onPayload` for each payload that `bytes` complete, in order. A payload that lies whole in them is a
   * view of it, not a copy; its `slice` is one, also if they are a Buffer, whose own is not. After a bad length (`WorldError('bad-length')`) the splitter gives nothing more.
   */
  push(bytes: Uint8Array, onPayload: (payload: Uint8Array) => void): void {
    const chunk = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
    let offset = 0
    while (offset < chunk.length && !this.#broken) {
      if (this.#payload) {
        const count = Math.min(this.#payload.length - this.#payloadFilled, chunk.length - offset)
        this.#payload.set(chunk.subarray(offset, offset + count), this.#payloadFilled)
        this.#payloadFilled += count
        offset += count
        if (this.#payloadFilled === this.#payload.length) {
          const payload = this.#payload
          this.#payload = undefined
          onPayload(payload)
        }
        continue
      }
      this.#prefix[this.#prefixFilled++] = chunk[offset++]!
      if (this.#prefixFilled < prefixBytes) continue
      this.#prefixFilled = 0
      const lengthBytes = new DataView(this.#prefix.buffer).getUint32(0)
      if (lengthBytes < this.#minBytes || lengthBytes > this.#maxBytes) {
        this.#broken = true
        throw new WorldError(
          'bad-length',
          `a length of ${lengthBytes} bytes is outside ${this.#minBytes}–${this.#maxBytes}: the peer does not speak this protocol`,
        )
      }
      if (chunk.length - offset >= lengthBytes) {
        const payload = chunk.subarray(offset, offset + lengthBytes)
        offset += lengthBytes
        onPayload(payload)
      } else {
        this.#payload = new Uint8Array(lengthBytes)
        this.#payloadFilled = 0
      }
    }
  }
}
