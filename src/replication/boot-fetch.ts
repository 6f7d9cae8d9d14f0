/**
 * What a backup without a VM file does before its hello, sans I/O: it asks its primary for the boot artefacts, piece by
 * piece, and believes the whole only if its digests are those of the primary's identity.
 *
 *   fetch 0 ──► artefacts (identity, length, piece) ──► fetch n ──► … ──► done: the host makes the machine, then says hello
 *
 * The next piece is asked for when the last one is here, so the primary never queues more than one. A connection that
 * breaks, or stays silent, costs what was not here yet: on the next one it goes on where it was, if the primary still has
 * the same machine.
 */

import { assert, WorldError } from '../base/assert.ts'
import { concatBytes } from '../base/bytes.ts'
import { type BootArtefacts, decodeArtefacts, maxArtefactsBytes } from '../log/boot-artefacts.ts'
import { identityMismatch, type MachineIdentity } from '../log/identity.ts'
import type { Message } from './messages.ts'

export interface BootFetchOptions {
  /** Name of the machine that this replica is a backup of. */
  readonly machine: string
  readonly instructionTableHash: bigint
  /** A primary that answers nothing for so long is asked again, on another connection. */
  readonly answerTimeoutMs: number
}

export type FetchEffect =
  | { readonly kind: 'send'; readonly message: Message }
  /** Bytes of the whole that are here. */
  | { readonly kind: 'progress'; readonly receivedBytes: number; readonly lengthBytes: number }
  /** Connect again, and report `onChannelOpen`. */
  | { readonly kind: 'connectAgain'; readonly reason: string }
  /** The last effect: everything is here and in order. The same channel goes on with hello. */
  | { readonly kind: 'fetched'; readonly artefacts: BootArtefacts; readonly identity: MachineIdentity }
  /** The last effect: this backup cannot follow this primary. */
  | { readonly kind: 'failed'; readonly error: WorldError }

type Artefacts = Extract<Message, { kind: 'artefacts' }>

export class BootFetch {
  readonly #options: BootFetchOptions
  /** Of the primary that sent the first piece. */
  #identity: MachineIdentity | undefined
  #lengthBytes = 0
  #receivedBytes = 0
  #pieces: Uint8Array[] = []
  /** When the open question was asked; undefined without a connection. */
  #askedAtMs: number | undefined
  #isOver = false

  constructor(options: BootFetchOptions) {
    this.#options = options
  }

  onChannelOpen(nowMs: number): FetchEffect[] {
    return this.#isOver ? [] : [this.#ask(nowMs)]
  }

  onChannelClosed(): FetchEffect[] {
    return this.#connectAgain('the channel closed')
  }

  /** The channel delivered bytes that are no message: a primary of another release, most likely. */
  onBadMessage(detail: string): FetchEffect[] {
    return this.#fail(new WorldError('halted-refused', detail))
  }

  onMessage(message: Message, nowMs: number): FetchEffect[] {
    if (this.#isOver || this.#askedAtMs === undefined) return []
    switch (message.kind) {
      case 'artefacts':
        return this.#onPiece(message, nowMs)
      case 'refuse':
        return this.#fail(new WorldError('halted-refused', `the primary refused this backup: ${message.reason}`))
      case 'goodbye':
        return this.#connectAgain(message.reason)
      default:
        return this.#fail(new WorldError('halted-refused', `the primary answered ${message.kind} to fetch`))
    }
  }

  onTick(nowMs: number): FetchEffect[] {
    const { answerTimeoutMs } = this.#options
    if (this.#askedAtMs === undefined || nowMs - this.#askedAtMs < answerTimeoutMs) return []
    return this.#connectAgain(`no answer for ${answerTimeoutMs} ms`)
  }

  #onPiece({ identity, lengthBytes, offset, bytes }: Artefacts, nowMs: number): FetchEffect[] {
    const { machine, instructionTableHash } = this.#options
    const mismatch = identityMismatch({ ...identity, machine, instructionTableHash }, identity)
    if (mismatch !== undefined) return this.#fail(new WorldError('halted-refused', mismatch))
    const isSame = this.#identity !== undefined && identityMismatch(this.#identity, identity) === undefined
    if (!isSame || lengthBytes !== this.#lengthBytes) {
      const isAnotherMachine = this.#identity !== undefined
      this.#identity = identity
      this.#lengthBytes = lengthBytes
      this.#receivedBytes = 0
      this.#pieces = []
      // The primary was started again, with another machine: what is here belongs to the old one.
      if (isAnotherMachine && offset !== 0) return [this.#ask(nowMs)]
    }
    const endBytes = this.#receivedBytes + bytes.length
    if (
      lengthBytes > maxArtefactsBytes ||
      offset !== this.#receivedBytes ||
      bytes.length === 0 ||
      endBytes > lengthBytes
    ) {
      const piece = `${bytes.length} bytes at ${offset} of ${lengthBytes}`
      return this.#fail(
        new WorldError('halted-refused', `the primary sent ${piece} where ${this.#receivedBytes} was due`),
      )
    }
    this.#pieces.push(bytes)
    this.#receivedBytes = endBytes
    const progress: FetchEffect = { kind: 'progress', receivedBytes: endBytes, lengthBytes }
    return endBytes < lengthBytes ? [progress, this.#ask(nowMs)] : [progress, ...this.#finish()]
  }

  #finish(): FetchEffect[] {
    assert(this.#identity, 'a piece came with its identity')
    try {
      const artefacts = decodeArtefacts(concatBytes(this.#pieces), this.#identity)
      this.#end()
      return [{ kind: 'fetched', artefacts, identity: this.#identity }]
    } catch (error) {
      if (!(error instanceof WorldError)) throw error
      return this.#fail(error)
    }
  }

  #ask(nowMs: number): FetchEffect {
    this.#askedAtMs = nowMs
    const { machine, instructionTableHash } = this.#options
    return { kind: 'send', message: { kind: 'fetch', machine, instructionTableHash, offset: this.#receivedBytes } }
  }

  #connectAgain(reason: string): FetchEffect[] {
    if (this.#isOver || this.#askedAtMs === undefined) return []
    this.#askedAtMs = undefined
    return [{ kind: 'connectAgain', reason }]
  }

  #fail(error: WorldError): FetchEffect[] {
    if (this.#isOver) return []
    this.#end()
    return [{ kind: 'failed', error }]
  }

  #end(): void {
    this.#isOver = true
    this.#askedAtMs = undefined
    this.#pieces = []
  }
}
