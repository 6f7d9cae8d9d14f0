/**
 * A hart in its replica's own thread: for a guest that does not run on before an acknowledgement has come (the original P2 of
 * Bressoud & Schneider), at the end of every epoch.
 *
 *   socket ── ack ──► Primary ──► hart: the next epoch ──► Primary ── entries ──► socket          all in one callback
 *
 * On a thread of its own the hart would be woken for each acknowledgement, and the replica for each epoch: two hand-overs
 * between threads, each as long as the guest's whole epoch and more. Here an epoch costs what the channel costs. While
 * it waits the thread is free for everything else, which in turn waits for a slice of the guest at most.
 */

import { defaultHartPolicy, type HartPolicy } from '../replica/hart-world.ts'
import type { HartSettings, ToHartThread } from './hart-messages.ts'
import { createHartOfHost, type HartOfHost } from './hart-of-host.ts'
import type { HartRunner, HartRunnerEvents } from './hart-runner.ts'

/** Sockets wait for a turn to end, so no turn is long. */
const policy: HartPolicy = { ...defaultHartPolicy, replaySliceInstructions: 100_000n, batchNs: 200_000n }

export class HartInPlace implements HartRunner {
  readonly #hart: HartOfHost
  readonly #events: HartRunnerEvents
  readonly #inbox: ToHartThread[] = []
  #isRung = false
  /** A turn comes by itself, at once. */
  #isPlanned = false
  #timer: NodeJS.Timeout | undefined
  /** Until then it takes no turn, whoever rings. */
  #isResting = false
  /** Stopped, failed, or it hangs. */
  #hasEnded = false

  constructor(settings: HartSettings, events: HartRunnerEvents) {
    this.#events = events
    this.#hart = createHartOfHost(settings, policy, {
      post: (message) => events.onMessage(message),
      isRung: () => this.#isRung,
    })
    this.#plan()
  }

  /** It is heard between two turns, as on a thread of its own: never from within what it says itself. */
  send(message: ToHartThread): void {
    this.#inbox.push(message)
    this.ring()
  }

  ring(): void {
    this.#isRung = true
    this.#plan()
  }

  async stop(): Promise<void> {
    const { profiler } = this.#hart
    if (profiler && !this.#hasEnded) this.#events.onMessage({ kind: 'profile', profile: profiler.profile })
    this.#end()
  }

  /** When the present callback has done its work: before anything else that waits. */
  #plan(): void {
    if (this.#isPlanned || this.#isResting || this.#hasEnded) return
    this.#isPlanned = true
    clearTimeout(this.#timer)
    process.nextTick(() => this.#turn())
  }

  #turn(): void {
    if (this.#hasEnded) return
    try {
      this.#takeTurn()
    } catch (error) {
      this.#end()
      this.#events.onFailed(error as Error)
    }
  }

  #takeTurn(): void {
    const { driver, countTurn } = this.#hart
    countTurn()
    this.#isRung = false
    for (let message = this.#inbox.shift(); message; message = this.#inbox.shift()) {
      if (message.kind === 'fault') this.#fail(message.fault)
      else if (message.kind !== 'stop') driver.onMessage(message)
    }
    if (this.#hasEnded) return
    const turn = driver.turn()
    this.#isPlanned = false
    if (turn === 'again') this.#planAfterOthers()
    else if ('restNs' in turn) this.#rest(turn.restNs)
    else if (this.#isRung) this.#plan()
    else if (turn.sleepUntilNs !== undefined) this.#sleepUntil(turn.sleepUntilNs)
  }

  /** Whoever else has something to do on this thread comes first. */
  #planAfterOthers(): void {
    this.#isPlanned = true
    setImmediate(() => this.#turn())
  }

  #sleepUntil(untilNs: bigint): void {
    const sleepMs = Number(untilNs - process.hrtime.bigint()) / 1e6
    if (sleepMs <= 0) this.#planAfterOthers()
    else this.#timer = setTimeout(() => this.#plan(), Math.ceil(sleepMs))
  }

  #rest(restNs: bigint): void {
    this.#isResting = true
    this.#timer = setTimeout(() => {
      this.#isResting = false
      this.#plan()
    }, Number(restNs) / 1e6)
  }

  /** Fault trials: what a bug of ours could do to it. */
  #fail(fault: 'die' | 'hang'): void {
    if (fault === 'die') throw new Error('a fault was injected')
    this.#end()
  }

  #end(): void {
    this.#hasEnded = true
    clearTimeout(this.#timer)
  }
}
