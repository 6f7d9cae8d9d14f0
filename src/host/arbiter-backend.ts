/**
 * The arbiter as a replica's host sees it: a session that is kept, and answers in the words of `replication/`. Whether the
 * arbiter was out of reach or said no is told apart; what follows from it is decided there, not here.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { ExitCode, WorldError } from '../base/assert.ts'
import { ArbiterClient, ArbiterError } from '../disk/arbiter-client.ts'
import type { Endpoint } from '../net/address.ts'
import type { ArbiterAnswer } from '../replication/effects.ts'
import type { Generation, ReplicaName } from '../replication/messages.ts'
import { ReachProbe } from '../replication/reach-probe.ts'

export interface ArbiterBackendOptions {
  readonly endpoint: Endpoint
  readonly machine: string
  readonly replica: ReplicaName
  readonly token: string
  /** A later generation has begun: this replica must stop. */
  readonly onFenced: () => void
  readonly trace: (line: string) => void
}

const answerTimeoutMs = 2000
const reconnectIntervalMs = 200
/** How long a starting machine keeps asking while the previous holder's connection is still closing. */
const startRetries = 50
const startRetryIntervalMs = 20

export class ArbiterBackend {
  readonly #options: ArbiterBackendOptions
  readonly #client: ArbiterClient
  readonly #probe = new ReachProbe(() => void this.#askForRecord())
  #isClosed = false

  constructor(options: ArbiterBackendOptions) {
    const { endpoint, machine, replica, token, onFenced } = options
    this.#options = options
    this.#client = new ArbiterClient({
      ...endpoint,
      machine,
      replica,
      token,
      onFenced,
      onSessionLost: () => void this.#keepSession(),
    })
  }

  /** Opens the session. @throws ArbiterError */
  async connect(): Promise<void> {
    await this.#client.connect(answerTimeoutMs)
  }

  /**
   * Starting a machine takes the next generation, and is refused while a holder is connected (invariant 8). A holder that
   * may be about to come back is awaited here too.
   * @param holderHasEnded no process of a holder is left
   * @throws WorldError `held-elsewhere`; ArbiterError
   */
  async takeGeneration(holderHasEnded: boolean): Promise<Generation> {
    for (let attempt = 0; ; ) {
      const answer = await this.#client.start(answerTimeoutMs, holderHasEnded)
      if (answer.granted) return answer.generation
      if (answer.reason === 'holder-connected' && attempt++ >= startRetries) {
        throw new WorldError(
          'held-elsewhere',
          `VM ${this.#options.machine} runs already: replica ${answer.holder} holds it in generation ${answer.generation}`,
          ExitCode.wrongState,
        )
      }
      await sleep(startRetryIntervalMs)
    }
  }

  /** As the holder of `generation`: opens the next one, with exactly these backups. */
  async openGeneration(generation: Generation, eligible: readonly ReplicaName[]): Promise<ArbiterAnswer> {
    return await this.#ask(async () => {
      const answer = await this.#client.openGeneration(generation, eligible, answerTimeoutMs)
      if (answer.accepted) return { result: 'granted', generation: answer.generation }
      return { result: 'refused', detail: `the machine is held by replica ${answer.holder ?? 'nobody'} now` }
    })
  }

  /** As an eligible backup of `generation`: takes over. */
  async testAndSet(generation: Generation): Promise<ArbiterAnswer> {
    return await this.#ask(async () => {
      const answer = await this.#client.testAndSet(generation, answerTimeoutMs)
      if (answer.won) return { result: 'granted', generation: answer.generation }
      return { result: 'refused', detail: `replica ${answer.holder ?? 'nobody'} holds generation ${answer.generation}` }
    })
  }

  /** Nobody holds the machine any more: a clean end. An arbiter out of reach finds out by itself. */
  async release(generation: Generation): Promise<void> {
    await this.#client.release(generation, answerTimeoutMs).catch(() => {})
  }

  /** Call at every tick. @returns whether the disk server is in reach: the arbiter is a part of it */
  onTick(): boolean {
    this.#probe.onTick()
    return this.#probe.isInReach
  }

  close(): void {
    this.#isClosed = true
    this.#client.close()
  }

  async #ask(question: () => Promise<ArbiterAnswer>): Promise<ArbiterAnswer> {
    try {
      return await question()
    } catch (error) {
      if (!(error instanceof ArbiterError)) throw error
      this.#options.trace(error.message)
      return { result: 'unreachable', detail: error.message }
    }
  }

  async #askForRecord(): Promise<void> {
    try {
      await this.#client.read(answerTimeoutMs)
      this.#probe.onAnswer()
    } catch (error) {
      if (!(error instanceof ArbiterError)) throw error
    }
  }

  /** A holder without a session would count as gone: anybody could start the machine, and it would not hear of it. */
  async #keepSession(): Promise<void> {
    this.#options.trace('arbiter: the session is lost; connecting again')
    while (!this.#isClosed) {
      try {
        await this.#client.connect(answerTimeoutMs)
        this.#options.trace('arbiter: the session is back')
        return
      } catch (error) {
        if (!(error instanceof ArbiterError)) throw error
        await sleep(reconnectIntervalMs)
      }
    }
  }
}
