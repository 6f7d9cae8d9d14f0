/**
 * A replica's own copy of a disk, made equal to its primary's over NBD: the connections of a `CopyRounds`
 * (replica/copy-rounds.ts), which decides what is compared and copied.
 */

import { sectorBytes } from '../base/units.ts'
import { changeCounters, changePieceBytes, changesSuffix } from '../disk/change-map.ts'
import type { ReplicaPass } from '../disk/names.ts'
import { NbdClient } from '../disk/nbd-client.ts'
import { NbdError } from '../disk/nbd-error.ts'
import { digestBytes, digestsSuffix, piecesPerSector } from '../disk/piece-digests.ts'
import { tellOutcome } from '../disk/tell-outcome.ts'
import { type CopiedPair, type CopyRound, CopyRounds } from '../replica/copy-rounds.ts'
import type { DiskPlace } from './disk-of-replica.ts'

/** When a round has left so little, the next one is short. */
const littleBytes = 8 * 1024 * 1024
export class DiskCopy {
  readonly #source: NbdClient
  readonly #changes: NbdClient
  readonly #target: NbdClient
  readonly #digests: readonly [ofSource: NbdClient, ofTarget: NbdClient]
  readonly #rounds: CopyRounds

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
    this.#rounds = new CopyRounds(this.#pair(), littleBytes)
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
  begin(onRound: (round: CopyRound) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#rounds.begin(onRound, (error) => (error ? reject(error) : resolve()))
    })
  }

  /** Durable when it resolves. @throws NbdError also when the primary's disk server is another one than before */
  round(): Promise<CopyRound> {
    return new Promise((resolve, reject) => {
      this.#rounds.round((round) => (round instanceof NbdError ? reject(round) : resolve(round)))
    })
  }

  async close(): Promise<void> {
    const clients = [this.#source, this.#changes, this.#target, ...this.#digests]
    await Promise.all(clients.map((client) => client.close()))
  }

  #pair(): CopiedPair {
    return {
      pieceBytes: changePieceBytes,
      piecesPerGroup: piecesPerSector,
      countChanges: (done) => tellOutcome(this.#countChanges(), done),
      compareGroup: (group, done) => tellOutcome(this.#compareGroup(group), done),
      copyPiece: (piece, done) => tellOutcome(this.#copyPiece(piece), done),
      flush: (done) => tellOutcome(this.#flush(), done),
    }
  }

  async #countChanges(): Promise<number[]> {
    return changeCounters(await this.#changes.read(0, this.#changes.sizeBytes), this.sizeBytes)
  }

  async #compareGroup(group: number): Promise<(piece: number) => boolean> {
    const [good, own] = await Promise.all(
      this.#digests.map((digests) => digests.read(group * sectorBytes, sectorBytes)),
    )
    return (piece) => {
      const at = (piece % piecesPerSector) * digestBytes
      return good!.compare(own!, at, at + digestBytes, at, at + digestBytes) === 0
    }
  }

  async #copyPiece(piece: number): Promise<number> {
    const offset = piece * changePieceBytes
    const lengthBytes = Math.min(changePieceBytes, this.sizeBytes - offset)
    await this.#target.write(offset, await this.#source.read(offset, lengthBytes))
    return lengthBytes
  }

  async #flush(): Promise<undefined> {
    await this.#target.flush()
  }
}
