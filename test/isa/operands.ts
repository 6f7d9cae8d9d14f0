/**
 * Operands that find bugs: the edges of every format far more often than chance would give them, and floating-point
 * values close enough to each other to cancel, to tie and to overflow.
 */

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

interface Layout {
  readonly exponentBits: number
  readonly fractionBits: number
}

const single: Layout = { exponentBits: 8, fractionBits: 23 }
const double: Layout = { exponentBits: 11, fractionBits: 52 }

/** Few bits set, or a run of ones: what makes sums and products exact, tied or one unit off. */
function fraction(prng: Prng, bits: number): bigint {
  const all = (1n << BigInt(bits)) - 1n
  switch (prng.below(6)) {
    case 0:
      return 0n
    case 1:
      return all
    case 2:
      return 1n << BigInt(prng.below(bits))
    case 3:
      return all ^ ((1n << BigInt(prng.below(bits))) - 1n)
    case 4:
      return (1n << BigInt(prng.below(bits))) - 1n
    default:
      return prng.u64() & all
  }
}

function floatBits(prng: Prng, { exponentBits, fractionBits }: Layout): bigint {
  const maximum = (1 << exponentBits) - 1
  const bias = maximum >> 1
  const exponent = ((): number => {
    switch (prng.below(10)) {
      case 0: // zero or subnormal
        return 0
      case 1: // infinity or NaN
        return maximum
      case 2: // the least normal numbers
        return 1 + prng.below(3)
      case 3: // the greatest
        return maximum - 1 - prng.below(3)
      case 4: // near the edges of the integer types
        return bias + prng.pick([30, 31, 32, 33, 52, 53, 62, 63, 64, 65])
      case 5: // products that just underflow or overflow
        return (prng.chance(0.5) ? bias >> 1 : bias + (bias >> 1)) + prng.below(5) - 2
      case 6:
        return prng.below(maximum + 1)
      default: // near 1
        return bias + prng.below(9) - 4
    }
  })()
  const sign = BigInt(prng.below(2))
  return (
    (((sign << BigInt(exponentBits)) | BigInt(Math.min(exponent, maximum))) << BigInt(fractionBits)) |
    fraction(prng, fractionBits)
  )
}

const boxHigh = 0xffff_ffff_0000_0000n

/** The 64 bits of an f register that holds a single; one in sixteen breaks the rule of NaN boxing. */
export function singleOperand(prng: Prng): bigint {
  const bits = floatBits(prng, single)
  if (prng.below(16) !== 0) return bits | boxHigh
  return bits | (prng.chance(0.5) ? 0xffff_fffe_0000_0000n : (prng.u64() << 32n) & mask64)
}

export function doubleOperand(prng: Prng): bigint {
  return floatBits(prng, double)
}
