/**
 * The arbiter's rules about one machine, as a pure value: who holds it, in which generation, and which replicas may take
 * it over (ARCHITECTURE, invariant 8; VMware FT's test-and-set on shared storage). Every operation returns its answer and
 * the next record; it is the caller's duty to make that record durable BEFORE the answer leaves.
 *
 *   nobody ──start──► held in g ──testAndSet by an eligible replica──► held in g + 1 by the winner
 *      ▲                 │  │ ▲
 *      └────release──────┘  └─┘ setEligible (same g), openGeneration (g + 1, same holder)
 *
 * Only start and testAndSet change the holder. A holder that merely vanishes stays the holder in the record.
 *
 * A backup that takes over leaves the others eligible, its *heirs*: they have all that the last holder released, and the winner
 * releases nothing before it has named its own backups by `openGeneration`. So a second loss in between is a takeover like any.
 *
 * A replica that was dropped in generation g, or asked for g and lost, is *spent*: it cannot become eligible in g again,
 * because a late copy of its old question could then win. A holder that wants it back opens the next generation.
 */

/** What stands on stable storage. */
export interface ArbiterRecordFields {
  readonly machine: string
  /** 0 until the machine was first started. Never goes down. */
  readonly generation: number
  readonly holder: string | null
  /** First generation of the holder's unbroken hold: its requests are good from here up to `generation`. */
  readonly heldSince: number
  /** `elsewhere`: by the word of an arbiter that is not this one (`adopt`). */
  readonly takenBy: 'nobody' | 'start' | 'testAndSet' | 'elsewhere'
  /** Replicas that may take over `generation`. */
  readonly eligible: readonly string[]
  /** Replicas that may not become eligible in `generation` any more. */
  readonly spent: readonly string[]
}

/** An answer, and the record that must be durable before it is given (the same object when nothing changed). */
export interface Ruling<Answer> {
  readonly answer: Answer
  readonly next: ArbiterRecord
}

/**
 * Why a machine that has a holder cannot be started: `holder-connected`, it lives; `holder-awaited`, it was here a moment
 * ago, or the arbiter was not, so that it may be about to come back.
 */
export type StartObstacle = 'holder-connected' | 'holder-awaited'

export type StartAnswer =
  | { readonly granted: true; readonly generation: number }
  | {
      readonly granted: false
      readonly reason: StartObstacle
      readonly generation: number
      readonly holder: string
    }

export type TestAndSetAnswer =
  | { readonly won: true; readonly generation: number }
  | {
      readonly won: false
      readonly generation: number
      readonly holder: string | null
      /** Whoever asked is eligible in `generation`, which it did not ask for: it may ask for that. */
      readonly isEligible: boolean
    }

export type HolderAnswer =
  | { readonly accepted: true; readonly generation: number }
  | {
      readonly accepted: false
      /** `not-holder`: the caller's hold is over or was never. `spent`: a named replica needs a new generation. */
      readonly reason: 'not-holder' | 'spent'
      readonly generation: number
      readonly holder: string | null
    }

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name) => b.includes(name))
}

function withoutRepeats(names: readonly string[]): readonly string[] {
  return [...new Set(names)]
}

export class ArbiterRecord {
  readonly fields: ArbiterRecordFields

  constructor(fields: ArbiterRecordFields) {
    this.fields = fields
  }

  /** The record of a machine that was never started. */
  static fresh(machine: string): ArbiterRecord {
    return new ArbiterRecord({
      machine,
      generation: 0,
      holder: null,
      heldSince: 0,
      takenBy: 'nobody',
      eligible: [],
      spent: [],
    })
  }

  /** Whether `replica`, which took the machine in `generation`, holds it still. */
  isHeldBy(replica: string, generation: number): boolean {
    const { holder, heldSince } = this.fields
    return holder === replica && heldSince <= generation && generation <= this.fields.generation
  }

  /** Starting a machine takes the next generation, unless its holder lives, or may live. */
  start(replica: string, obstacle?: StartObstacle): Ruling<StartAnswer> {
    const { generation, holder } = this.fields
    if (holder !== null && obstacle !== undefined) {
      return { answer: { granted: false, reason: obstacle, generation, holder }, next: this }
    }
    const next = this.#takenOver(replica, 'start')
    return { answer: { granted: true, generation: next.fields.generation }, next }
  }

