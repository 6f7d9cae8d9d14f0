/**
 * One order for requests to a disk that overlap, one of them a change: the later one begins when the earlier one has ended.
 * A request that asks for it also waits for every change before it, as a flush must that is to cover what its sender takes
 * for done. Requests that touch nothing in common go side by side.
 *
 * Who makes requests in this order may send each of them twice (`SteadyDisk`): whatever is written twice ends as it was.
 */

interface Turn {
  readonly offset: number
  readonly end: number
  readonly isChange: boolean
  readonly done: Promise<void>
}

export class Turns {
  readonly #turns = new Set<Turn>()

  /** Does `work` when everything that was asked for before, and overlaps it, has ended. */
  async inTurn<Result>(
    range: { readonly offset: number; readonly lengthBytes: number; readonly isChange: boolean },
    work: () => Promise<Result>,
  ): Promise<Result> {
    const { promise: done, resolve: finish } = Promise.withResolvers<void>()
    const { offset, lengthBytes, isChange } = range
    const turn: Turn = { offset, end: offset + lengthBytes, isChange, done }
    const earlier = [...this.#turns].filter((other) => mustPrecede(other, turn))
    this.#turns.add(turn)
    try {
      for (const other of earlier) await other.done
      return await work()
    } finally {
      this.#turns.delete(turn)
      finish()
    }
  }

  /** Does `work` when every change that was asked for before has ended. */
  async afterChanges<Result>(work: () => Promise<Result>): Promise<Result> {
    const changes = [...this.#turns].filter(({ isChange }) => isChange)
    for (const change of changes) await change.done
    return await work()
  }
}

function mustPrecede(earlier: Turn, later: Turn): boolean {
  return (earlier.isChange || later.isChange) && earlier.offset < later.end && later.offset < earlier.end
}
