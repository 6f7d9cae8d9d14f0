/**
 * Bytes as they arrive from a stream, taken as the parser wants them. A piece that arrived whole is handed out without a
 * copy. Memory grows only with what a peer really sent, never with what it announced.
 */
export class ByteQueue {
  #chunks: Buffer[] = []
  #length = 0

  get length(): number {
    return this.#length
  }

  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return
    this.#chunks.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
    this.#length += chunk.length
  }

  /** The next `count` bytes, or undefined while fewer have arrived. */
  take(count: number): Buffer | undefined {
    if (this.#length < count) return undefined
    this.#length -= count
    const first = this.#chunks[0]
    if (count === 0 || first === undefined) return Buffer.alloc(0)
    if (first.length > count) {
      this.#chunks[0] = first.subarray(count)
      return first.subarray(0, count)
    }
    if (first.length === count) {
      this.#chunks.shift()
      return first
    }
    return this.#gather(count)
  }

  #gather(count: number): Buffer {
    const gathered = Buffer.allocUnsafe(count)
    let filled = 0
    let used = 0
    while (filled < count) {
      const chunk = this.#chunks[used]!
      const part = Math.min(chunk.length, count - filled)
      chunk.copy(gathered, filled, 0, part)
      filled += part
      if (part === chunk.length) used++
      else this.#chunks[used] = chunk.subarray(part)
    }
    this.#chunks.splice(0, used)
    return gathered
  }
}
