/**
 * Bytes of a WebAssembly module, written straight into one growing Uint8Array: LEB128 integers, section framing, strings
 * (WebAssembly core specification, chapter 5, "Binary Format").
 */
export class CodeWriter {
  #bytes = new Uint8Array(4096)
  #length = 0

  get length(): number {
    return this.#length
  }

  #grow(count: number): void {
    if (this.#length + count <= this.#bytes.length) return
    const grown = new Uint8Array(Math.max(this.#length + count, this.#bytes.length * 2))
    grown.set(this.#bytes.subarray(0, this.#length))
    this.#bytes = grown
  }

  byte(value: number): void {
    this.#grow(1)
    this.#bytes[this.#length++] = value
  }

  /** Unsigned LEB128 of an integer below 2^32. */
  unsigned(value: number): void {
    this.#grow(5)
    let rest = value >>> 0
    while (rest >= 0x80) {
      this.#bytes[this.#length++] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    this.#bytes[this.#length++] = rest
  }

  /** Signed LEB128 of a 32-bit integer. */
  signed32(value: number): void {
    this.#grow(5)
    let rest = value | 0
    for (;;) {
      const low = rest & 0x7f
      rest >>= 7
      const done = (rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)
      this.#bytes[this.#length++] = done ? low : low | 0x80
      if (done) return
    }
  }

  /** Signed LEB128 of a 64-bit integer. */
  signed64(value: bigint): void {
    const wrapped = BigInt.asIntN(64, value)
    if (wrapped >= -0x80000000n && wrapped < 0x80000000n) {
      this.signed32(Number(wrapped))
      return
    }
    this.#grow(10)
    let rest = wrapped
    for (;;) {
      const low = Number(rest & 0x7fn)
      rest >>= 7n
      const done = (rest === 0n && (low & 0x40) === 0) || (rest === -1n && (low & 0x40) !== 0)
      this.#bytes[this.#length++] = done ? low : low | 0x80
      if (done) return
    }
  }

  raw(bytes: Uint8Array): void {
    this.#grow(bytes.length)
    this.#bytes.set(bytes, this.#length)
    this.#length += bytes.length
  }

  name(text: string): void {
    const bytes = new TextEncoder().encode(text)
    this.unsigned(bytes.length)
    this.raw(bytes)
  }

  view(): Uint8Array {
    return this.#bytes.subarray(0, this.#length)
  }

  finish(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#length)
  }
}
