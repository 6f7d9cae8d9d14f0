/**
 * The fake disk server's process: the real arbiter, fence, seats and exports of `disk/`, behind fake connections, before a
 * fake image. It may be killed and started again: records and image stay, sessions and requests do not.
 *
 * One that has a replica's own copy also tells how often each piece of it has changed, and what digests the pieces have.
 *
 * Requests are carried out as `NbdConnection` does: admitted when they arrive, asked again when they touch the image, at most
 * so many at a time, and a client that has gone is served to the end of what was read.
 */

import { hash64 } from '../base/digest.ts'
import { sectorBytes } from '../base/units.ts'
import { Arbiter, type ArbiterAnswerOf, type ArbiterQuestion, type ArbiterSession } from '../disk/arbiter.ts'
import { ArbiterRecord } from '../disk/arbiter-record.ts'
import type { BlockStore } from '../disk/block-store.ts'
import { ChangeCounters } from '../disk/change-map.ts'
import { ExportDirectory, ExportRefusal, type OpenExport } from '../disk/export-directory.ts'
import { bootIdOf, fencedPrefix, parseExportName } from '../disk/names.ts'
import type { RecordStorage } from '../disk/record-storage.ts'
import type { DiskWork } from '../disk/steady-requests.ts'
import { lengthOf } from '../disk/unflushed-writes.ts'
import type { Actor } from './actor.ts'
import type { DiskStore } from './disk-store.ts'
import { copyName, exportName, machineName, token } from './names.ts'
import type { End } from './network.ts'
import type { DiskVisitor, Witness } from './witness.ts'

export type ToArbiter =
  | { readonly kind: 'hello'; readonly id: number; readonly replica: string; readonly held: number | undefined }
  | { readonly kind: 'ask'; readonly id: number; readonly question: ArbiterQuestion }

export type FromArbiter =
  | { readonly kind: 'answer'; readonly id: number; readonly answer: ArbiterAnswerOf | undefined }
  | { readonly kind: 'fenced' }

export type ToDisk =
  | { readonly kind: 'open'; readonly name: string }
  | { readonly kind: 'request'; readonly id: number; readonly work: DiskWork }
  | { readonly kind: 'tell'; readonly id: number; readonly news: DiskNews }

/** Of an own copy, piece by piece. */
export type DiskNews = 'changes' | 'digests'

export type FromDisk =
  | { readonly kind: 'opened'; readonly bootId: string | undefined }
  | { readonly kind: 'refused'; readonly isFenced: boolean; readonly detail: string }
  | { readonly kind: 'done'; readonly id: number; readonly data: Uint8Array | undefined }
  | { readonly kind: 'told'; readonly id: number; readonly news: readonly bigint[] }
  | { readonly kind: 'failed'; readonly id: number; readonly reason: 'io' | 'fenced' }

const maxExecuting = 16

/** Of an own copy: two sectors. (The product's have 256 KiB.) */
export const pieceBytes = 2 * sectorBytes

/** Stays when the disk server's process ends. */
export class RecordFile implements RecordStorage {
  #record = ArbiterRecord.fresh(machineName)

  load(): ArbiterRecord {
    return this.#record
  }

  save(record: ArbiterRecord): void {
    this.#record = record
  }
}

export interface DiskServerParts {
  readonly actor: Actor
  readonly store: DiskStore
  readonly records: RecordFile
  /** Of this start. */
  readonly bootId: string
  readonly witness: Witness
  /** The replica whose own copy of the disk is here. Default: the disk is shared. */
  readonly owner?: string
}

export class DiskServer {
  readonly actor: Actor
  readonly arbiter: Arbiter
  readonly #store: DiskStore
  readonly #directory: ExportDirectory
  readonly #witness: Witness
  readonly #changes: ChangeCounters

  constructor({ actor, store, records, bootId, witness, owner }: DiskServerParts) {
    this.actor = actor
    this.#store = store
    this.#witness = witness
    this.arbiter = new Arbiter(records, { [machineName]: token }, () => actor.nowMs, bootId)
    const image = { sizeBytes: store.cache.length } as BlockStore
    this.#changes = new ChangeCounters(image.sizeBytes, pieceBytes)
    const stored = { store: image, readOnly: false, machine: machineName }
    const exported = owner === undefined ? { ...stored, name: exportName } : { ...stored, name: copyName(owner), owner }
    this.#directory = new ExportDirectory([exported], this.arbiter)
    actor.onDeath((how) => store.onDeath(how))
  }

