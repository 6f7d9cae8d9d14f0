/**
 * A Redis connection of the fault trials' own: whole RESP2 replies (the product's own client reads single lines only),
 * one command at a time, never reconnecting. A lost connection is an answer like any other: `undefined`.
 */

import { createConnection, type Socket } from 'node:net'

export type Reply = string | number | null | Error

/** Takes one reply off the front of `bytes`; undefined while it is not complete. */
export function takeReply(bytes: Buffer): { readonly reply: Reply; readonly lengthBytes: number } | undefined {
  const end = bytes.indexOf('\r\n')
  if (end < 0) return undefined
  const text = bytes.toString('latin1', 1, end)
  const lengthBytes = end + 2
  switch (String.fromCharCode(bytes[0]!)) {
    case '+':
      return { reply: text, lengthBytes }
    case '-':
      return { reply: new Error(text), lengthBytes }
    case ':':
      return { reply: Number(text), lengthBytes }
    case '$': {
      const length = Number(text)
      if (length < 0) return { reply: null, lengthBytes }
      const total = lengthBytes + length + 2
      if (bytes.length < total) return undefined
      return { reply: bytes.toString('latin1', lengthBytes, lengthBytes + length), lengthBytes: total }
    }
    default:
      return { reply: new Error(`not a reply: ${text.slice(0, 40)}`), lengthBytes: bytes.length }
  }
}

export class RedisClient {
  readonly #socket: Socket
  #chunks: Buffer[] = []
  #waiter: ((reply: Reply | undefined) => void) | undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk)
      // Large replies come in many chunks: looked at only when they may be complete.
      if (chunk.at(-1) !== 0x0a) return
      const bytes = Buffer.concat(this.#chunks)
      const taken = takeReply(bytes)
      this.#chunks = taken ? [bytes.subarray(taken.lengthBytes)] : [bytes]
      if (taken) this.#answer(taken.reply)
    })
    socket.on('error', () => socket.destroy())
    socket.on('end', () => socket.destroy())
    socket.on('close', () => this.#answer(undefined))
  }

  static connect(port: number): Promise<RedisClient> {
    return new Promise((resolve, reject) => {
      const socket = createConnection({ host: '127.0.0.1', port, noDelay: true })
      socket.once('error', reject)
      socket.once('connect', () => {
        socket.off('error', reject)
        resolve(new RedisClient(socket))
      })
    })
  }

  /** @returns undefined if the connection ended before the answer */
  command(...words: readonly string[]): Promise<Reply | undefined> {
    if (this.#socket.destroyed) return Promise.resolve(undefined)
    return new Promise((resolve) => {
      this.#waiter = resolve
      const parts = words.map((word) => `$${Buffer.byteLength(word, 'latin1')}\r\n${word}\r\n`)
      this.#socket.write(`*${words.length}\r\n${parts.join('')}`, 'latin1')
    })
  }

  get isEnded(): boolean {
    return this.#socket.destroyed
  }

  close(): void {
    this.#socket.destroy()
  }

  #answer(reply: Reply | undefined): void {
    const waiter = this.#waiter
    this.#waiter = undefined
    waiter?.(reply)
  }
}
