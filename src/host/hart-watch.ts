/**
 * Notices a hart's thread that hangs behind a main thread that lives: heartbeats and acknowledgements would go on for
 * ever, and nobody would take over. The main thread rings the doorbell now and then, and the hart writes down the ring it
 * heard at the begin of each turn, also when the guest sleeps or the machine is paused.
 *
 * Silence is counted in ticks, not in time: a process that was stopped as a whole (SIGSTOP, a suspended host) had no ticks
 * either, and finds its hart well when it wakes.
 */

export class HartWatch {
  readonly #silenceTicks: number
  #lastHeard = 0n
  #ticks = 0

  constructor(silenceTicks: number) {
    this.#silenceTicks = silenceTicks
  }

  /**
   * @param heard the last ring that the hart heard; 0 while it is still starting, which may take as long as it likes
   * @returns true when it heard nothing new for too many ticks
   */
  onTick(heard: bigint): boolean {
    if (heard === 0n || heard !== this.#lastHeard) {
      this.#lastHeard = heard
      this.#ticks = 0
      return false
    }
    this.#ticks++
    return this.#ticks >= this.#silenceTicks
  }
}
