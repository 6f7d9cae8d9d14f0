/**
 * The deciding part of a steady disk (steady-disk.ts), sans I/O: which requests wait, which are sent on which connection,
 * what is written again first, and what an answer means.
 *
 *   server gone ──► requests wait ──► connected again ──► new boot? write the unflushed again ──► issue what waits
 *
 * A request is answered once, and only by the disk: with success, or with the disk's own error. A flush is never answered
 * with success while something that was completed before it is lost: what was lost is on its way again before the flush
 * goes out. Everything may be sent twice, so the caller keeps requests that overlap, one of them a change, in order: the
 * second only after the answer to the first. (virtio-blk devices of ours do; `NbdStore` does.)
 *
 * A flush that failed forgets nothing. The disk may have lost something with the error, and a later flush may succeed without
 * it (Linux reports a failed write-back once). So the server then counts as one that has crashed: everything that is kept is
 * written again before anything else. Of a flush of our own (`secure`) no guest hears. A guest that hears of its own may do
 * without, but not so the backups: they know by the log what is kept, and not exactly what the flush was to cover.
 *
 * Does not bound what it keeps: whoever makes the requests sends a flush now and then.
 */

import type { WorldError } from '../base/assert.ts'
import { NbdError } from './nbd-error.ts'
import { type DiskChange, type FlushReach, lengthOf, UnflushedWrites } from './unflushed-writes.ts'

export type DiskWork =
  | DiskChange
  | { readonly operation: 'read'; readonly offset: number; readonly lengthBytes: number }
  | { readonly operation: 'flush' }

/** The data of a read, nothing, or why not. */
export type DiskOutcome = Uint8Array | undefined | NbdError

/** One connection to the server, open. */
export interface DiskLink {
  /** Which boot of the server this is; undefined: unknown, so it may be a new one. */
  readonly bootId: string | undefined
  /** `answered` is called once, later: with `connection-lost` if the connection ends first. */
  send(work: DiskWork, answered: (outcome: DiskOutcome) => void): void
  /** Ends it at once. */
  destroy(): void
}

export interface SteadyOutside {
  /** Connect, and report `onConnected` or `onConnectFailed`. */
  readonly connect: () => void
  /** The same after a while. */
  readonly connectLater: () => void
  /**
   * The disk belongs to a later generation. Nothing is sent any more. Absent: the server knows no generations, and one that
   * refuses like this is merely about to end; another connection is tried.
   */
  readonly onFenced?: ((error: NbdError) => void) | undefined
  /** Connected for the first time, or nothing will come of it. */
  readonly onSettled?: (() => void) | undefined
  readonly trace: (line: string) => void
}

interface Waiting {
  readonly work: DiskWork
  readonly answered: (outcome: DiskOutcome) => void
  /** A flush that the guest did not ask for. */
  readonly isOwn: boolean
}

/** Kept changes written again at a time, as long as they do not overlap. */
const restoredAtOnce = 16

export class SteadyRequests {
  /** Completed, and not known to be on stable storage. */
  readonly unflushed = new UnflushedWrites()
  /** Changes that were written again, to boots of the server that may have lost them. */
  restoredChanges = 0
  readonly #outside: SteadyOutside
  readonly #waiting = new Set<Waiting>()
  /** The connection that serves requests. */
  #link: DiskLink | undefined
  /** One that is being given what its server may have lost. */
  #restoring: DiskLink | undefined
  /** The boot of the server that has been given everything that is kept. */
  #bootId: string | undefined
  #isConnecting = false
  #isEnded = false
  #isGivenUp = false
  /** The server took a change once and refused it when it was written again: a flush has to say so, and reads are mended. */
  #restoreFailure: NbdError | undefined

  constructor(outside: SteadyOutside) {
    this.#outside = outside
  }

  /** Requests without an answer. */
  get inFlight(): number {
    return this.#waiting.size
  }

