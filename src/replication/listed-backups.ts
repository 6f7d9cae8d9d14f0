/**
 * Whom the arbiter's record names as this primary's backups, as far as it has answered, and the question that is to change
 * that. A primary may have one question open; until it is answered, any replica that it names may be eligible.
 */

import { assert } from '../base/assert.ts'
import type { PrimaryEffect } from './effects.ts'
import type { Generation, ReplicaName } from './messages.ts'

/** Open, or to be asked (again) at `retryAtMs`. */
interface Question {
  readonly eligible: readonly ReplicaName[]
  retryAtMs: number | undefined
}

export class ListedBackups {
  readonly #effects: PrimaryEffect[]
  #generation: Generation
  #names: readonly ReplicaName[] = []
  #question: Question | undefined

  /**
   * @param generation that this replica holds
   * @param effects where questions are put, in order
   */
  constructor(generation: Generation, effects: PrimaryEffect[]) {
    this.#generation = generation
    this.#effects = effects
  }

  get generation(): Generation {
    return this.#generation
  }

  get names(): readonly ReplicaName[] {
    return this.#names
  }

  get isAsking(): boolean {
    return this.#question !== undefined
  }

  /** When to ask again; infinite when nothing is to be asked. */
  get dueMs(): number {
    return this.#question?.retryAtMs ?? Number.POSITIVE_INFINITY
  }

  /** Whether the arbiter lists it, or may by now. */
  mayName(replica: ReplicaName): boolean {
    return this.#names.includes(replica) || (this.#question?.eligible.includes(replica) ?? false)
  }

  /**
   * Asks for the next generation, with these backups.
   * @param atMs not before
   */
  ask(eligible: readonly ReplicaName[], atMs?: number): void {
    this.#question = { eligible, retryAtMs: atMs }
    if (atMs === undefined) {
      this.#effects.push({ kind: 'openGeneration', generation: this.#generation, eligible })
    }
  }

  onTick(nowMs: number): void {
    if (this.#question && nowMs >= this.dueMs) this.ask(this.#question.eligible)
  }

  /** The arbiter is out of reach: the same question again, later. */
  retryAt(retryAtMs: number): void {
    if (this.#question) this.#question.retryAtMs = retryAtMs
  }

  /** @returns whom the record names now */
  onGranted(generation: Generation): readonly ReplicaName[] {
    assert(this.#question !== undefined, 'an answer has a question')
    assert(generation === this.#generation + 1, `generation ${generation} granted after ${this.#generation}`)
    this.#generation = generation
    this.#names = this.#question.eligible
    this.#question = undefined
    this.#effects.push({ kind: 'enterGeneration', generation, eligible: this.#names })
    return this.#names
  }

  /** Nothing is to be asked any more. */
  forgetQuestion(): void {
    this.#question = undefined
  }
}
