/**
 * A backup's logging channel: what it says on it, and what it knows of its primary from what it hears there, or does not hear
 * (VMware FT, "Detecting and responding to failure").
 *
 * A primary is suspected when nothing is heard of it, when it owes log entries, and when it lacks for long what this host
 * reaches. A suspicion is one line of text, and nothing more: what follows from it is the `Backup`'s business.
 */

import type { BackupEffect } from './effects.ts'
import { FailureDetector } from './failure-detector.ts'
import { helloOfBackup, type Introduction } from './hello.ts'
import type { Message } from './messages.ts'
import type { ReplicationPolicy } from './policy.ts'
import { fullReach, isBetterPlaced, isSameReach, lackedBy, type Reach } from './reach.ts'
import type { ReceivedLog } from './received-log.ts'

export class BackupLine {
  readonly #policy: ReplicationPolicy
  readonly #effects: BackupEffect[]
  #detector: FailureDetector
  #reach: Reach = fullReach
  #primaryReach: Reach = fullReach

  /** @param effects where what is said is put, in order */
  constructor(policy: ReplicationPolicy, effects: BackupEffect[], nowMs: number) {
    this.#policy = policy
    this.#effects = effects
    this.#detector = new FailureDetector(policy.detector, nowMs)
  }

  /** The latest time for the next tick, as far as the primary goes. */
  get dueMs(): number {
    return this.#detector.dueMs
  }

  /** When the last sign of life came: where a failover's clock starts. */
  get lastHeardMs(): number {
    return this.#detector.lastHeardMs
  }

  /** Of this host. */
  get reach(): Reach {
    return this.#reach
  }

  /** Of the two, the primary can serve the world better: it shall be heard first, when they part. */
  get isOutplaced(): boolean {
    return isBetterPlaced(this.#primaryReach, this.#reach)
  }

  // ---- what it says --------------------------------------------------------------------------------------------------

  send(message: Message, nowMs: number): void {
    this.#effects.push({ kind: 'send', message })
    this.#detector.onSent(nowMs)
  }

  /** Introduces this replica: it has so much of whose log. */
  sayHello(own: Introduction, { hold, end, replayedEnd }: ReceivedLog, nowMs: number): void {
    this.send(helloOfBackup(own, hold, end, replayedEnd), nowMs)
  }

  isHeartbeatDue(nowMs: number): boolean {
    return this.#detector.isHeartbeatDue(nowMs)
  }

  close(reason: string): void {
    this.#effects.push({ kind: 'closeChannel', reason })
  }

  // ---- what it hears -------------------------------------------------------------------------------------------------

  /** Another primary is there, who owes nothing yet. */
  restart(nowMs: number): void {
    this.#detector = new FailureDetector(this.#policy.detector, nowMs)
    this.listen(nowMs)
  }

  /** Until now there was nobody to hear. */
  listen(nowMs: number): void {
    this.#detector.onHeard(nowMs)
    this.#detector.suspicion(nowMs)
  }

  onHeard(nowMs: number): void {
    this.#detector.onHeard(nowMs)
  }

  /** All the log that it had announced is here. */
  onEntries(nowMs: number): void {
    this.#detector.onLogTraffic(nowMs)
    this.#detector.setOwes(false, nowMs)
  }

  /** @param owes it has announced entries that are not here */
  onAnnounced(owes: boolean, isRunning: boolean, nowMs: number): void {
    this.#detector.setOwes(owes, nowMs)
    this.#detector.setLogExpected(isRunning, nowMs)
  }

  onPrimaryReach(reach: Reach): void {
    this.#primaryReach = reach
  }

  /** @returns false: that is nothing new */
  onReach(reach: Reach): boolean {
    if (isSameReach(reach, this.#reach)) return false
    this.#reach = reach
    return true
  }

  /** Only who is listed may think of taking over: another one's question is refused, and that would be its end. */
  compareReach(isListed: boolean, nowMs: number): void {
    this.#detector.setBetterPlaced(isListed && isBetterPlaced(this.#reach, this.#primaryReach), nowMs)
  }

  /** Call at every tick. @returns why the primary is to be suspected; undefined: it is not */
  suspicion(nowMs: number): string | undefined {
    switch (this.#detector.suspicion(nowMs)) {
      case 'silent':
        return `not heard of for ${this.#policy.detector.timeoutMs} ms`
      case 'stalled':
        return 'log entries are missing'
      case undefined:
        return this.#detector.isOutplaced(nowMs) ? `it does not reach ${lackedBy(this.#primaryReach)}` : undefined
    }
  }
}
