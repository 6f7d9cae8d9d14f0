/**
 * Whom the arbiter's record names as this primary's backups, as far as it has answered, and the question that is to change
 * that. A primary may have one question open; until it is answered, any replica that it names may be eligible.
 *
 * Who went live may find others named beside it: heirs (eligibility.ts). Its first question names those of them that follow it
 * by then. They get a moment for that.
 */

import { assert } from '../base/assert.ts'
import type { BackupLinks } from './backup-links.ts'
import type { PrimaryEffect } from './effects.ts'
import type { Generation, ReplicaName } from './messages.ts'

/** Open, or to be asked (again) at `retryAtMs`. */
interface Question {
  readonly eligible: readonly ReplicaName[]
  retryAtMs: number | undefined
}

export class ListedBackups {
  readonly #links: BackupLinks
  readonly #effects: PrimaryEffect[]
  #generation: Generation
  #hasHeirs: boolean
  #names: readonly ReplicaName[] = []
  #question: Question | undefined
  /** When the first question after going live is asked, at the latest; undefined: it was. */
  #firstByMs: number | undefined

  /**
   * @param links who may be named
   * @param generation that this replica holds
   * @param hasHeirs the record names others, eligible beside it when it won
   * @param effects where questions are put, in order
   */
  constructor(links: BackupLinks, generation: Generation, hasHeirs: boolean, effects: PrimaryEffect[]) {
    this.#links = links
    this.#generation = generation
    this.#hasHeirs = hasHeirs
    this.#effects = effects
  }

  get generation(): Generation {
    return this.#generation
  }

  /** Siblings may be eligible by the last record: until this replica has named its own backups, nothing leaves. */
  get hasHeirs(): boolean {
    return this.#hasHeirs
  }

  get names(): readonly ReplicaName[] {
    return this.#names
  }

  get isAsking(): boolean {
    return this.#question !== undefined
  }

  /** When to ask (again); infinite when nothing is to be asked. */
  get dueMs(): number {
    return Math.min(this.#firstByMs ?? Number.POSITIVE_INFINITY, this.#question?.retryAtMs ?? Number.POSITIVE_INFINITY)
  }

  /** Somebody is here whom the record does not name, and may. */
  get hasNewcomers(): boolean {
    return this.#links.listableNames.some((replica) => !this.#names.includes(replica))
  }

  /** Whether the arbiter lists it, or may by now. */
  mayName(replica: ReplicaName): boolean {
    return this.#names.includes(replica) || (this.#question?.eligible.includes(replica) ?? false)
  }

  /**
   * Asks for the next generation, with the backups that are here now.
   * @param atMs not before
   */
  ask(atMs?: number): void {
    this.#put(this.#links.listableNames, atMs)
  }

  #put(eligible: readonly ReplicaName[], atMs?: number): void {
    this.#question = { eligible, retryAtMs: atMs }
    if (atMs === undefined) {
      this.#effects.push({ kind: 'openGeneration', generation: this.#generation, eligible })
    }
  }

  /** Gone live, with heirs: the first question names those that follow. @param byMs the others are not waited for any longer */
  askFirstBy(byMs: number): void {
    this.#firstByMs = byMs
    this.askFirst()
  }

  /** Asks the first question, if it was not asked and all that follow already have all that this replica has. */
  askFirst(isTimeUp = false): void {
    if (this.#firstByMs === undefined) return
    const isReady = this.#links.present.every((link) => link.mayBeListed)
    if (!isReady && !isTimeUp) return
    this.#firstByMs = undefined
    this.ask()
  }

  onTick(nowMs: number): void {
    if (this.#firstByMs !== undefined && nowMs >= this.#firstByMs) this.askFirst(true)
    const question = this.#question
    if (question?.retryAtMs !== undefined && nowMs >= question.retryAtMs) this.#put(question.eligible)
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
    this.#hasHeirs = false
    this.#question = undefined
    this.#effects.push({ kind: 'enterGeneration', generation, eligible: this.#names })
    return this.#names
  }

  /** Nothing is to be asked any more. */
  forgetQuestion(): void {
    this.#question = undefined
  }
}
