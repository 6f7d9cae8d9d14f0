/**
 * The policy behind clock entries: makes guest time follow the live host's clock (ARCHITECTURE, invariant 10).
 *
 * Between two clock entries guest time is a function of the instruction count alone, so both replicas agree on it. Only
 * the writer of the log looks at a real clock, and only to decide the next entry:
 *
 *   guest time                       ╱ cap: a stalled stream of entries bounds the drift
 *      │                       ┌────╯
 *      │            ╱entry ticks = target, if that is forward; the rate aims at the target one interval ahead
 *      │      ╱────╯
 *      └──────────────────────────── host time
 *
 *  - Ticks never go back. A guest that is ahead runs slow (but never stands) until the host has caught up.
 *  - A gap (pause, failover, suspended host) steps forward, at most 10 s per step and with time between the steps, in
 *    which the guest feeds its watchdogs: they bite at 20 s.
 *  - A waiting hart has no instructions to count: time stands until an entry. `sleepUntilNs` says when its deadline needs
 *    one, so an idle guest costs one entry per timer and one per `idleIntervalNs`.
 *
 * Guest ticks are tied to the calendar (`Machine.clockAnchor`), so a replica on another host goes on within the difference
 * of the two hosts' clocks. Host times are arguments: `monotonicNs` never jumps, `wallClockNs` is UTC since 1970.
 */

import type { ClockAnchor, Input, Ticks } from '../machine/types.ts'

export type ClockInput = Extract<Input, { kind: 'clock' }>

export interface ClockPolicy {
  /** Time between clock entries while the hart runs. */
  readonly intervalNs: bigint
  /** Time between clock entries while the hart waits without a deadline: it keeps the log's traffic regular. */
  readonly idleIntervalNs: bigint
  /** Time between steps of a gap that takes several. */
  readonly stepSpacingNs: bigint
  /** The largest step. */
  readonly maxStepNs: bigint
}

/**
 * 5 ms between entries bound the guest's error to about one interval, a quarter of the 20 ms allowed, and cost 200
 * entries of less than 20 bytes a second: 30 kbit/s.
 */
export const defaultClockPolicy: ClockPolicy = {
  intervalNs: 5_000_000n,
  idleIntervalNs: 1_000_000_000n,
  stepSpacingNs: 50_000_000n,
  maxStepNs: 10_000_000_000n,
}

const tickNs = 100n

/** Guesses before the first measurement: a slow one lets early guest time run to its cap, a fast one makes it lag. */
const initialInstructionsPerSecond = 100_000_000

/** A guest that is ahead of its host runs at this fraction of real speed: standing would hang its delay loops. */
const slowestPercent = 12n

/** Farther ahead than this is not drift but a wrong host clock: the guest's own time is then the better one. */
const implausibleNs = 1_000_000_000n

export interface HostTime {
  readonly monotonicNs: bigint
  readonly wallClockNs: bigint
}

function calendarAtZeroNs({ wallClockNs, ticks }: ClockAnchor): bigint {
  return wallClockNs - ticks * tickNs
}

export class ClockKeeper {
  readonly #policy: ClockPolicy
  /** Guest time in nanoseconds minus host monotonic nanoseconds, as it should be. */
  #offsetNs: bigint
  /** The calendar at guest time 0. */
  #anchorNs: bigint
  #instructionsPerSecond = initialInstructionsPerSecond
  #lastEntryNs: bigint | undefined
  #lastLongStepNs: bigint | undefined

  /**
   * @param anchor of the machine now (`Machine.clockAnchor`)
   * @param ticks guest time now: the keeper of a replica that goes live continues from it
   */
  constructor(anchor: ClockAnchor, ticks: Ticks, now: HostTime, policy: ClockPolicy = defaultClockPolicy) {
    this.#policy = policy
    // Guest time in ns = wall clock − anchorNs, and wall clock = monotonic + (their difference now).
    this.#anchorNs = calendarAtZeroNs(anchor)
    const offsetNs = now.wallClockNs - this.#anchorNs - now.monotonicNs
    const ownOffsetNs = ticks * tickNs - now.monotonicNs
    this.#offsetNs = ownOffsetNs - offsetNs > implausibleNs ? ownOffsetNs : offsetNs
  }

  /** Where guest time should be at this host time. */
  targetTicks(monotonicNs: bigint): Ticks {
    const targetNs = monotonicNs + this.#offsetNs
    return targetNs > 0n ? targetNs / tickNs : 0n
  }

  /** What the hart is measured to do, smoothed. */
  get instructionsPerSecond(): number {
    return this.#instructionsPerSecond
  }

