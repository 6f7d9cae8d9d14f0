/**
 * Keeps a machine protected: whenever this replica is the primary, and has fewer backups than are wanted, somebody is asked
 * to start one. After a failover the new primary does the same, so the machine survives one failure after the other.
 *
 *   alone ──► start a backup ──► it fetches the machine ──► state transfer ──► protected
 *     ▲                               │ it fails: wait, twice as long each time
 *     └───────────────────────────────┘
 *
 * Who starts one, and where, is the starter's: a process of this host (sibling-starter.ts), or a spare host (host-placer.ts).
 */

import type { Replica } from './replica.ts'

export interface BackupStarter {
  /** Whether the operator wants a backup to come by itself now. */
  readonly wantsBackup: boolean
  /** The operator's word, kept for those that are primary later. */
  setWantsBackup(wantsBackup: boolean): Promise<void> | void
  /** For `status`. */
  readonly status: KeeperStatus
  /**
   * Starts one. It is on its way to the primary then, or has given up.
   * @param isFirst no attempt before it has failed lately
   * @throws WorldError why there is none
   */
  start(isFirst: boolean): Promise<void>
  /** Whoever asked for a backup has one. */
  onProtected?(): void
}

/** What is done for the machine's protection, for people. */
export interface KeeperStatus {
  /** `asking host-c to run replica c`; undefined: nothing now. */
  readonly doing: string | undefined
  /** On which host each replica is, where they are on hosts of their own. */
  readonly hosts: Readonly<Record<string, string>>
}

export interface BackupKeeperOptions {
  readonly replica: Pick<Replica, 'protection'>
  readonly starter: BackupStarter
  readonly trace: (line: string) => void
}

/** A process that was started has said hello; so much later its primary has seen it, or it has gone again. */
const seenWithinMs = 1000
const firstDelayMs = 500
/**
 * A machine that lost a replica has clients that wait for it. To start a process stops this one for 10 to 30 ms, and takes a
 * core for half a second more: so long it serves them first.
 */
const clientsFirstMs = 200
const longestDelayMs = 30_000
/** Protected for so long: the attempt was a good one, and the next loss is another story. */
const steadyMs = 1000

export class BackupKeeper {
  readonly #options: BackupKeeperOptions
  #isStarting = false
  #delayMs = firstDelayMs
  #notBeforeMs = 0
  #protectedSinceMs: number | undefined
  /** It lacks a backup since then. */
  #lackingSinceMs: number | undefined

  constructor(options: BackupKeeperOptions) {
    this.#options = options
  }

  get status(): KeeperStatus {
    return this.#options.starter.status
  }

  /** The operator wants a backup, and the next attempt made at once; or none any more. */
  async want(isWanted: boolean): Promise<void> {
    await this.#options.starter.setWantsBackup(isWanted)
    this.#notBeforeMs = 0
    this.#delayMs = firstDelayMs
    this.look(performance.now())
  }

  /** Call when the replica's backups may have changed, and at every tick of it. */
  look(nowMs: number): void {
    const { replica, starter } = this.#options
    const { protection } = replica
    if (!protection) return
    const { state, isComplete, hasTransfer } = protection
    if (state === 'protected' && isComplete) this.#onProtected(nowMs)
    else this.#protectedSinceMs = undefined
    if (isComplete || (state !== 'alone' && state !== 'protected')) return
    if (this.#lackingSinceMs === undefined) {
      this.#lackingSinceMs = nowMs
      setTimeout(() => this.look(nowMs + clientsFirstMs), clientsFirstMs).unref()
    }
    if (nowMs - this.#lackingSinceMs < clientsFirstMs) return
    if (hasTransfer || this.#isStarting || nowMs < this.#notBeforeMs || !starter.wantsBackup) return
    this.#isStarting = true
    void this.#start(this.#delayMs === firstDelayMs).finally(() => {
      this.#isStarting = false
      this.#notBeforeMs = performance.now() + Math.max(seenWithinMs, this.#delayMs)
      this.#delayMs = Math.min(2 * this.#delayMs, longestDelayMs)
    })
  }

  #onProtected(nowMs: number): void {
    const { starter, trace } = this.#options
    if (this.#lackingSinceMs !== undefined) {
      trace(`protected again after ${Math.round(nowMs - this.#lackingSinceMs)} ms`)
      this.#lackingSinceMs = undefined
      starter.onProtected?.()
    }
    this.#protectedSinceMs ??= nowMs
    if (nowMs - this.#protectedSinceMs < steadyMs) return
    this.#delayMs = firstDelayMs
    this.#notBeforeMs = 0
  }

  async #start(isFirst: boolean): Promise<void> {
    try {
      await this.#options.starter.start(isFirst)
    } catch (error) {
      this.#options.trace(`no backup: ${(error as Error).message}`)
    }
  }
}
