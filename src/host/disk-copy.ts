/**
 * Makes a replica's own copy of a disk equal to its primary's, while the primary's is written to, in rounds: everything
 * first, then what has changed during the round before (`disk/change-map.ts`). Both servers tell the digests of the pieces
 * (`disk/piece-digests.ts`), and what differs is read and written: a copy that followed until a moment ago costs little.
 *
 * No round makes them equal for good while the guest runs. The last one does, by its place: it begins after the moment S of
 * which the backup has the machine's state, and ends before the backup changes anything itself. What the primary changed
 * up to S is copied then. What it changes after S, copied or not, the backup's machine changes again as it replays from S on,
 * in the same order; so do the requests that were under way at S, which the state names.
 */

import { sectorBytes } from '../base/units.ts'
import { changeCounters, changePieceBytes, changesSuffix } from '../disk/change-map.ts'
import type { ReplicaPass } from '../disk/names.ts'
import { NbdClient } from '../disk/nbd-client.ts'
import { NbdError } from '../disk/nbd-error.ts'
import { digestBytes, digestsSuffix, piecesPerSector } from '../disk/piece-digests.ts'
import type { DiskPlace } from './disk-of-replica.ts'

const readsAtOnce = 16
/** When a round has left so little, the next one is short. */
const littleBytes = 8 * 1024 * 1024
/** A guest that writes faster than it is copied is not waited for. */
const maxRounds = 10

export interface CopyRound {
  /** What may have differed, and was compared. */
  readonly comparedBytes: number
  /** What did, and was written. */
  readonly changedBytes: number
}

export class DiskCopy {
  readonly #source: NbdClient
  readonly #changes: NbdClient
  readonly #target: NbdClient
  readonly #digests: readonly [ofSource: NbdClient, ofTarget: NbdClient]
  /** The counters before the round that was last. */
  #known: readonly number[] = []

  private constructor(
    source: NbdClient,
    changes: NbdClient,
    target: NbdClient,
    digests: readonly [ofSource: NbdClient, ofTarget: NbdClient],
  ) {
    this.#source = source
    this.#changes = changes
    this.#target = target
    this.#digests = digests
  }

  /** @throws NbdError */
  static async open(from: DiskPlace, to: DiskPlace, pass: ReplicaPass): Promise<DiskCopy> {
    const clients: NbdClient[] = []
    const connect = async ({ endpoint, exportName }: DiskPlace, as?: ReplicaPass): Promise<NbdClient> => {
      const client = await NbdClient.connect({ ...endpoint, exportName, ...(as ? { pass: as } : {}) })
      clients.push(client)
      return client
    }
    try {
      const source = await connect(from)
      const beside = ({ endpoint, exportName }: DiskPlace, suffix: string): Promise<NbdClient> =>
        connect({ endpoint, exportName: `${exportName}${suffix}` })
      const changes = await beside(from, changesSuffix)
      const target = await connect(to, pass)
      if (target.sizeBytes !== source.sizeBytes) {
        const sizes = `has ${target.sizeBytes} bytes, and the primary's has ${source.sizeBytes}`
        throw new NbdError('refused', `${to.exportName}, the own copy of a disk, ${sizes}: make it as large`)
      }
      const digests = [await beside(from, digestsSuffix), await beside(to, digestsSuffix)] as const
      return new DiskCopy(source, changes, target, digests)
    } catch (error) {
      for (const client of clients) client.destroy()
      throw error
    }
  }

  get sizeBytes(): number {
    return this.#source.sizeBytes
  }

  /** Rounds until little is left to compare. @throws NbdError */
  async begin(onRound: (round: CopyRound) => void): Promise<void> {
    for (let rounds = 0; rounds < maxRounds; rounds++) {
      const round = await this.round()
      onRound(round)
      if (rounds > 0 && round.comparedBytes <= littleBytes) return
    }
  }

  /** Durable when it resolves. @throws NbdError also when the primary's disk server is another one than before */
  async round(): Promise<CopyRound> {
    const counters = changeCounters(await this.#changes.read(0, this.#changes.sizeBytes), this.sizeBytes)
    const pieces = counters.flatMap((count, piece) => (this.#known[piece] === count ? [] : [piece]))
    this.#known = counters
    const comparedBytes = pieces.length * changePieceBytes
    const groups = [...Map.groupBy(pieces, (piece) => Math.floor(piece / piecesPerSector))]
    const changes = await Promise.all(Array.from({ length: readsAtOnce }, () => this.#copySome(groups)))
    await this.#target.flush()
    return { comparedBytes, changedBytes: changes.reduce((sum, bytes) => sum + bytes, 0) }
  }

  async close(): Promise<void> {
    const clients = [this.#source, this.#changes, this.#target, ...this.#digests]
    await Promise.all(clients.map((client) => client.close()))
  }

  /** Takes groups of pieces until there are none. @returns bytes that were written */
  async #copySome(groups: [sector: number, pieces: number[]][]): Promise<number> {
    let changedBytes = 0
    for (let group = groups.pop(); group !== undefined; group = groups.pop()) {
      const [sector, pieces] = group
      const [good, own] = await Promise.all(
        this.#digests.map((digests) => digests.read(sector * sectorBytes, sectorBytes)),
      )
      for (const piece of pieces) {
        const at = (piece % piecesPerSector) * digestBytes
        if (good!.compare(own!, at, at + digestBytes, at, at + digestBytes) === 0) continue
        changedBytes += await this.#copy(piece)
      }
    }
    return changedBytes
  }

  /** @returns its length */
  async #copy(piece: number): Promise<number> {
    const offset = piece * changePieceBytes
    const lengthBytes = Math.min(changePieceBytes, this.sizeBytes - offset)
    await this.#target.write(offset, await this.#source.read(offset, lengthBytes))
    return lengthBytes
  }
}
