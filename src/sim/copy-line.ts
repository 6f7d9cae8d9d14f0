/** A backup's way to its primary's copy of the disk: the real `CopyRounds` over fake connections, two of them. */

import { WorldError } from '../base/assert.ts'
import { formatExportName } from '../disk/names.ts'
import { NbdError } from '../disk/nbd-error.ts'
import type { DiskWork } from '../disk/steady-requests.ts'
import { type CopiedPair, CopyRounds } from '../replica/copy-rounds.ts'
import type { Actor } from './actor.ts'
import { openDisk, type SimDiskLink } from './disk-link.ts'
import { pieceBytes } from './disk-server.ts'
import { copyAddress, copyName, machineName, token } from './names.ts'
import type { Network } from './network.ts'

/** So many digests are told together, whatever their number. */
const piecesPerGroup = 4

export interface CopyLineOptions {
  readonly actor: Actor
  readonly network: Network
  readonly replica: string
  /** The primary's host. */
  readonly peer: string
}

export class CopyLine {
  readonly #rounds: CopyRounds
  readonly #links: readonly SimDiskLink[]

  private constructor(source: SimDiskLink, target: SimDiskLink) {
    this.#links = [source, target]
    this.#rounds = new CopyRounds(pairOf(source, target), pieceBytes)
  }

  static open({ actor, network, replica, peer }: CopyLineOptions, done: (line: CopyLine | WorldError) => void): void {
    const route = (of: string, exportName: string) => ({
      actor,
      network,
      host: of,
      address: copyAddress(of),
      exportName,
    })
    openDisk(
      route(peer, copyName(peer)),
      (source) => {
        if (source instanceof WorldError) {
          done(source)
          return
        }
        const pass = { machine: machineName, generation: 0, replica, token }
        openDisk(
          route(replica, formatExportName(copyName(replica), pass)),
          (target) => {
            if (target instanceof WorldError) source.destroy()
            done(target instanceof WorldError ? target : new CopyLine(source, target))
          },
          () => {},
        )
      },
      () => {},
    )
  }

  begin(done: (error: NbdError | undefined) => void): void {
    this.#rounds.begin(() => {}, done)
  }

  /** The last round. */
  finish(done: (error: NbdError | undefined) => void): void {
    this.#rounds.round((round) => {
      this.close()
      done(round instanceof NbdError ? round : undefined)
    })
  }

  close(): void {
    for (const link of this.#links) link.destroy()
  }
}

function pairOf(source: SimDiskLink, target: SimDiskLink): CopiedPair {
  return {
    pieceBytes,
    piecesPerGroup,
    countChanges: (done) => {
      source.tell('changes', (news) => done(news instanceof NbdError ? news : news.map(Number)))
    },
    compareGroup: (_group, done) => {
      source.tell('digests', (good) => {
        if (good instanceof NbdError) {
          done(good)
          return
        }
        target.tell('digests', (own) => done(own instanceof NbdError ? own : (piece) => good[piece] === own[piece]))
      })
    },
    copyPiece: (piece, done) => {
      const offset = piece * pieceBytes
      source.send({ operation: 'read', offset, lengthBytes: pieceBytes }, (data) => {
        if (data instanceof NbdError) {
          done(data)
          return
        }
        const write: DiskWork = { operation: 'write', offset, data: data! }
        target.send(write, (outcome) => done(outcome instanceof NbdError ? outcome : pieceBytes))
      })
    },
    flush: (done) => {
      target.send({ operation: 'flush' }, (outcome) => done(outcome instanceof NbdError ? outcome : undefined))
    },
  }
}
