/** Integers that find bugs: the edges of every width far more often than chance would give them. */

import type { Prng } from '../../src/base/prng.ts'

const mask64 = (1n << 64n) - 1n

/** A 64-bit integer: small, a power of two or beside one, an extreme of some width, sign-extended, or plain random. */
export function integerOperand(prng: Prng): bigint {
  const value = ((): bigint => {
    switch (prng.below(8)) {
      case 0:
        return BigInt(prng.below(33) - 16)
      case 1:
        return (1n << BigInt(prng.below(64))) + BigInt(prng.below(3) - 1)
      case 2:
        return -(1n << BigInt(prng.below(64))) + BigInt(prng.below(3) - 1)
      case 3:
        return prng.pick([
          0n,
          -1n,
          (1n << 63n) - 1n,
          1n << 63n,
          0x7fff_ffffn,
          -0x8000_0000n,
          0xffff_ffffn,
          0x8000_0000n,
        ])
      case 4:
        return BigInt.asIntN(32, prng.u64())
      case 5:
        return prng.u64() >> BigInt(prng.below(64))
      default:
        return prng.u64()
    }
  })()
  return value & mask64
}
