/**
 * One order for requests to a disk that overlap, one of them a change: the later one begins when the earlier one has ended.
 * A request that asks for it also waits for every change before it, as a flush must that is to cover what its sender takes
 * for done. Requests that touch nothing in common go side by side.
 *
 * Who makes requests in this order may send each of them twice (`SteadyDisk`): whatever is written twice ends as it was.
 *
 * Knows no promise: a request begins when its turn has come, at once if nothing is in its way, and says when it has ended.
 */

interface Turn {
  readonly offset: number
  readonly end: number
  readonly isChange: boolean
  /** What waits for its end. */
  readonly waiters: (() => void)[]
}

export interface TurnRange {
  readonly offset: number
  readonly lengthBytes: number
  readonly isChange: boolean
}

export class Turns {
  readonly #turns = new Set<Turn>()

  /** Calls `begin` when everything that was asked for before, and overlaps it, has ended. It has ended itself at `over`. */
  inTurn({ offset, lengthBytes, isChange }: TurnRange, begin: (over: () => void) => void): void {
    const turn: Turn = { offset, end: offset + lengthBytes, isChange, waiters: [] }
    const earlier = [...this.#turns].filter((other) => mustPrecede(other, turn))
    this.#turns.add(turn)
    whenOver(earlier, () => begin(() => this.#finish(turn)))
  }

  /** Calls `then` when every change that was asked for before has ended. */
  afterChanges(then: () => void): void {
    const changes = [...this.#turns].filter(({ isChange }) => isChange)
    whenOver(changes, then)
  }

  #finish(turn: Turn): void {
    if (!this.#turns.delete(turn)) return
    for (const wake of turn.waiters) wake()
  }
}

function whenOver(turns: readonly Turn[], then: () => void): void {
  let left = turns.length
  if (left === 0) then()
  for (const { waiters } of turns) {
    waiters.push(() => {
      if (--left === 0) then()
    })
  }
}

function mustPrecede(earlier: Turn, later: Turn): boolean {
  return (earlier.isChange || later.isChange) && earlier.offset < later.end && later.offset < earlier.end
}
