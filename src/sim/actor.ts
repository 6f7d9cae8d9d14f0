/**
 * A fake operating-system process: it can be paused (SIGSTOP: what comes for it waits, its timers too) and killed. Everything
 * that a replica, the disk server or the switch does in a simulation, it does through its process.
 */

import type { Timeline } from './timeline.ts'

export class Actor {
  readonly name: string
  readonly #timeline: Timeline
  readonly #backlog: (() => void)[] = []
  /** Told when it dies, in the order of asking: its kernel closes its sockets. */
  readonly #mourners = new Set<(how: Death) => void>()
  #isDead = false
  #pauses = 0

  constructor(name: string, timeline: Timeline) {
    this.name = name
    this.#timeline = timeline
  }

  get isDead(): boolean {
    return this.#isDead
  }

  get isPaused(): boolean {
    return this.#pauses > 0
  }

  get nowMs(): number {
    return this.#timeline.nowMs
  }

  /** A timer of this process. */
  after(delayUs: number, run: () => void): void {
    this.#timeline.after(delayUs, () => this.deliver(run))
  }

  /** Something has come for this process: it is looked at now, or when the process wakes, or never. */
  deliver(run: () => void): void {
    if (this.#isDead) return
    if (this.#pauses > 0) this.#backlog.push(run)
    else run()
  }

  pause(): void {
    this.#pauses++
  }

  resume(): void {
    if (this.#isDead || this.#pauses === 0 || --this.#pauses > 0) return
    // What it does now may pause or kill it again.
    while (this.#backlog.length > 0 && this.#pauses === 0 && !this.#isDead) this.#backlog.shift()!()
  }

  /** Ends at once, in the middle of whatever it did. */
  kill(how: Death): void {
    if (this.#isDead) return
    this.#isDead = true
    this.#backlog.length = 0
    for (const mourner of [...this.#mourners]) mourner(how)
    this.#mourners.clear()
  }

  onDeath(mourner: (how: Death) => void): void {
    this.#mourners.add(mourner)
  }

  forgetOnDeath(mourner: (how: Death) => void): void {
    this.#mourners.delete(mourner)
  }
}

/** `process`: its kernel sends what was written and closes its sockets. `host`: the power is gone, nobody hears a word. */
export type Death = 'process' | 'host'
