/**
 * In which generation a backup may take over, as far as it knows, and who else may (VMware FT, "Detecting and responding to
 * failure": a test-and-set decides among all that think the primary is lost). It asks for that generation and for no other.
 *
 *   hello ──► going to be listed in g ──welcome──► listed in g ──missed a welcome: the arbiter says g + 1──► listed in g + 1
 *                                                      │
 *                              a sibling won g + 1 ────┴──► called, or heir of g + 1 ──its hello, its welcome──► listed by it
 *
 * A test-and-set makes one holder and leaves the other eligible ones eligible, until that holder has named backups of its
 * own. So whoever takes over may have **heirs**, and releases nothing before it has named its own; and a backup whose winner is
 * lost, too, may ask once more, as an heir.
 *
 * It asks nobody: the `Backup` does, and carries every answer here.
 */

import { assert } from '../base/assert.ts'
import type { ArbiterAnswer } from './effects.ts'
import type { Hello } from './hello.ts'
import type { Generation, Message, ReplicaName, Sibling } from './messages.ts'

export class Eligibility {
  readonly #own: ReplicaName
  /** In which it is, or is going to be, eligible. Of one that follows a winner: that winner's, until it is welcomed. */
  #generation: Generation | undefined
  /** Its primary said that the arbiter lists it. */
  #isListed = false
  /** Whom it followed last. */
  #primary: ReplicaName | undefined
  /** Listed beside it. */
  #siblings: readonly Sibling[] = []
  /** The record of the generation that it takes over may name heirs that it does not know of. */
  #mayHaveHeirs = false
  /** By the winner, whose generation it knows therefore. */
  #wasCalled = false
  /** It asked for the generation of a winner that never had backups of its own. */
  #hasAskedAsHeir = false

  constructor(own: ReplicaName) {
    this.#own = own
  }

  get known(): Generation | undefined {
    return this.#generation
  }

  /** Of one that follows a primary, or has. */
  get generation(): Generation {
    assert(this.#generation !== undefined, 'a backup that was accepted knows its generation')
    return this.#generation
  }

  get isListed(): boolean {
    return this.#isListed
  }

  get siblings(): readonly Sibling[] {
    return this.#siblings
  }

  /** Whether others may be eligible in the generation it took over: only the welcome to that very one says who they are. */
  get hasHeirs(): boolean {
    return this.#mayHaveHeirs || !this.#isListed || this.#siblings.length > 0
  }

  /**
   * A primary accepts it.
   * @param isRejoining that is the winner, which called it
   */
  onAccepted({ replica, generation }: Hello, isRejoining: boolean): void {
    // Who was called may be the winner's heir still, in the generation before the one that is to list it. So it asks for that one
    // first: the other one, if the winner is lost before, is that of a second winner, who lives.
    this.#generation = isRejoining ? generation - 1 : generation
    this.#primary = replica
    this.#wasCalled = false
    this.#hasAskedAsHeir = false
  }

  /** The state of the machine says in which generation it is going to be listed. */
  onState(generation: Generation): void {
    this.#generation = generation
  }

  /** The arbiter lists it. @returns false: in a generation that is over */
  onWelcome({ generation, backups }: Extract<Message, { kind: 'welcome' }>): boolean {
    if (this.#generation === undefined || generation < this.#generation) return false
    this.#generation = generation
    this.#isListed = true
    this.#mayHaveHeirs = false
    this.#siblings = backups.filter(({ replica }) => replica !== this.#own)
    return true
  }

  /** It holds the machine. */
  onGranted(generation: Generation): void {
    assert(generation > this.generation, 'a later generation is granted')
    this.#generation = generation
  }

  /**
   * Somebody else holds the machine; or it is the same primary, in a later generation that lists this backup too.
   * @returns what is left to it
   */
  onRefused({ holder, eligibleIn }: Extract<ArbiterAnswer, { result: 'refused' }>): 'askAgain' | 'rejoin' | 'nothing' {
    // Only in the next generation it can be this very backup that is listed. Between a backup that was dropped and another one
    // of its name lie two: a replica that was frozen meanwhile must not take its successor's place, with an old machine.
    if (eligibleIn !== undefined && eligibleIn === this.generation + 1) {
      this.#generation = eligibleIn
      this.#mayHaveHeirs = true
      return 'askAgain'
    }
    // A sibling: it calls those that its predecessor had.
    return !this.#hasAskedAsHeir && holder !== undefined && holder !== this.#primary ? 'rejoin' : 'nothing'
  }

  /**
   * Whoever calls holds `generation`. A backup that is listed, or may be by now, could win its own generation still: only a
   * later holder ends that.
   * @param isRejoining it has lost already
   * @returns false: the caller's hold is over
   */
  onCalled(generation: Generation, isRejoining: boolean): boolean {
    const last = this.#generation ?? 0
    const isLater = isRejoining ? generation >= last : generation > last
    if (!isLater) return false
    this.#generation = generation
    this.#wasCalled = true
    this.#isListed = false
    return true
  }

  /**
   * The winner has not called, or its call ended. If it was lost before it named backups of its own, whoever was eligible with
   * it is so still; it has acknowledged nothing since, and the winner has released nothing.
   * @returns false: it asked as an heir before
   */
  onWinnerLost(): boolean {
    if (this.#hasAskedAsHeir) return false
    this.#hasAskedAsHeir = true
    this.#mayHaveHeirs = true
    if (!this.#wasCalled) this.#generation = this.generation + 1
    return true
  }
}
