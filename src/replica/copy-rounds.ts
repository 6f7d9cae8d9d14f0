/**
 * Makes a replica's own copy of a disk equal to its primary's, while the primary's is written to, in rounds: everything
 * first, then what has changed during the round before (`disk/change-map.ts`). Both servers tell the digests of the pieces
 * (`disk/piece-digests.ts`), and what differs is read and written: a copy that followed until a moment ago costs little.
 *
 * No round makes them equal for good while the guest runs. The last one does, by its place: it begins after the moment S of
 * which the backup has the machine's state, and ends before the backup changes anything itself. What the primary changed
 * up to S is copied then. What it changes after S, copied or not, the backup's machine changes again as it replays from S on,
 * in the same order; so do the requests that were under way at S, which the state names.
 *
 * Sans I/O: how the two copies are read and written is its caller's.
 */

import { NbdError } from '../disk/nbd-error.ts'

const copiesAtOnce = 16
/** A guest that writes faster than it is copied is not waited for. */
const maxRounds = 10

/** The two copies. An error ends a round; the next one begins with new connections, and so with everything. */
export interface CopiedPair {
  readonly pieceBytes: number
  /** Of so many pieces, side by side from a multiple of it on, the digests are told together. */
  readonly piecesPerGroup: number
  /** How often each piece of the primary's copy has changed. */
  countChanges(done: (counters: readonly number[] | NbdError) => void): void
  /** Whether a piece of this group is the same in both copies. */
  compareGroup(group: number, done: (isSame: ((piece: number) => boolean) | NbdError) => void): void
  /** Makes a piece as the primary's is. @returns its length */
  copyPiece(piece: number, done: (lengthBytes: number | NbdError) => void): void
  /** What was copied so far is durable. */
  flush(done: (error: NbdError | undefined) => void): void
}

export interface CopyRound {
  /** What may have differed, and was compared. */
  readonly comparedBytes: number
  /** What did, and was written. */
  readonly changedBytes: number
}

export class CopyRounds {
  readonly #pair: CopiedPair
  readonly #littleBytes: number
  /** The counters before the round that was last. */
  #known: readonly number[] = []

  /** @param littleBytes when a round has left so little, the next one is short */
  constructor(pair: CopiedPair, littleBytes: number) {
    this.#pair = pair
    this.#littleBytes = littleBytes
  }

  /** Rounds until little is left to compare. */
  begin(onRound: (round: CopyRound) => void, done: (error: NbdError | undefined) => void): void {
    let rounds = 0
    const next = (): void =>
      this.round((round) => {
        if (round instanceof NbdError) {
          done(round)
          return
        }
        onRound(round)
        rounds++
        if (rounds === maxRounds || (rounds > 1 && round.comparedBytes <= this.#littleBytes)) done(undefined)
        else next()
      })
    next()
  }

  /** Durable when it is done. */
  round(done: (round: CopyRound | NbdError) => void): void {
    const { pieceBytes, piecesPerGroup } = this.#pair
    this.#pair.countChanges((counters) => {
      if (counters instanceof NbdError) {
        done(counters)
        return
      }
      const pieces = counters.flatMap((count, piece) => (this.#known[piece] === count ? [] : [piece]))
      this.#known = counters
      const groups = [...Map.groupBy(pieces, (piece) => Math.floor(piece / piecesPerGroup))]
      this.#copyGroups(groups, (changedBytes) => {
        if (changedBytes instanceof NbdError) {
          done(changedBytes)
          return
        }
        this.#pair.flush((error) => done(error ?? { comparedBytes: pieces.length * pieceBytes, changedBytes }))
      })
    })
  }

  /** So many at once; the first error ends it. */
  #copyGroups(
    groups: [group: number, pieces: readonly number[]][],
    done: (changedBytes: number | NbdError) => void,
  ): void {
    let changedBytes = 0
    let busy = Math.min(copiesAtOnce, groups.length)
    let isFailed = false
    const fail = (error: NbdError): void => {
      if (isFailed) return
      isFailed = true
      done(error)
    }
    const next = (): void => {
      if (isFailed) return
      const group = groups.pop()
      if (group) {
        this.#copyGroup(...group, (bytes) => {
          if (bytes instanceof NbdError) fail(bytes)
          else {
            changedBytes += bytes
            next()
          }
        })
      } else if (--busy === 0) done(changedBytes)
    }
    if (busy === 0) done(0)
    for (let worker = busy; worker > 0; worker--) next()
  }

  /** Its pieces that differ, one after the other. */
  #copyGroup(group: number, pieces: readonly number[], done: (changedBytes: number | NbdError) => void): void {
    this.#pair.compareGroup(group, (isSame) => {
      if (isSame instanceof NbdError) {
        done(isSame)
        return
      }
      const differing = pieces.filter((piece) => !isSame(piece))
      let changedBytes = 0
      const next = (): void => {
        const piece = differing.shift()
        if (piece === undefined) {
          done(changedBytes)
          return
        }
        this.#pair.copyPiece(piece, (bytes) => {
          if (bytes instanceof NbdError) done(bytes)
          else {
            changedBytes += bytes
            next()
          }
        })
      }
      next()
    })
  }
}