  /** Asks to take over `generation`. The first eligible replica wins; its retry is answered the same. */
  testAndSet(replica: string, generation: number): Ruling<TestAndSetAnswer> {
    const { fields } = this
    const isRetryByWinner =
      fields.holder === replica && fields.takenBy === 'testAndSet' && fields.heldSince === generation + 1
    if (isRetryByWinner) return { answer: { won: true, generation: fields.heldSince }, next: this }
    if (generation === fields.generation && fields.holder !== null && fields.eligible.includes(replica)) {
      const next = this.#takenOver(replica, 'testAndSet')
      return { answer: { won: true, generation: next.fields.generation }, next }
    }
    // An heir is told nothing: it is for the winner to call it.
    const isOfThisHold = generation >= fields.heldSince
    const isEligible = fields.holder !== null && isOfThisHold && fields.eligible.includes(replica)
    const answer = { won: false, generation: fields.generation, holder: fields.holder, isEligible } as const
    const isNewlySpent =
      generation === fields.generation && replica !== fields.holder && !fields.spent.includes(replica)
    return { answer, next: isNewlySpent ? this.#with({ spent: [...fields.spent, replica] }) : this }
  }

  /** The holder names the replicas whose acknowledgements it waits for: they, and only they, may take over. */
  setEligible(replica: string, generation: number, eligible: readonly string[]): Ruling<HolderAnswer> {
    const { fields } = this
    if (fields.holder !== replica || fields.generation !== generation) return this.#refusal('not-holder')
    const names = withoutRepeats(eligible)
    if (names.some((name) => fields.spent.includes(name))) return this.#refusal('spent')
    const answer = { accepted: true, generation } as const
    if (sameNames(names, fields.eligible)) return { answer, next: this }
    const dropped = fields.eligible.filter((name) => !names.includes(name))
    return { answer, next: this.#with({ eligible: names, spent: withoutRepeats([...fields.spent, ...dropped]) }) }
  }

  /** The holder goes on in the next generation, with backups of its choice. Its open disk connections stay good. */
  openGeneration(replica: string, generation: number, eligible: readonly string[]): Ruling<HolderAnswer> {
    const { fields } = this
    const names = withoutRepeats(eligible)
    const isRetry =
      fields.generation === generation + 1 && this.isHeldBy(replica, generation) && sameNames(names, fields.eligible)
    if (isRetry) return { answer: { accepted: true, generation: fields.generation }, next: this }
    if (fields.holder !== replica || fields.generation !== generation) return this.#refusal('not-holder')
    const next = this.#with({ generation: generation + 1, eligible: names, spent: [] })
    return { answer: { accepted: true, generation: generation + 1 }, next }
  }

  /** Clean power-off: nobody holds the machine, and nobody may take it over. */
  release(replica: string, generation: number): Ruling<HolderAnswer> {
    const { fields } = this
    const accepted = { accepted: true, generation: fields.generation } as const
    if (fields.holder === null && fields.generation === generation) return { answer: accepted, next: this }
    if (!this.isHeldBy(replica, generation)) return this.#refusal('not-holder')
    return { answer: accepted, next: this.#with({ holder: null, takenBy: 'nobody', eligible: [] }) }
  }

  /**
   * Another arbiter granted the machine, and `replica`, which shows the machine's secret, says in which generation. A grant
   * has one holder, so the highest generation that was ever shown is the newest hold known here. An older one is refused.
   */
  adopt(replica: string, generation: number): Ruling<HolderAnswer> {
    if (this.isHeldBy(replica, generation)) return { answer: { accepted: true, generation }, next: this }
    if (generation <= this.fields.generation) return this.#refusal('not-holder')
    const grant = { generation, holder: replica, heldSince: generation, takenBy: 'elsewhere' } as const
    return { answer: { accepted: true, generation }, next: this.#with({ ...grant, eligible: [], spent: [] }) }
  }

  #takenOver(holder: string, takenBy: 'start' | 'testAndSet'): ArbiterRecord {
    const generation = this.fields.generation + 1
    const heirs = takenBy === 'testAndSet' ? this.fields.eligible.filter((name) => name !== holder) : []
    return this.#with({ generation, holder, heldSince: generation, takenBy, eligible: heirs, spent: [] })
  }

  #refusal(reason: 'not-holder' | 'spent'): Ruling<HolderAnswer> {
    const { generation, holder } = this.fields
    return { answer: { accepted: false, reason, generation, holder }, next: this }
  }

  #with(changes: Partial<ArbiterRecordFields>): ArbiterRecord {
    return new ArbiterRecord({ ...this.fields, ...changes })
  }
}
