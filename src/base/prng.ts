/**
 * A small seeded generator (SplitMix64) for tests, the simulator and fault schedules. Same seed, same sequence, on every
 * machine. Not for keys.
 */
export class Prng {
  #state: bigint

  constructor(seed: bigint | number) {
    this.#state = BigInt.asUintN(64, BigInt(seed))
  }

  /** The next 64 random bits. */
  u64(): bigint {
    this.#state = BigInt.asUintN(64, this.#state + 0x9e3779b97f4a7c15n)
    let z = this.#state
    z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n)
    z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn)
    return z ^ (z >> 31n)
  }

  /** A number in [0, limit). */
  below(limit: number): number {
    return Number(this.u64() % BigInt(limit))
  }

  /** True with the given probability. */
  chance(probability: number): boolean {
    return Number(this.u64() >> 11n) / 2 ** 53 < probability
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)]
    if (item === undefined) throw new RangeError('pick from an empty list')
    return item
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256))
  }
}
