/**
 * Decides when the peer must be suspected (VMware FT, "Failure detection"): by its heartbeats, and by watching the log
 * traffic and its acknowledgements. A suspicion is only a question to the arbiter; a wrong one costs redundancy, never
 * correctness. A closed socket needs no detector: the host reports it at once.
 */

import { Standstill } from './standstill.ts'

export interface DetectorPolicy {
  /** A replica that has sent nothing for this long sends a heartbeat. At most a quarter of the time-out counts. */
  readonly heartbeatMs: number
  /** A peer not heard of for this long, or that owes an answer for this long, is suspected. */
  readonly timeoutMs: number
  /** A primary whose hart runs, but that logs nothing for this long, is suspected. Clock entries come every second. */
  readonly logSilenceMs: number
  /** A primary that lives, but for so long lacks a disk or LAN that its backup reaches, is replaced. */
  readonly outOfReachMs: number
}

/**
 * A killed process is noticed at once, by its closed socket: this is for frozen hosts and cut links. Two seconds ride out
 * what a loaded host does to a process (600 ms were measured too short with three busy processes a core: the pair lost
 * its redundancy to a scheduler's pause), and are still short of the guest's soft-lockup detector and of TCP's patience.
 * Four heartbeats fit into them, and more would only cost: an idle pair's main threads wake for little else.
 */
export const defaultDetectorPolicy: DetectorPolicy = {
  heartbeatMs: 500,
  timeoutMs: 2000,
  logSilenceMs: 5000,
  outOfReachMs: 2000,
}

export type Suspicion =
  /** Nothing was heard at all. */
  | 'silent'
  /** It is there, but log entries or acknowledgements are missing. */
  | 'stalled'

export class FailureDetector {
  readonly #policy: DetectorPolicy
  readonly #standstill: Standstill
  #lastHeardMs: number
  #lastSentMs: number
  /** Since when the peer owes us log traffic: entries it announced, or an acknowledgement. */
  #owesSinceMs: number | undefined
  #lastLogMs: number
  #isLogExpected = false
  /** Since when without a break we have been better placed than the peer. */
  #betterPlacedSinceMs: number | undefined

  constructor(policy: DetectorPolicy, nowMs: number) {
    this.#policy = policy
    this.#standstill = new Standstill(policy.timeoutMs, nowMs)
    this.#lastHeardMs = nowMs
    this.#lastSentMs = nowMs
    this.#lastLogMs = nowMs
  }

  /** When the last byte came from the peer: where a failover's clock starts. */
  get lastHeardMs(): number {
    return this.#lastHeardMs
  }

  onHeard(nowMs: number): void {
    this.#lastHeardMs = nowMs
  }

  onSent(nowMs: number): void {
    this.#lastSentMs = nowMs
  }

  /** Log entries came, or an acknowledgement that says something new. */
  onLogTraffic(nowMs: number): void {
    this.#lastLogMs = nowMs
    if (this.#owesSinceMs !== undefined) this.#owesSinceMs = nowMs
  }

  /** Whether the peer owes us something specific. What it owes may change; what counts is that it pays nothing. */
  setOwes(owes: boolean, nowMs: number): void {
    if (!owes) this.#owesSinceMs = undefined
    else this.#owesSinceMs ??= nowMs
  }

  /** Whether log entries are to be expected even if none was announced. */
  setLogExpected(isExpected: boolean, nowMs: number): void {
    if (isExpected && !this.#isLogExpected) this.#lastLogMs = nowMs
    this.#isLogExpected = isExpected
  }

  /** Whether we could serve the world better than the peer. A break, however short, starts the clock again. */
  setBetterPlaced(isBetterPlaced: boolean, nowMs: number): void {
    if (!isBetterPlaced) this.#betterPlacedSinceMs = undefined
    else this.#betterPlacedSinceMs ??= nowMs
  }

  get #heartbeatMs(): number {
    return Math.min(this.#policy.heartbeatMs, this.#policy.timeoutMs / 4)
  }

  isHeartbeatDue(nowMs: number): boolean {
    return nowMs - this.#lastSentMs >= this.#heartbeatMs
  }

  /** The latest time for the next tick: before it nothing here changes by time alone. */
  get dueMs(): number {
    const { timeoutMs, logSilenceMs, outOfReachMs } = this.#policy
    let dueMs = Math.min(this.#lastSentMs + this.#heartbeatMs, this.#lastHeardMs + timeoutMs, this.#standstill.dueMs)
    if (this.#owesSinceMs !== undefined) dueMs = Math.min(dueMs, this.#owesSinceMs + timeoutMs)
    if (this.#isLogExpected) dueMs = Math.min(dueMs, this.#lastLogMs + logSilenceMs)
    if (this.#betterPlacedSinceMs !== undefined) dueMs = Math.min(dueMs, this.#betterPlacedSinceMs + outOfReachMs)
    return dueMs
  }

  /** Call at every tick. */
  suspicion(nowMs: number): Suspicion | undefined {
    const { timeoutMs, logSilenceMs } = this.#policy
    const stoodStillMs = this.#standstill.tick(nowMs)
    this.#lastHeardMs += stoodStillMs
    this.#lastLogMs += stoodStillMs
    if (this.#owesSinceMs !== undefined) this.#owesSinceMs += stoodStillMs
    if (this.#betterPlacedSinceMs !== undefined) this.#betterPlacedSinceMs += stoodStillMs
    if (nowMs - this.#lastHeardMs >= timeoutMs) return 'silent'
    if (this.#owesSinceMs !== undefined && nowMs - this.#owesSinceMs >= timeoutMs) return 'stalled'
    if (this.#isLogExpected && nowMs - this.#lastLogMs >= logSilenceMs) return 'stalled'
    return undefined
  }

  /** Call at every tick, after `suspicion`: the peer lives, but we have been better placed for long enough. */
  isOutplaced(nowMs: number): boolean {
    return this.#betterPlacedSinceMs !== undefined && nowMs - this.#betterPlacedSinceMs >= this.#policy.outOfReachMs
  }
}
