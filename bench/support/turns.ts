/** Whose turn it is when several are measured in one run. */

/** All of them, and in each round another one first: whatever else the machine does hits all alike. */
export function inTurns<T>(items: readonly T[], round: number): T[] {
  return items.map((_, turn) => items[(round + turn) % items.length]!)
}