  /** A replica connected to the arbiter. */
  onArbiterConnection(end: End<FromArbiter, ToArbiter>): void {
    let session: ArbiterSession | undefined
    end.listen({
      onMessage: (message) => {
        const { id } = message
        if (message.kind === 'hello') {
          const { replica, held } = message
          session = { machine: machineName, replica, held, onFenced: () => end.send({ kind: 'fenced' }) }
          this.arbiter.join(session)
          end.send({ kind: 'answer', id, answer: undefined })
          return
        }
        if (!session) return
        const { replica } = session
        this.arbiter.handle(session, message.question, (answer) => {
          this.#witness.onArbiterAnswer(replica, message.question, answer)
          end.send({ kind: 'answer', id, answer })
        })
      },
      onClosed: () => {
        if (session) this.arbiter.leave(session)
      },
    })
  }

  /** A replica connected to the disk. */
  onDiskConnection(end: End<FromDisk, ToDisk>): void {
    const connection = new DiskConnection(end, this.#store, this.#changes, this.#witness)
    end.listen({
      onMessage: (message) => {
        if (message.kind === 'request') connection.onRequest(message.id, message.work)
        else if (message.kind === 'tell') connection.onQuestion(message.id, message.news)
        else this.#directory.open(message.name, connection, (opened) => connection.onOpened(message.name, opened))
      },
      onClosed: () => connection.onClosed(),
    })
  }
}

interface Admitted {
  readonly id: number
  readonly work: DiskWork
  /** In place of the data of a read of everything. */
  readonly news?: DiskNews
}

class DiskConnection {
  readonly #end: End<FromDisk, ToDisk>
  readonly #store: DiskStore
  readonly #changes: ChangeCounters
  readonly #witness: Witness
  readonly #waiting: Admitted[] = []
  #export: OpenExport | undefined
  /** Undefined: whoever reads only. */
  #pass: DiskVisitor | undefined
  #executing = 0
  #isClosing = false

  constructor(end: End<FromDisk, ToDisk>, store: DiskStore, changes: ChangeCounters, witness: Witness) {
    this.#end = end
    this.#store = store
    this.#changes = changes
    this.#witness = witness
  }

  onOpened(name: string, opened: OpenExport | ExportRefusal): void {
    if (opened instanceof ExportRefusal) {
      const detail = opened.message
      this.#end.send({ kind: 'refused', isFenced: detail.startsWith(fencedPrefix), detail })
      return
    }
    const { pass } = parseExportName(name)
    this.#pass = pass && { replica: pass.replica, generation: pass.generation }
    this.#export = opened
    const drop = (): void => {
      this.#waiting.length = 0
      this.#isClosing = true
      this.#end.close()
    }
    if (opened.superseded?.aborted) drop()
    else opened.superseded?.addEventListener('abort', drop, { once: true })
    this.#end.send({ kind: 'opened', bootId: bootIdOf(opened.info.description) })
  }

  onRequest(id: number, work: DiskWork): void {
    this.#admit({ id, work })
  }

  onQuestion(id: number, news: DiskNews): void {
    const everything = { operation: 'read', offset: 0, lengthBytes: this.#store.cache.length } as const
    this.#admit({ id, work: everything, news })
  }

  #admit(request: Admitted): void {
    if (this.#isClosing || !this.#export) return
    if (this.#export.permits()) this.#waiting.push(request)
    else this.#refuse(request.id)
    this.#pump()
  }

  onClosed(): void {
    this.#isClosing = true
    this.#pump()
  }

  #pump(): void {
    while (this.#waiting.length > 0 && this.#executing < maxExecuting) this.#execute(this.#waiting.shift()!)
  }

  #execute({ id, work, news }: Admitted): void {
    const leave = this.#export!.enter()
    if (!leave) {
      this.#refuse(id)
      return
    }
    this.#executing++
    const { durationUs, finish } = this.#store.execute(work)
    if (this.#pass) this.#witness.onDiskEntered(this.#pass, work)
    this.#end.actor.after(durationUs, () => {
      const outcome = finish()
      // Counted after it, failed or not.
      if (work.operation !== 'read' && work.operation !== 'flush') this.#changes.onChanged(work.offset, lengthOf(work))
      if (this.#pass) this.#witness.onDiskLeft(this.#pass, work)
      this.#executing--
      leave()
      if (outcome === 'ioError') this.#end.send({ kind: 'failed', id, reason: 'io' })
      else if (news) this.#end.send({ kind: 'told', id, news: this.#newsOf(news) })
      else this.#end.send({ kind: 'done', id, data: outcome })
      this.#pump()
    })
  }

  #newsOf(news: DiskNews): readonly bigint[] {
    const counters = [...this.#changes.all]
    if (news === 'changes') return counters.map(BigInt)
    return counters.map((_, piece) => hash64(this.#store.cache.subarray(piece * pieceBytes, (piece + 1) * pieceBytes)))
  }

  #refuse(id: number): void {
    this.#witness.onFencedRequest()
    this.#end.send({ kind: 'failed', id, reason: 'fenced' })
    this.#isClosing = true
    this.#waiting.length = 0
  }
}
