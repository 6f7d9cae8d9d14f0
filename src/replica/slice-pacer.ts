/**
 * How long the hart runs before it looks at its doorbell again: so many instructions as should take `sliceNs`, by the speed
 * of the last slices. An input that arrives waits for half a slice; each slice costs a look at the host's clock.
 *
 * Guest code runs at anything from a few to a thousand million instructions a second, and changes from one to the other
 * at once. What was just slow is believed at once, so that not many slices are too long; what is fast only by and by. And
 * an input interrupts what the guest does: what follows is the kernel's code, mostly, which is slow, and often the next
 * input comes soon.
 *
 * Nothing of this can be seen by the machine: where slices end is no part of the log.
 */

export interface SlicePolicy {
  readonly sliceNs: number
  /** A stretch of fewer says nothing about speed: it is mostly the way in and out. */
  readonly leastInstructions: number
  readonly mostInstructions: number
}

/** A frame may wait 200 µs in the median for its entry, the way from the main thread included. */
export const defaultSlicePolicy: SlicePolicy = {
  sliceNs: 100_000,
  leastInstructions: 2_000,
  mostInstructions: 60_000,
}

/** What to expect of the code that handles an input: 60 million instructions a second. */
const slowInstructionsPerNs = 0.06
/** Share of a faster measurement that is believed. */
const trust = 1 / 4

export class SlicePacer {
  readonly #policy: SlicePolicy
  #instructionsPerNs = 0.05

  constructor(policy: SlicePolicy = defaultSlicePolicy) {
    this.#policy = policy
  }

  /** Instructions of the next slice. */
  get instructions(): bigint {
    const { sliceNs, leastInstructions, mostInstructions } = this.#policy
    const wanted = Math.round(this.#instructionsPerNs * sliceNs)
    return BigInt(Math.min(mostInstructions, Math.max(leastInstructions, wanted)))
  }

  /** An input enters: slow code comes next. */
  onInput(): void {
    this.#instructionsPerNs = Math.min(this.#instructionsPerNs, slowInstructionsPerNs)
  }

  /** Report every stretch that the hart ran without a break. */
  onRan(instructions: bigint, durationNs: bigint): void {
    const tookNs = Number(durationNs)
    if (instructions < this.#policy.leastInstructions || tookNs <= 0) return
    const measured = Number(instructions) / tookNs
    const faster = measured - this.#instructionsPerNs
    this.#instructionsPerNs += faster < 0 ? faster : faster * trust
  }
}
