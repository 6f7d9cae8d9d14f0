/**
 * The demo's client: one TCP connection to Redis, doing INCR one after the other and never reconnecting. It remembers
 * every answer, so it can say afterwards whether one was lost, repeated, or late.
 */

import { createConnection, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { ExitCode, WorldError } from '../base/assert.ts'

export interface LoadReport {
  /** INCRs that were answered. */
  readonly acknowledged: number
  /** Times the connection was closed or reset under us. */
  readonly connectionsReset: number
  /** Answers that skipped a number: an INCR was carried out twice, or came from nowhere. */
  readonly skipped: number
  /** Answers that did not grow: an acknowledged INCR was forgotten. */
  readonly wentBack: number
  /** The longest wait between two answers. */
  readonly longestStallMs: number
  /** When the answer that ended the longest wait came (performance.now()). */
  readonly longestStallEndedAt: number
}

/** A Redis connection that sends one command and waits for its one-line answer. */
export class RedisConnection {
  readonly #socket: Socket
  #received = ''
  #waiter: ((line: string | undefined) => void) | undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.setEncoding('latin1')
    socket.on('data', (text: string) => {
      this.#received += text
      const end = this.#received.indexOf('\r\n')
      if (end < 0) return
      const line = this.#received.slice(0, end)
      this.#received = this.#received.slice(end + 2)
      this.#answer(line)
    })
    socket.on('error', () => socket.destroy())
    socket.on('end', () => socket.destroy())
    socket.on('close', () => this.#answer(undefined))
  }

  static connect(port: number, host = '127.0.0.1'): Promise<RedisConnection> {
    return new Promise((resolve, reject) => {
      const socket = createConnection({ host, port, noDelay: true })
      socket.once('error', reject)
      socket.once('connect', () => {
        socket.off('error', reject)
        resolve(new RedisConnection(socket))
      })
    })
  }

  /** @returns the answer's first line, or undefined if the connection is gone */
  command(text: string): Promise<string | undefined> {
    if (this.#socket.destroyed) return Promise.resolve(undefined)
    return new Promise((resolve) => {
      this.#waiter = resolve
      this.#socket.write(`${text}\r\n`)
    })
  }

  close(): void {
    this.#socket.destroy()
  }

  #answer(line: string | undefined): void {
    const waiter = this.#waiter
    this.#waiter = undefined
    waiter?.(line)
  }
}

/** True when Redis answers PING on this port within `timeoutMs`. */
export async function answersPing(port: number, timeoutMs: number, host?: string): Promise<boolean> {
  const attempt = async (): Promise<boolean> => {
    const connection = await RedisConnection.connect(port, host)
    const timer = setTimeout(() => connection.close(), timeoutMs)
    try {
      return (await connection.command('PING')) === '+PONG'
    } finally {
      clearTimeout(timer)
      connection.close()
    }
  }
  return await attempt().catch(() => false)
}

/**
 * Waits until a guest that boots has its Redis on this port.
 * @param isRunning whether it is worth to wait on; asked between attempts
 * @throws WorldError `no-boot`
 */
export async function waitForRedis(
  port: number,
  withinMs: number,
  isRunning: () => Promise<boolean> = async () => true,
): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!(await answersPing(port, 2000))) {
    const isLate = performance.now() > deadline
    if (isLate || !(await isRunning())) {
      const what = isLate ? `did not answer within ${withinMs / 1000} s` : 'ended before it answered'
      throw new WorldError(
        'no-boot',
        `the guest ${what}: see the traces and console.log in its folder`,
        ExitCode.timedOut,
      )
    }
    await sleep(100)
  }
}

export class IncrementLoad {
  readonly #connection: RedisConnection
  readonly #key: string
  #acknowledged = 0
  #reset = 0
  #skipped = 0
  #wentBack = 0
  #longestStallMs = 0
  #longestStallEndedAt = 0
  #isStopping = false
  #finished: Promise<void> = Promise.resolve()

  private constructor(connection: RedisConnection, key: string) {
    this.#connection = connection
    this.#key = key
  }

  static async start(port: number, key: string, host?: string): Promise<IncrementLoad> {
    const load = new IncrementLoad(await RedisConnection.connect(port, host), key)
    load.#finished = load.#run()
    return load
  }

  get acknowledged(): number {
    return this.#acknowledged
  }

  /** Forgets waits so far: what follows is measured. */
  startMeasuring(): void {
    this.#longestStallMs = 0
  }

  async #run(): Promise<void> {
    let lastAnswerAt = performance.now()
    while (!this.#isStopping) {
      const answer = await this.#connection.command(`INCR ${this.#key}`)
      const now = performance.now()
      if (answer === undefined) {
        this.#reset++
        return
      }
      const value = Number(answer.slice(1))
      if (!answer.startsWith(':')) throw new WorldError('redis-error', `Redis answered "${answer}" to INCR`)
      if (value <= this.#acknowledged) this.#wentBack++
      else if (value !== this.#acknowledged + 1) this.#skipped += value - this.#acknowledged - 1
      this.#acknowledged = value
      if (now - lastAnswerAt > this.#longestStallMs) {
        this.#longestStallMs = now - lastAnswerAt
        this.#longestStallEndedAt = now
      }
      lastAnswerAt = now
    }
  }

  /** Ends after the answer to the INCR under way, or after `timeoutMs` without one (which counts as a reset). */
  async stop(timeoutMs: number): Promise<LoadReport> {
    this.#isStopping = true
    const timer = setTimeout(() => this.#connection.close(), timeoutMs)
    await this.#finished
    clearTimeout(timer)
    this.#connection.close()
    return {
      acknowledged: this.#acknowledged,
      connectionsReset: this.#reset,
      skipped: this.#skipped,
      wentBack: this.#wentBack,
      longestStallMs: this.#longestStallMs,
      longestStallEndedAt: this.#longestStallEndedAt,
    }
  }
}
