/**
 * Reads a guest's clock from outside: Redis `TIME`, over and over on one connection, as a client of the guest would.
 *
 *     host     asked ├────── round trip ──────┤ answered
 *     guest                   ▲ TIME was read somewhere in here
 *
 * Each answer places the guest's clock within half a round trip around the middle: `offsetMs` ± `roundTripMs` / 2. The
 * error that an answer *proves* is what is left when that doubt is taken off; the best estimate is the sample with the
 * shortest round trip among its neighbours. Answers of one connection are in order, so a clock that goes back is seen as
 * such, whatever the round trips are.
 */

import { createConnection, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

export interface ClockSample {
  /** Milliseconds since 1970 of the host, in the middle of the round trip. */
  readonly atMs: number
  /** Guest's clock minus host's. Positive: the guest is ahead. */
  readonly offsetMs: number
  readonly roundTripMs: number
}

/** The least error that this sample is compatible with. */
export function provenErrorMs({ offsetMs, roundTripMs }: ClockSample): number {
  return Math.max(0, Math.abs(offsetMs) - roundTripMs / 2)
}

/** The greatest error that this sample is compatible with. */
export function certainErrorMs({ offsetMs, roundTripMs }: ClockSample): number {
  return Math.abs(offsetMs) + roundTripMs / 2
}

/** The samples with the shortest round trip, one of each `windowMs`; the last window takes what is left. */
export function bestSamples(samples: readonly ClockSample[], windowMs: number): ClockSample[] {
  const startMs = samples[0]?.atMs ?? 0
  const spanMs = (samples.at(-1)?.atMs ?? 0) - startMs
  const windows = Math.max(1, Math.floor(spanMs / windowMs))
  const best = new Map<number, ClockSample>()
  for (const sample of samples) {
    const window = Math.min(windows - 1, Math.floor((sample.atMs - startMs) / windowMs))
    const known = best.get(window)
    if (!known || sample.roundTripMs < known.roundTripMs) best.set(window, sample)
  }
  return [...best.values()]
}

/** Milliseconds since 1970 with fractions; asked anew each time, because a host's calendar may be corrected. */
function hostNowMs(): number {
  return hostCalendarMs + (performance.now() - hostCalendarAtMs)
}

let hostCalendarMs = 0
let hostCalendarAtMs = 0

/** `Date.now()` has whole milliseconds: the moment it changes is exact. */
function readHostCalendar(): void {
  const before = Date.now()
  let now = before
  while (now === before) now = Date.now()
  hostCalendarMs = now
  hostCalendarAtMs = performance.now()
}

/** One Redis connection that asks for nothing but `TIME`. */
export class ClockProbe {
  readonly samples: ClockSample[] = []
  /** How often an answer was earlier than the one before. */
  wentBack = 0
  /** Why it ended early. */
  failure: Error | undefined
  readonly #socket: Socket
  readonly #intervalMs: number
  #received = ''
  #onAnswer: ((microseconds: number) => void) | undefined
  #onClosed: ((error: Error) => void) | undefined
  #isStopping = false
  #finished: Promise<void> = Promise.resolve()

  private constructor(socket: Socket, intervalMs: number) {
    this.#socket = socket
    this.#intervalMs = intervalMs
    socket.setEncoding('latin1')
    socket.on('data', (text: string) => this.#onData(text))
    socket.on('error', () => socket.destroy())
    socket.on('close', () => this.#onClosed?.(new Error('the connection was closed')))
  }

  static async start(port: number, intervalMs: number): Promise<ClockProbe> {
    const socket = createConnection({ host: '127.0.0.1', port, noDelay: true })
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    const probe = new ClockProbe(socket, intervalMs)
    probe.#finished = probe.#run().catch((error: Error) => {
      probe.failure = error
    })
    return probe
  }

  /** Ends after the answer under way. */
  async stop(): Promise<void> {
    this.#isStopping = true
    await this.#finished
    this.#socket.destroy()
  }

  async #run(): Promise<void> {
    let latest = 0
    let calendarAtMs = Number.NEGATIVE_INFINITY
    while (!this.#isStopping) {
      if (performance.now() - calendarAtMs > 1000) {
        readHostCalendar()
        calendarAtMs = performance.now()
      }
      const askedMs = hostNowMs()
      const microseconds = await this.#ask()
      const answeredMs = hostNowMs()
      if (microseconds < latest) this.wentBack++
      latest = microseconds
      const atMs = (askedMs + answeredMs) / 2
      this.samples.push({ atMs, offsetMs: microseconds / 1000 - atMs, roundTripMs: answeredMs - askedMs })
      await sleep(this.#intervalMs)
    }
  }

  #ask(): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#onAnswer = resolve
      this.#onClosed = reject
      this.#socket.write('TIME\r\n')
    })
  }

  /** The answer: an array of two strings, seconds and microseconds, each after a line with its length. */
  #onData(text: string): void {
    this.#received += text
    const lines = this.#received.split('\r\n')
    if (lines.length < 6) return
    this.#received = ''
    const microseconds = Number(lines[2]) * 1e6 + Number(lines[4])
    if (lines[0] === '*2' && Number.isSafeInteger(microseconds)) this.#onAnswer?.(microseconds)
    else this.#onClosed?.(new Error(`Redis answered "${lines.join(' ')}" to TIME`))
  }
}
