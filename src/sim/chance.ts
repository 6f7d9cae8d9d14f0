/**
 * The simulator's dice: small and fast, because it rolls them thousands of times a seed. `base/prng.ts` counts in bigints,
 * which is too slow here. (The generator is Marsaglia's xorshift128; facts of his paper "Xorshift RNGs", 2003.)
 */
export class Chance {
  #x: number
  #y: number
  #z: number
  #w: number

  /** Seeds that differ give streams that differ, also when they are neighbours. */
  constructor(seed: number, stream = 0) {
    this.#x = scramble(seed >>> 0)
    this.#y = scramble(this.#x ^ Math.floor(seed / 2 ** 32))
    this.#z = scramble(this.#y ^ stream)
    this.#w = scramble(this.#z) | 1
  }

  /** The next 32 random bits, as a number from 0. */
  u32(): number {
    const t = this.#x ^ (this.#x << 11)
    this.#x = this.#y
    this.#y = this.#z
    this.#z = this.#w
    this.#w = this.#w ^ (this.#w >>> 19) ^ t ^ (t >>> 8)
    return this.#w >>> 0
  }

  /** An integer in [0, limit). */
  below(limit: number): number {
    return this.u32() % limit
  }

  /** An integer in [from, to]. */
  between(from: number, to: number): number {
    return from + this.below(to - from + 1)
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.u32() < probability * 2 ** 32
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    for (let index = 0; index < length; index++) bytes[index] = this.u32()
    return bytes
  }
}

function scramble(value: number): number {
  let mixed = (value + 0x9e37_79b9) | 0
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0_aaad)
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a_2d97)
  return (mixed ^ (mixed >>> 15)) >>> 0
}