  /**
   * How many instructions the hart should run before it looks at the host's clock again: a fraction of an interval, so
   * that code which suddenly runs ten times slower is noticed in time.
   */
  get sliceInstructions(): bigint {
    return BigInt(Math.max(1000, Math.round(this.#intervalInstructions / 8)))
  }

  get #intervalInstructions(): number {
    return (this.#instructionsPerSecond * Number(this.#policy.intervalNs)) / 1e9
  }

  /** Report every stretch the hart ran, without the time it waited or was paused. */
  onRan(instructions: bigint, durationNs: bigint): void {
    if (instructions <= 0n || durationNs <= 0n) return
    const measured = (Number(instructions) * 1e9) / Number(durationNs)
    // Short stretches say little: a whole interval moves the estimate half the way.
    const weight = Math.min(1, Number(durationNs) / Number(this.#policy.intervalNs)) / 2
    this.#instructionsPerSecond += (measured - this.#instructionsPerSecond) * weight
    this.#instructionsPerSecond = Math.min(1e11, Math.max(1e5, this.#instructionsPerSecond))
  }

  /**
   * Call now and then (once a second): follows the machine's anchor and corrections of the host's calendar. A small or forward one is adopted; a
   * clock set back farther than `implausibleNs` is not followed, because guest time cannot.
   */
  resync(now: HostTime, anchor: ClockAnchor): void {
    this.#anchorNs = calendarAtZeroNs(anchor)
    const offsetNs = now.wallClockNs - this.#anchorNs - now.monotonicNs
    if (this.#offsetNs - offsetNs <= implausibleNs) this.#offsetNs = offsetNs
  }

  /** The entry due while the hart runs, or undefined if it is too early for one. */
  entryWhileRunning(monotonicNs: bigint, ticks: Ticks): ClockInput | undefined {
    const last = this.#lastEntryNs
    if (last !== undefined && monotonicNs - last < this.#policy.intervalNs) return undefined
    return this.#entry(monotonicNs, ticks)
  }

  /** The entry due while the hart waits: its deadline has come, or it is time for a sign of life. */
  entryWhileWaiting(monotonicNs: bigint, ticks: Ticks, deadline: Ticks | undefined): ClockInput | undefined {
    return monotonicNs >= this.sleepUntilNs(monotonicNs, ticks, deadline) ? this.#entry(monotonicNs, ticks) : undefined
  }

  /**
   * The entry to make before an input that may wake a waiting hart, so that it wakes at the right time. Undefined if
   * guest time needs no change.
   */
  entryBeforeInput(monotonicNs: bigint, ticks: Ticks): ClockInput | undefined {
    return this.targetTicks(monotonicNs) > ticks ? this.#entry(monotonicNs, ticks) : undefined
  }

  /** The host time until which a waiting hart may sleep, if no input comes: what `entryWhileWaiting` needs next. */
  sleepUntilNs(monotonicNs: bigint, ticks: Ticks, deadline: Ticks | undefined): bigint {
    const last = this.#lastEntryNs
    if (last === undefined) return monotonicNs
    let until = last + this.#policy.idleIntervalNs
    if (deadline !== undefined) {
      const wakeNs = deadline * tickNs - this.#offsetNs
      if (wakeNs < until) until = wakeNs
    }
    const mayStepNs = this.#mayStepNs(monotonicNs, ticks)
    // A gap that one step does not close goes on without waiting for a deadline; and no entry before it can help.
    if (this.#behindNs(monotonicNs, ticks) > this.#policy.maxStepNs) return mayStepNs
    if (until < mayStepNs) return mayStepNs
    return until
  }

  /**
   * For guest time that stands between its entries (the epoch discipline): the time at the end of an epoch, [Tme]. A guest
   * that is behind steps forward as ever; one that is ahead goes slowly.
   */
  epochTime(monotonicNs: bigint, ticks: Ticks): Ticks {
    const passedNs = monotonicNs - (this.#lastEntryNs ?? monotonicNs)
    const stepTicks = this.#stepTicks(monotonicNs, ticks)
    this.#lastEntryNs = monotonicNs
    return ticks + (stepTicks > 0n ? stepTicks : (passedNs * slowestPercent) / (100n * tickNs))
  }

  #behindNs(monotonicNs: bigint, ticks: Ticks): bigint {
    return (this.targetTicks(monotonicNs) - ticks) * tickNs
  }

  #entry(monotonicNs: bigint, ticks: Ticks): ClockInput {
    const { intervalNs } = this.#policy
    const stepped = ticks + this.#stepTicks(monotonicNs, ticks)
    this.#lastEntryNs = monotonicNs
    // Aim at the target one interval ahead. Behind (a gap not closed yet) or on time: real speed. Ahead: slower.
    const intervalTicks = intervalNs / tickNs
    const slowest = (intervalTicks * slowestPercent) / 100n
    let wanted = this.targetTicks(monotonicNs + intervalNs) - stepped
    if (wanted > intervalTicks) wanted = intervalTicks
    if (wanted < slowest) wanted = slowest
    const ratePer2p32 = (wanted << 32n) / BigInt(Math.ceil(this.#intervalInstructions))
    return { kind: 'clock', ticks: stepped, ratePer2p32, capTicks: 2n * wanted }
  }

  /** How far this entry moves guest time forward at once. */
  #stepTicks(monotonicNs: bigint, ticks: Ticks): Ticks {
    const behindNs = this.#behindNs(monotonicNs, ticks)
    if (behindNs <= 0n) return 0n
    const { maxStepNs, stepSpacingNs } = this.#policy
    if (behindNs <= stepSpacingNs) return behindNs / tickNs
    if (monotonicNs < this.#mayStepNs(monotonicNs, ticks)) return 0n
    this.#lastLongStepNs = monotonicNs
    if (behindNs > maxStepNs) return maxStepNs / tickNs
    return behindNs / tickNs
  }

  /** When the next step may be made: at any time if it is short, else some time after the last long one. */
  #mayStepNs(monotonicNs: bigint, ticks: Ticks): bigint {
    const { stepSpacingNs } = this.#policy
    const last = this.#lastLongStepNs
    if (last === undefined || this.#behindNs(monotonicNs, ticks) <= stepSpacingNs) return 0n
    return last + stepSpacingNs
  }
}
