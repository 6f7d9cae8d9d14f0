/**
 * A replica's view of the arbiter in the disk server. One client is one replica; its session lives on one connection at a
 * time, and says the generation it holds when it comes back on another. What its calls promise: `arbiter-access.ts`.
 *
 * While connected, a replica that holds the machine counts as a live holder, so it should `connect` again after
 * `onSessionLost`.
 */

import type { Socket } from 'node:net'
import type { z } from 'zod'
import { WorldError } from '../base/assert.ts'
import { type Endpoint, formatAddress, keyOf } from '../net/address.ts'
import { connectTo } from '../net/connect.ts'
import {
  type ArbiterAccess,
  type ArbiterAccessOptions,
  ArbiterError,
  type ArbiterErrorReason,
} from './arbiter-access.ts'
import {
  arbiterMessageSchema,
  arbiterProtocolVersion,
  encodeLine,
  helloAnswerSchema,
  holderAnswerSchema,
  maxLineBytes,
  pingLine,
  pongLine,
  recordSchema,
  startAnswerSchema,
  testAndSetAnswerSchema,
} from './arbiter-messages.ts'
import type { ArbiterRecordFields, HolderAnswer, StartAnswer, TestAndSetAnswer } from './arbiter-record.ts'
import { LineSplitter } from './line-splitter.ts'

export interface ArbiterClientOptions extends Endpoint, ArbiterAccessOptions {
  readonly token: string
}

export interface ArbiterHello {
  /** New at every start of the disk server. */
  readonly bootId: string
  readonly record: ArbiterRecordFields
}

/** A call's own time-out ends a connection attempt earlier; this only bounds one that nobody waits for any more. */
const connectTimeoutMs = 60_000

/** A connection on which so many pings found no answer may lead nowhere: another one is opened. */
const maxUnansweredPings = 4

interface PendingCall {
  readonly resolve: (answer: unknown) => void
  readonly reject: (error: ArbiterError) => void
}

interface Session {
  /** Undefined while it connects. */
  socket: Socket | undefined
  readonly connecting: AbortController
  readonly calls: Map<number, PendingCall>
  readonly hello: Promise<ArbiterHello>
  /** The arbiter has answered the hello. */
  isEstablished: boolean
  unansweredPings: number
  onPong: () => void
}

export class ArbiterClient implements ArbiterAccess {
  readonly #options: ArbiterClientOptions
  #session: Session | undefined
  #held: number | undefined
  #nextId = 1

  constructor(options: ArbiterClientOptions) {
    // A mistake in the configuration is told now, not as an arbiter out of reach.
    keyOf(options, 'arbiter')
    this.#options = options
    this.#held = options.generation
  }

  get heldGeneration(): number | undefined {
    return this.#held
  }

  /** Opens a session if there is none; answers who the arbiter is and what its record said at hello. */
  async connect(timeoutMs: number): Promise<ArbiterHello> {
    return await this.#withTimeout(timeoutMs, () => this.#open().hello)
  }

  async read(timeoutMs: number): Promise<ArbiterRecordFields> {
    return await this.#call({ op: 'read' }, recordSchema, timeoutMs)
  }

  /**
   * Asks whether the arbiter answers, over the session that is open; without one it does nothing. The connection is given
   * up after a number of pings, not after a time: a process that stood still asked nothing.
   */
  ping(onPong: () => void): void {
    const session = this.#session
    if (!session?.socket || !session.isEstablished) return
    if (session.unansweredPings === maxUnansweredPings) {
      this.#lose(session, 'it does not answer')
      return
    }
    session.unansweredPings++
    session.onPong = onPong
    session.socket.write(`${pingLine}\n`)
  }

  async start(timeoutMs: number, holderHasEnded = false): Promise<StartAnswer> {
    const answer = await this.#call({ op: 'start', holderHasEnded }, startAnswerSchema, timeoutMs)
    if (answer.granted) this.#held = answer.generation
    return answer
  }

  async testAndSet(generation: number, timeoutMs: number): Promise<TestAndSetAnswer> {
    const answer = await this.#call({ op: 'testAndSet', generation }, testAndSetAnswerSchema, timeoutMs)
    if (answer.won) this.#held = answer.generation
    return answer
  }

  async setEligible(generation: number, eligible: readonly string[], timeoutMs: number): Promise<HolderAnswer> {
    return await this.#call({ op: 'setEligible', generation, eligible }, holderAnswerSchema, timeoutMs)
  }

  async openGeneration(generation: number, eligible: readonly string[], timeoutMs: number): Promise<HolderAnswer> {
    const answer = await this.#call({ op: 'openGeneration', generation, eligible }, holderAnswerSchema, timeoutMs)
    if (answer.accepted) this.#held = answer.generation
    return answer
  }

  async release(generation: number, timeoutMs: number): Promise<HolderAnswer> {
    const answer = await this.#call({ op: 'release', generation }, holderAnswerSchema, timeoutMs)
    if (answer.accepted) this.#held = undefined
    return answer
  }

  /** Where another arbiter decides: it granted us the machine. Answered when no older request can reach the disks. */
  async adopt(generation: number, timeoutMs: number): Promise<HolderAnswer> {
    // Known before the answer: a session that is opened meanwhile says so too.
    this.#held = generation
    return await this.#call({ op: 'adopt', generation }, holderAnswerSchema, timeoutMs)
  }