  /** Connected, and everything is answered. */
  get isIdle(): boolean {
    return this.#link !== undefined && this.#waiting.size === 0
  }

  /** Connects, and connects again whenever that is needed. */
  connect(): void {
    if (this.#isConnecting || this.#link) return
    if (this.#isEnded) {
      this.#outside.onSettled?.()
      return
    }
    this.#isConnecting = true
    this.#outside.connect()
  }

  /**
   * Carries out `work`, however long the disk takes. Fails only by the disk's own error (`NbdError`, reason `io`). After
   * `drop`, and after a fence, it is never answered.
   */
  request(work: DiskWork, answered: (outcome: DiskOutcome) => void): void {
    this.#add({ work, answered, isOwn: false })
  }

  /**
   * What was answered so far is to outlive a crash of the server: a flush that no guest hears of. It may be asked for again
   * after an error.
   */
  secure(answered: (error: NbdError | undefined) => void): void {
    const done = (outcome: DiskOutcome): void => answered(outcome instanceof NbdError ? outcome : undefined)
    this.#add({ work: { operation: 'flush' }, answered: done, isOwn: true })
  }

  #add(waiting: Waiting): void {
    this.#waiting.add(waiting)
    if (this.#link) this.#send(this.#link, waiting)
  }

  /** No connection is made any more; the present one, which the caller may close in order, is returned. */
  end(): DiskLink | undefined {
    this.#isEnded = true
    return this.#link
  }

  /** Sends nothing any more, and waits for nothing. */
  drop(): void {
    this.#isEnded = true
    this.#link?.destroy()
    this.#restoring?.destroy()
  }

  /** What is in execution may end, but nobody connects again: what waits for that fails now, reason `connection-lost`. */
  giveUp(): void {
    this.#isEnded = true
    this.#isGivenUp = true
    if (!this.#link) this.#rejectAll()
  }

  onConnected(link: DiskLink): void {
    this.#restoring = link
    const isSameBoot = link.bootId !== undefined && link.bootId === this.#bootId
    if (isSameBoot) {
      this.#onRestored(link)
      return
    }
    const { count } = this.unflushed
    if (count > 0) this.#outside.trace(`disk: a new boot of the server; ${count} unflushed changes are written again`)
    this.#restore(link, apart(this.unflushed.inOrder()))
  }

  onConnectFailed(error: WorldError): void {
    if (error instanceof NbdError && error.reason === 'fenced' && this.#outside.onFenced) {
      this.#isConnecting = false
      this.#outside.onFenced(error)
      this.#outside.onSettled?.()
    } else if (this.#isEnded) {
      this.#isConnecting = false
      this.#outside.onSettled?.()
    } else {
      this.#outside.trace(`disk: ${error.message}`)
      this.#isConnecting = false
      this.#outside.connectLater()
    }
  }

  /** A connection that was reported is over. */
  onLinkEnded(link: DiskLink, error: NbdError | undefined): void {
    if (this.#link === link) this.#onLost(link, error)
  }

  // ---- a new connection ----------------------------------------------------------------------------------------------

  /** Before anything else is sent to a new boot of the server: everything it may have lost, run by run. */
  #restore(link: DiskLink, runs: Iterator<DiskChange[]>): void {
    const { value: run, done } = runs.next()
    if (done) {
      this.#onRestored(link)
      return
    }
    let left = run.length
    for (const change of run) {
      link.send(change, (outcome) => {
        if (this.#restoring !== link) return
        if (outcome instanceof NbdError) {
          if (outcome.reason !== 'io') {
            this.#restoring = undefined
            link.destroy()
            this.onConnectFailed(outcome)
            return
          }
          this.#outside.trace(`disk: a change that was completed is refused now: ${outcome.message}`)
          this.#restoreFailure = outcome
        }
        this.restoredChanges++
        if (--left === 0) this.#restore(link, runs)
      })
    }
  }

  #onRestored(link: DiskLink): void {
    this.#restoring = undefined
    this.#isConnecting = false
    this.#bootId = link.bootId
    if (this.#isEnded) link.destroy()
    else {
      this.#link = link
      for (const waiting of this.#waiting) this.#send(link, waiting)
    }
    this.#outside.onSettled?.()
  }

  // ---- requests and answers ------------------------------------------------------------------------------------------

  #send(link: DiskLink, waiting: Waiting): void {
    const reach = this.unflushed.beginFlush()
    link.send(waiting.work, (outcome) => {
      if (outcome instanceof NbdError) this.#onError(link, waiting, outcome)
      else if (this.#link === link && this.#waiting.delete(waiting)) this.#onDone(link, waiting, reach, outcome)
    })
  }

  #onDone(link: DiskLink, waiting: Waiting, reach: FlushReach, data: Uint8Array | undefined): void {
    const { work, answered, isOwn } = waiting
    if (isOwn && this.#restoreFailure) answered(this.#restoreFailure)
    else if (work.operation === 'flush' && this.#restoreFailure)
      this.#onFlushFailed(link, waiting, this.#restoreFailure)
    else {
      if (work.operation === 'flush') this.unflushed.onFlushed(reach)
      else if (work.operation !== 'read') this.unflushed.onCompleted(work)
      // The disk may hold something older than what it lost and refuses now.
      else if (this.#restoreFailure) this.unflushed.mend(work.offset, data!)
      answered(data)
    }
  }

  /** All that is kept is written again before anything else. */
  #onFlushFailed(link: DiskLink, { answered, isOwn }: Waiting, error: NbdError): void {
    // The guest is told now.
    if (!isOwn) this.#restoreFailure = undefined
    answered(error)
    if (this.#isGivenUp) return
    this.#bootId = undefined
    this.#onLost(link, error)
  }

  #onError(link: DiskLink, waiting: Waiting, error: NbdError): void {
    if (this.#link !== link || (this.#isEnded && !this.#isGivenUp)) return
    switch (error.reason) {
      case 'fenced':
        if (this.#outside.onFenced) {
          this.#isEnded = true
          this.#outside.onFenced(error)
        } else this.#onLost(link, error)
        return
      case 'io':
        this.#outside.trace(`disk: ${error.message}`)
        if (!this.#waiting.delete(waiting)) return
        if (waiting.work.operation === 'flush') this.#onFlushFailed(link, waiting, error)
        else waiting.answered(error)
        return
      default:
        this.#onLost(link, error)
    }
  }

  #onLost(link: DiskLink, error: NbdError | undefined): void {
    if (this.#isGivenUp) this.#rejectAll()
    if (this.#isEnded) return
    this.#outside.trace(`disk: ${error?.message ?? 'the connection is over'}; connecting again`)
    // A flush may have failed, and its answer been lost: a disk says so once, and the next flush succeeds.
    if ([...this.#waiting].some(({ work }) => work.operation === 'flush')) this.#bootId = undefined
    this.#link = undefined
    link.destroy()
    this.connect()
  }

  #rejectAll(): void {
    const error = new NbdError('connection-lost', 'the disk is out of reach, and nobody waits for it any longer')
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const { answered } of waiting) answered(error)
  }
}

/** Cuts a list of changes into runs whose members do not overlap, so that a run may be in execution all at once. */
function* apart(changes: readonly DiskChange[]): Generator<DiskChange[]> {
  let run: DiskChange[] = []
  for (const change of changes) {
    if (run.length >= restoredAtOnce || run.some((other) => overlap(other, change))) {
      yield run
      run = []
    }
    run.push(change)
  }
  if (run.length > 0) yield run
}

export function overlap(a: DiskChange, b: DiskChange): boolean {
  return a.offset < b.offset + lengthOf(b) && b.offset < a.offset + lengthOf(a)
}
