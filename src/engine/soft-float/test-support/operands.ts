/**
 * Operands that hurt. Uniform random bits almost never meet a tie, a cancellation, a subnormal or the edge of an integer
 * type; these do, most of the time. Correlated operands matter most: the second is often made from the first, the third
 * from their product.
 */

import type { Prng } from '../../../base/prng.ts'
import { type FloatFormat, type FloatOperation, floatOperations } from '../../../riscv/float-operations.ts'
import { exactReference } from './exact-reference.ts'

const shapes = {
  single: { width: 32, fractionBits: 23, maxField: 255, bias: 127 },
  double: { width: 64, fractionBits: 52, maxField: 2047, bias: 1023 },
} as const

function otherFormat(format: FloatFormat): FloatFormat {
  return format === 'single' ? 'double' : 'single'
}

/** A fraction or integer with structure: few ones, runs of ones, or neighbours of such. */
function pattern(prng: Prng, bits: number): bigint {
  const mask = (1n << BigInt(bits)) - 1n
  const bit = (): bigint => 1n << BigInt(prng.below(bits))
  const patterns: (() => bigint)[] = [
    () => prng.u64(),
    () => 0n,
    () => mask,
    () => bit(),
    () => bit() - 1n,
    () => mask ^ (bit() - 1n),
    () => bit() | bit(),
    () => bit() - bit(),
    () => (prng.u64() & ~(bit() - 1n)) | bit(),
    () => BigInt(prng.below(16)),
    () => mask - BigInt(prng.below(16)),
  ]
  return prng.pick(patterns)() & mask
}

/** One number of the format, from all the places where something changes. */
export function randomFloat(prng: Prng, format: FloatFormat): bigint {
  const { width, fractionBits, maxField, bias } = shapes[format]
  const fields: (() => number)[] = [
    () => prng.below(maxField + 1),
    () => bias + prng.below(9) - 4,
    () => bias + prng.below(9) - 4,
    () => prng.pick([0, 0, 1, 2]),
    () => prng.below(fractionBits + 4),
    () => maxField - prng.below(4),
    () => maxField,
    // Integers and their halves, and the ends of the integer types.
    () => bias + prng.below(70) - 2,
    () => bias + prng.pick([30, 31, 32, 62, 63, 64]),
    // For doubles: the ends of the singles, with the bits that a conversion has to round.
    () => Math.max(1, bias + prng.pick([-127, -126, 127, 128, -149, -150, -151]) + prng.below(3) - 1),
    // Products of these come near the ends of the range.
    () => (bias >> 1) + prng.below(fractionBits),
    () => bias + (bias >> 1) + prng.below(4),
  ]
  const sign = BigInt(prng.below(2)) << BigInt(width - 1)
  const field = Math.min(prng.pick(fields)(), maxField)
  return sign | (BigInt(field) << BigInt(fractionBits)) | pattern(prng, fractionBits)
}

/** A number near `bits`, a few units in the last place away, perhaps with the other sign or another exponent. */
function relative(prng: Prng, format: FloatFormat, bits: bigint): bigint {
  const { width, fractionBits } = shapes[format]
  let result = bits + BigInt(prng.below(9) - 4)
  if (prng.chance(0.5)) result ^= 1n << BigInt(width - 1)
  if (prng.chance(0.5)) result += BigInt(prng.below(2 * fractionBits + 5) - fractionBits - 2) << BigInt(fractionBits)
  return BigInt.asUintN(width, result)
}

/** One operand of each kind: what sets the paths of an operation apart. */
export function specialFloats(format: FloatFormat): readonly bigint[] {
  const { width, fractionBits, maxField, bias } = shapes[format]
  const fraction = BigInt(fractionBits)
  const positive = [
    0n,
    1n,
    (1n << fraction) - 1n,
    1n << fraction,
    BigInt(bias) << fraction,
    (BigInt(bias) << fraction) + 1n,
    (BigInt(maxField) << fraction) - 1n,
    BigInt(maxField) << fraction,
    (BigInt(maxField) << fraction) + 1n,
    ((2n * BigInt(maxField) + 1n) << (fraction - 1n)) + 5n,
  ]
  return positive.flatMap((bits) => [bits, bits | (1n << BigInt(width - 1))])
}

function randomInteger(prng: Prng): bigint {
  return BigInt.asUintN(64, prng.pick([1n, -1n]) * pattern(prng, 1 + prng.below(64)) + BigInt(prng.below(3) - 1))
}

/** Three numbers of the format; operations with fewer operands use the first ones. */
export function randomFloats(prng: Prng, format: FloatFormat): [bigint, bigint, bigint] {
  const a = randomFloat(prng, format)
  const b = prng.chance(0.4) ? relative(prng, format, a) : randomFloat(prng, format)
  const third = prng.below(4)
  if (third === 0) return [a, b, relative(prng, format, exactReference('mul', format, [a, b], prng.below(5)).bits)]
  if (third === 1) return [a, b, relative(prng, format, prng.pick([a, b]))]
  return [a, b, randomFloat(prng, format)]
}

export function randomOperands(prng: Prng, operation: FloatOperation, format: FloatFormat): bigint[] {
  if (operation.startsWith('from')) return [randomInteger(prng)]
  if (operation === 'convert') return [randomFloat(prng, otherFormat(format))]
  // Half of all roots would be of negative numbers, and all alike.
  if (operation === 'sqrt' && prng.chance(0.8))
    return [randomFloat(prng, format) & ~(1n << BigInt(shapes[format].width - 1))]
  return randomFloats(prng, format).slice(0, floatOperations[operation].operands)
}
