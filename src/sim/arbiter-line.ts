/**
 * A replica's session with the arbiter, as `ArbiterClient` and `ArbiterBackend` keep it: one connection at a time; a question
 * that gets no answer in time takes the connection with it; a session that was up and broke is opened again.
 */

import type { ArbiterAnswerOf, ArbiterQuestion } from '../disk/arbiter.ts'
import { verdictOnOpening, verdictOnTestAndSet } from '../replica/arbiter-verdicts.ts'
import type { ArbiterPort } from '../replica/replica-world.ts'
import type { ArbiterAnswer } from '../replication/effects.ts'
import type { Actor } from './actor.ts'
import type { FromArbiter, ToArbiter } from './disk-server.ts'
import { diskHost } from './names.ts'
import type { End, Network } from './network.ts'

interface Asked {
  readonly answered: (answer: ArbiterAnswerOf | undefined) => void
}

export interface ArbiterLineOptions {
  readonly actor: Actor
  readonly network: Network
  readonly replica: string
  readonly answerTimeoutMs: number
  readonly onFenced: () => void
}

const reconnectIntervalMs = 200
const noAnswer: ArbiterAnswer = { result: 'unreachable', detail: 'no answer' }

export class ArbiterLine implements ArbiterPort {
  readonly #options: ArbiterLineOptions
  #end: End<ToArbiter, FromArbiter> | undefined
  #isConnecting = false
  #isEstablished = false
  #isClosed = false
  #held: number | undefined
  #nextId = 1
  /** Counts connections: an answer to an old one's attempt is for nobody. */
  #attempt = 0
  #asked = new Map<number, Asked>()
  #unsent: ToArbiter[] = []

  constructor(options: ArbiterLineOptions) {
    this.#options = options
  }

  /** For faults: the next answer to it gets lost, if there is a connection. */
  loseNextAnswer(): boolean {
    this.#end?.peer.loseNext(1)
    return this.#end !== undefined
  }

  connect(): void {
    if (this.#end || this.#isConnecting || this.#isClosed) return
    const { actor, network, replica } = this.#options
    this.#isConnecting = true
    const attempt = ++this.#attempt
    network.connect<ToArbiter, FromArbiter>(actor, diskHost, 'arbiter', (end) => {
      if (attempt !== this.#attempt || this.#isClosed) {
        end?.close()
        return
      }
      this.#isConnecting = false
      if (!end) {
        this.#lose()
        return
      }
      this.#end = end
      end.listen({ onMessage: (message) => this.#onMessage(message), onClosed: () => this.#lose() })
      end.send({ kind: 'hello', id: 0, replica, held: this.#held })
    })
  }

  /** @param answered gets undefined if the arbiter is out of reach, or its answer got lost */
  ask(question: ArbiterQuestion, answered: (answer: ArbiterAnswerOf | undefined) => void): void {
    const { actor, answerTimeoutMs } = this.#options
    const id = this.#nextId++
    const asked: Asked = { answered }
    this.#asked.set(id, asked)
    const message: ToArbiter = { kind: 'ask', id, question }
    if (this.#end && this.#isEstablished) this.#end.send(message)
    else {
      this.#unsent.push(message)
      this.connect()
    }
    actor.after(answerTimeoutMs * 1000, () => {
      if (this.#asked.get(id) === asked) this.#lose()
    })
  }

  openGeneration(generation: number, eligible: readonly string[], answered: (answer: ArbiterAnswer) => void): void {
    this.ask({ op: 'openGeneration', generation, eligible }, (answer) =>
      answered(answer && 'accepted' in answer ? verdictOnOpening(answer) : noAnswer),
    )
  }

  testAndSet(generation: number, answered: (answer: ArbiterAnswer) => void): void {
    this.ask({ op: 'testAndSet', generation }, (answer) =>
      answered(answer && 'won' in answer ? verdictOnTestAndSet(answer) : noAnswer),
    )
  }

  close(): void {
    this.#isClosed = true
    this.#asked.clear()
    this.#end?.close()
  }

  #onMessage(message: FromArbiter): void {
    if (message.kind === 'fenced') {
      this.#held = undefined
      this.#options.onFenced()
      return
    }
    if (message.id === 0) {
      this.#isEstablished = true
      for (const unsent of this.#unsent.splice(0)) this.#end!.send(unsent)
      return
    }
    const asked = this.#asked.get(message.id)
    this.#asked.delete(message.id)
    const { answer } = message
    if (!asked || !answer) return
    const isGranted = ('won' in answer && answer.won) || ('granted' in answer && answer.granted)
    if (isGranted || ('accepted' in answer && answer.accepted)) this.#held = answer.generation
    asked.answered(answer)
  }

  #lose(): void {
    const wasEstablished = this.#isEstablished
    this.#isEstablished = false
    this.#isConnecting = false
    this.#attempt++
    this.#end?.close()
    this.#end = undefined
    this.#unsent = []
    const asked = [...this.#asked.values()]
    this.#asked.clear()
    for (const { answered } of asked) answered(undefined)
    if (wasEstablished && !this.#isClosed) this.#keepSession()
  }

  #keepSession(): void {
    this.connect()
    this.#options.actor.after(reconnectIntervalMs * 1000, () => {
      if (!this.#isEstablished && !this.#isClosed) this.#keepSession()
    })
  }
}