  close(): void {
    const session = this.#session
    this.#session = undefined
    if (session) this.#end(session, 'the session was closed')
  }

  async #call<Schema extends z.ZodType>(
    request: Readonly<Record<string, unknown>>,
    schema: Schema,
    timeoutMs: number,
  ): Promise<z.infer<Schema>> {
    const answer = await this.#withTimeout(timeoutMs, async () => {
      const session = this.#open()
      await session.hello
      return await this.#send(session, request)
    })
    return this.#checked(schema, answer)
  }

  #checked<Schema extends z.ZodType>(schema: Schema, answer: unknown): z.infer<Schema> {
    const result = schema.safeParse(answer)
    if (!result.success) throw new ArbiterError('protocol', `${this.#where} gave an answer that makes no sense`)
    return result.data
  }

  /** A call that ran out of time takes the connection with it: what it waits for may never come. */
  async #withTimeout<Result>(timeoutMs: number, work: () => Promise<Result>): Promise<Result> {
    let timer: NodeJS.Timeout | undefined
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const error = new ArbiterError('unreachable', `${this.#where} gave no answer within ${timeoutMs} ms`)
        reject(error)
        const session = this.#session
        if (session) this.#lose(session, error.message)
      }, timeoutMs)
    })
    try {
      return await Promise.race([work(), timeout])
    } finally {
      clearTimeout(timer)
    }
  }

  #open(): Session {
    if (this.#session) return this.#session
    const connecting = new AbortController()
    const hello = Promise.withResolvers<ArbiterHello>()
    const session: Session = {
      socket: undefined,
      connecting,
      calls: new Map(),
      hello: hello.promise,
      isEstablished: false,
      unansweredPings: 0,
      onPong: () => {},
    }
    // Whoever waits for the hello is told by its own await; nobody may be waiting any more.
    hello.promise.catch(() => {})
    this.#session = session
    this.#sayHello(session).then(
      (answer) => {
        hello.resolve(answer)
        session.isEstablished = true
      },
      (error: Error) => {
        hello.reject(error instanceof ArbiterError ? error : this.#connectError(error))
        this.#lose(session, error.message)
      },
    )
    return session
  }

  #connectError(error: Error): ArbiterError {
    // Of connecting, which says where itself.
    const code = error instanceof WorldError ? error.code : undefined
    if (code === 'key-refused') return new ArbiterError('denied', error.message)
    return new ArbiterError(
      'unreachable',
      code === 'cannot-connect' ? error.message : `${this.#where}: ${error.message}`,
    )
  }

  async #sayHello(session: Session): Promise<ArbiterHello> {
    const { signal } = session.connecting
    const socket = await connectTo(this.#options, { purpose: 'arbiter', signal, timeoutMs: connectTimeoutMs })
    if (signal.aborted) socket.destroy()
    session.socket = socket
    const lines = new LineSplitter(maxLineBytes)
    socket.on('data', (chunk: Buffer) => this.#receive(session, lines, chunk))
    let cause = 'the connection was closed'
    socket.on('error', (error) => {
      cause = error.message
    })
    socket.on('close', () => this.#lose(session, cause))
    const { machine, replica, token } = this.#options
    const request = { op: 'hello', version: arbiterProtocolVersion, machine, replica, token, generation: this.#held }
    return this.#checked(helloAnswerSchema, await this.#send(session, request))
  }

  #send(session: Session, request: Readonly<Record<string, unknown>>): Promise<unknown> {
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      const { socket } = session
      if (!socket || socket.destroyed) {
        reject(new ArbiterError('unreachable', `${this.#where}: the connection was closed`))
        return
      }
      session.calls.set(id, { resolve, reject })
      socket.write(encodeLine({ id, ...request }))
    })
  }

  #receive(session: Session, lines: LineSplitter, chunk: Buffer): void {
    try {
      for (const line of lines.push(chunk)) this.#onLine(session, line)
    } catch {
      this.#lose(session, 'it does not speak our protocol')
    }
  }

  #onLine(session: Session, line: string): void {
    if (line === pongLine) {
      session.unansweredPings = 0
      session.onPong()
      return
    }
    const message = arbiterMessageSchema.parse(JSON.parse(line))
    if ('event' in message) {
      this.#held = undefined
      this.#options.onFenced?.({ generation: message.generation, holder: message.holder })
      return
    }
    const call = session.calls.get(message.id)
    session.calls.delete(message.id)
    if (message.ok) call?.resolve(message.answer)
    else call?.reject(new ArbiterError(reasonOf(message.error.code), `${this.#where}: ${message.error.message}`))
  }

  #lose(session: Session, why: string): void {
    const wasCurrent = this.#session === session
    if (wasCurrent) this.#session = undefined
    this.#end(session, why)
    if (wasCurrent && session.isEstablished) this.#options.onSessionLost?.()
  }

  #end(session: Session, why: string): void {
    session.connecting.abort()
    session.socket?.destroy()
    const calls = [...session.calls.values()]
    session.calls.clear()
    for (const { reject } of calls) reject(new ArbiterError('unreachable', `${this.#where}: ${why}`))
  }

  get #where(): string {
    return `arbiter at ${formatAddress(this.#options.address)}`
  }
}

function reasonOf(code: string): ArbiterErrorReason {
  switch (code) {
    case 'arbiter-denied':
    case 'arbiter-unknown-machine':
      return 'denied'
    case 'arbiter-storage':
      return 'storage'
    default:
      return 'protocol'
  }
}
