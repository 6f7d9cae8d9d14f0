/**
 * One property over many seeds.
 *
 * The seeds are always the same ones: a test that also counts how often a situation came about would else fail now and then for
 * want of luck. Seeds that nobody has tried yet are the simulator's work (`npm run sim`).
 */

/** Checks seeds 1 to `runs`. @throws Error that names the first seed whose check throws, with that as its cause. */
export function forSeeds(runs: number, check: (seed: number) => void): void {
  for (let seed = 1; seed <= runs; seed++) {
    try {
      check(seed)
    } catch (cause) {
      throw new Error(`seed ${seed}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
    }
  }
}
