/**
 * Notices a hart's thread that hangs behind a main thread that lives: heartbeats and acknowledgements would go on for
 * ever, and nobody would take over. The hart counts its turns where the main thread can see them. One that takes no turn may
 * only be asleep with its guest, or paused: the doorbell is rung then, and a healthy hart takes a turn for it.
 *
 * Silence is counted in ticks, not in time: a process that was stopped as a whole (SIGSTOP, a suspended host) had no ticks
 * either, and finds its hart well when it wakes.
 */

export type HartHealth =
  /** It took a turn since the last tick, or is still starting. */
  | 'well'
  /** It did not. Ring the doorbell. */
  | 'silent'
  /** It did not for too many ticks, however often it was rung. */
  | 'hanging'

export class HartWatch {
  readonly #silenceTicks: number
  #lastTurns = 0n
  #ticks = 0

  constructor(silenceTicks: number) {
    this.#silenceTicks = silenceTicks
  }

  /** @param turns that the hart has begun; 0 while it is still starting, which may take as long as it likes */
  onTick(turns: bigint): HartHealth {
    if (turns === 0n || turns !== this.#lastTurns) {
      this.#lastTurns = turns
      this.#ticks = 0
      return 'well'
    }
    this.#ticks++
    return this.#ticks >= this.#silenceTicks ? 'hanging' : 'silent'
  }
}
