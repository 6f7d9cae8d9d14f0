/**
 * One replica on the arbiter's side: the socket around a session (`arbiter.ts`). Requests of a session are begun in the
 * order they arrive; a grant that waits for the fence does not hold up the answers to later requests.
 */

import type { Socket } from 'node:net'
import { WorldError } from '../base/assert.ts'
import type { Arbiter, ArbiterSession } from './arbiter.ts'
import {
  type ArbiterRequest,
  arbiterProtocolVersion,
  arbiterRequestSchema,
  encodeLine,
  maxLineBytes,
  pingLine,
  pongLine,
} from './arbiter-messages.ts'
import { LineSplitter } from './line-splitter.ts'

/** Time to say hello. */
const helloTimeoutMs = 10_000

/** Requests of one session without an answer yet. */
const maxPending = 64

/** Answers that the peer hasn't taken. */
const maxUnsentBytes = 1024 * 1024

export class ArbiterConnection {
  readonly #socket: Socket
  readonly #arbiter: Arbiter
  readonly #trace: (line: string) => void
  readonly #lines = new LineSplitter(maxLineBytes)
  readonly #helloTimer: NodeJS.Timeout
  #session: ArbiterSession | undefined
  #pending = 0

  constructor(socket: Socket, arbiter: Arbiter, trace: (line: string) => void) {
    this.#socket = socket
    this.#arbiter = arbiter
    this.#trace = trace
    this.#helloTimer = setTimeout(() => this.#drop('no hello'), helloTimeoutMs)
    this.#helloTimer.unref()
    // A host that lost its power is noticed within 15 s (net/connect.ts): until then its session counts as connected. A
    // replica that is merely stopped stays connected.
    socket.on('data', (chunk: Buffer) => this.#receive(chunk))
    socket.on('end', () => socket.destroy())
    socket.on('error', (error) => this.#trace(`arbiter: ${error.message}`))
    socket.on('close', () => this.#onClosed())
  }

  #receive(chunk: Buffer): void {
    try {
      for (const line of this.#lines.push(chunk)) {
        if (this.#socket.destroyed) return
        this.#onLine(line)
      }
    } catch (error) {
      if (!(error instanceof WorldError)) throw error
      this.#drop(error.message)
    }
  }

  #onLine(line: string): void {
    if (line === pingLine && this.#session) {
      this.#write(`${pongLine}\n`)
      return
    }
    const request = decodeRequest(line)
    if (!request || this.#pending >= maxPending) {
      this.#drop(request ? 'too many requests at once' : 'a malformed request')
      return
    }
    this.#pending++
    void this.#respond(request).finally(() => {
      this.#pending--
    })
  }

  async #respond(request: ArbiterRequest): Promise<void> {
    const { id } = request
    try {
      this.#send({ id, ok: true, answer: await this.#answer(request) })
    } catch (error) {
      if (!(error instanceof WorldError)) throw error
      this.#trace(`arbiter: ${error.message}`)
      this.#send({ id, ok: false, error: { code: error.code, message: error.message } })
      if (!this.#session) this.#socket.destroySoon()
    }
  }

  async #answer(request: ArbiterRequest): Promise<unknown> {
    if (request.op === 'hello') return this.#hello(request)
    const session = this.#session
    if (!session) throw new WorldError('arbiter-protocol', 'say hello first')
    return await this.#arbiter.ask(session, request)
  }

  #hello(request: Extract<ArbiterRequest, { op: 'hello' }>): unknown {
    if (this.#session) throw new WorldError('arbiter-protocol', 'hello was said already')
    if (request.version !== arbiterProtocolVersion) {
      throw new WorldError('arbiter-version', `this arbiter speaks version ${arbiterProtocolVersion}`)
    }
    if (!this.#arbiter.knows(request.machine, request.token)) {
      throw new WorldError('arbiter-denied', `no machine ${request.machine} with this token here`)
    }
    clearTimeout(this.#helloTimer)
    const session: ArbiterSession = {
      machine: request.machine,
      replica: request.replica,
      held: request.generation,
      onFenced: (notice) => this.#send({ event: 'fenced', ...notice }),
    }
    this.#session = session
    this.#arbiter.join(session)
    return { bootId: this.#arbiter.bootId, record: this.#arbiter.record(session.machine) }
  }

  #send(message: unknown): void {
    this.#write(encodeLine(message))
  }

  #write(line: string): void {
    if (this.#socket.destroyed) return
    this.#socket.write(line)
    if (this.#socket.writableLength > maxUnsentBytes) this.#drop('the peer takes no answers')
  }

  #drop(why: string): void {
    this.#trace(`arbiter: connection dropped: ${why}`)
    this.#socket.destroy()
  }

  #onClosed(): void {
    clearTimeout(this.#helloTimer)
    if (this.#session) this.#arbiter.leave(this.#session)
  }
}

function decodeRequest(line: string): ArbiterRequest | undefined {
  try {
    return arbiterRequestSchema.parse(JSON.parse(line))
  } catch {
    return undefined
  }
}
