/**
 * What keeps the primary's hart from running: reasons to stand still, and the share of real time that lag control leaves
 * it. The hart stops with the first reason and goes on when none is left.
 *
 * A full buffer is a reason until half of it is free, so that the hart does not flutter.
 */

import type { PauseReason, PrimaryEffect } from './effects.ts'
import { LagControl, type LagPolicy } from './lag-control.ts'

export class HartBrake {
  readonly #pauses = new Set<PauseReason>(['starting'])
  readonly #lag: LagControl
  readonly #effects: PrimaryEffect[]

  /** @param effects where what follows for the hart is put, in order */
  constructor(policy: LagPolicy, effects: PrimaryEffect[]) {
    this.#lag = new LagControl(policy)
    this.#effects = effects
  }

  get pausedFor(): readonly PauseReason[] {
    return [...this.#pauses]
  }

  get isRunning(): boolean {
    return this.#pauses.size === 0
  }

  get cpuPercent(): number {
    return this.#lag.cpuPercent
  }

  pause(reason: PauseReason): void {
    if (this.#pauses.size === 0) this.#effects.push({ kind: 'pauseHart', reason })
    this.#pauses.add(reason)
  }

  resume(reason: PauseReason): void {
    if (this.#pauses.delete(reason) && this.#pauses.size === 0) this.#effects.push({ kind: 'resumeHart' })
  }

  /** @param fill 1 is full */
  pauseByFill(reason: PauseReason, fill: number): void {
    if (fill >= 1) this.pause(reason)
    else if (fill <= 0.5) this.resume(reason)
  }

  /** @param lagMs the longest of any backup; undefined: there is none */
  onLag(lagMs: number | undefined, nowMs: number): void {
    const percent = this.#lag.onLag(lagMs, nowMs)
    if (percent !== undefined) this.#effects.push({ kind: 'setCpuPercent', percent })
  }
}
