/**
 * Floating-point operands that find bugs: the edges of both formats, and tuples made for an operation, whose exact result
 * lies on or right beside a place where something is decided: a tie, the border of the subnormal numbers, overflow,
 * cancellation. Random bits meet such places about never.
 */

import type { Prng } from '../../src/base/prng.ts'

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
  return bits | (prng.chance(0.5) ? 0xffff_fffe_0000_0000n : BigInt.asUintN(64, prng.u64() << 32n))
}

export function doubleOperand(prng: Prng): bigint {
  return floatBits(prng, double)
}

/** A finite number as it is stored: (−1)^negative · significand · 2^(exponent − bias − fractionBits), exponent ≥ 1. */
interface Parts {
  readonly negative: boolean
  readonly exponent: number
  /** With its leading one, unless the number is subnormal (exponent 1). */
  readonly significand: bigint
}

function bitLength(value: bigint): number {
  return value === 0n ? 0 : value.toString(2).length
}

function pack({ negative, exponent, significand }: Parts, { exponentBits, fractionBits }: Layout): bigint {
  const isSubnormal = significand >> BigInt(fractionBits) === 0n
  const clamped = BigInt(Math.max(isSubnormal ? 0 : 1, Math.min(isSubnormal ? 0 : exponent, (1 << exponentBits) - 2)))
  const sign = negative ? 1n << BigInt(exponentBits + fractionBits) : 0n
  return sign | (clamped << BigInt(fractionBits)) | (significand & ((1n << BigInt(fractionBits)) - 1n))
}

/** A significand whose last one is `bits` places behind the leading one. */
function shortSignificand(prng: Prng, bits: number, fractionBits: number): bigint {
  if (bits <= 0) return 1n << BigInt(fractionBits)
  const tail = (prng.u64() & ((1n << BigInt(bits)) - 1n)) | 1n
  return ((1n << BigInt(bits)) | tail) << BigInt(fractionBits - bits)
}

/** Two factors whose product has one bit more than the format, is just below a power of two, or is anything. */
function factorSignificands(prng: Prng, fractionBits: number): [bigint, bigint] {
  const one = 1n << BigInt(fractionBits)
  switch (prng.below(4)) {
    case 0: {
      const bits = prng.below(fractionBits)
      return [
        shortSignificand(prng, bits, fractionBits),
        shortSignificand(prng, fractionBits + 1 - bits - prng.below(3), fractionBits),
      ]
    }
    case 1: {
      // (1 + e)(2 − 2e) = 2 − 2e²
      const bits = BigInt((fractionBits >> 1) + prng.below((fractionBits >> 1) + 1))
      const e = one >> bits
      return [one + e, 2n * (one - e)]
    }
    default:
      return [one | fraction(prng, fractionBits), one | fraction(prng, fractionBits)]
  }
}

/** Exponents a and b with a + b = the biased exponent of a product that lands where something is decided. */
function factorExponents(prng: Prng, { exponentBits, fractionBits }: Layout): [number, number] {
  const special = (1 << exponentBits) - 1
  const bias = special >> 1
  const result = prng.pick([
    prng.below(3) - 1, // around the smallest normal number
    -prng.below(fractionBits + 3), // subnormal
    special - 1 - prng.below(3), // around overflow
    1 + prng.below(special - 1),
  ])
  const sum = result + bias
  const a = Math.max(1, Math.min(special - 1, (sum >> 1) + prng.below(9) - 4))
  return [a, Math.max(1, Math.min(special - 1, sum - a))]
}

/** A number `distance` binades away from another: half a unit of its last place is fractionBits + 1 below it. */
function neighbor(prng: Prng, exponent: number, { fractionBits }: Layout): Parts {
  const distance = prng.chance(0.4) ? fractionBits + prng.below(4) - 1 : prng.below(fractionBits + 4)
  const one = 1n << BigInt(fractionBits)
  const significand = prng.chance(0.5) ? one : one | fraction(prng, fractionBits)
  return { negative: prng.chance(0.5), exponent: Math.max(1, exponent - distance), significand }
}

/** Operands for `a · b + c`. */
function fusedTuple(prng: Prng, layout: Layout): [Parts, Parts, Parts] {
  const { exponentBits, fractionBits } = layout
  const bias = (1 << (exponentBits - 1)) - 1
  const [x, y] = factorSignificands(prng, fractionBits)
  const [ex, ey] = factorExponents(prng, layout)
  // 2(1 − e) is written with a significand of the next binade.
  const normal = (significand: bigint, exponent: number): Parts => {
    const shift = bitLength(significand) - 1 - fractionBits
    return { negative: prng.chance(0.5), exponent: exponent + shift, significand: significand >> BigInt(shift) }
  }
  const a = normal(x, ex)
  const b = normal(y, ey)
  const product = a.significand * b.significand
  const productBits = bitLength(product)
  const exponent = a.exponent + b.exponent - bias + (productBits - 1 - 2 * fractionBits)
  const cancelling: Parts = {
    negative: a.negative === b.negative,
    exponent,
    significand: (product >> BigInt(productBits - 1 - fractionBits)) + BigInt(prng.below(3) - 1),
  }
  const tiny: Parts = { negative: prng.chance(0.5), exponent: 1, significand: 1n << BigInt(prng.below(fractionBits)) }
  const c = prng.pick([
    cancelling,
    tiny,
    neighbor(prng, exponent, layout),
    neighbor(prng, exponent + fractionBits, layout),
  ])
  return [a, b, c]
}

function pairOrTriple(prng: Prng, operation: string, layout: Layout): bigint[] {
  const [a, b, c] = fusedTuple(prng, layout)
  switch (operation) {
    case 'fadd':
    case 'fsub': {
      if (prng.chance(0.7)) return [pack(a, layout), pack(neighbor(prng, a.exponent, layout), layout)]
      // All ones and about two units of its last place: the carry moves the places where bits are lost.
      const one = 1n << BigInt(layout.fractionBits)
      const exponent = Math.max(layout.fractionBits + 2, a.exponent)
      const tail = 1n << BigInt(prng.below(layout.fractionBits))
      const small = {
        negative: a.negative,
        exponent: exponent - layout.fractionBits + prng.below(3),
        significand: one | tail,
      }
      return [pack({ ...a, exponent, significand: 2n * one - 1n }, layout), pack(small, layout)]
    }
    case 'fdiv': {
      // b's reciprocal exponent, so that the quotient lands where the product would.
      const bias = (1 << (layout.exponentBits - 1)) - 1
      const divisor = { ...b, exponent: Math.max(1, 2 * bias - b.exponent) }
      return [
        pack(a, layout),
        pack(prng.chance(0.5) ? { ...divisor, significand: 1n << BigInt(layout.fractionBits) } : divisor, layout),
      ]
    }
    case 'fsqrt': {
      const root = shortSignificand(prng, prng.below((layout.fractionBits >> 1) + 1), layout.fractionBits)
      const square = root * root
      const significand = (square >> BigInt(bitLength(square) - 1 - layout.fractionBits)) + BigInt(prng.below(3) - 1)
      return [pack({ negative: false, exponent: a.exponent, significand }, layout)]
    }
    case 'fmin':
    case 'fmax':
    case 'fle':
    case 'flt':
    case 'feq': {
      const first = floatBits(prng, layout)
      const sign = 1n << BigInt(layout.exponentBits + layout.fractionBits)
      return [first, prng.pick([first, first ^ sign, first ^ 1n, floatBits(prng, layout)])]
    }
    default:
      return [pack(a, layout), pack(b, layout), pack(c, layout)]
  }
}

/** A double for FCVT.S.D: a single's worth of bits and then a tie, nearly a tie, or a tail; over a single's whole range. */
function narrowing(prng: Prng): bigint {
  const exponent = 1023 + prng.pick([-126, -127, -126 - prng.below(27), 127, 128, prng.below(250) - 125])
  const lost = 29 + (exponent < 1023 - 126 ? Math.min(24, 1023 - 126 - exponent) : 0)
  const half = 1n << BigInt(lost - 1)
  const kept = prng.chance(0.5) ? (1n << 52n) - 1n : prng.u64() & ((1n << 52n) - 1n)
  const tail = prng.pick([half, half - 1n, half + 1n, 0n, 1n, 2n * half - 1n])
  const significand = (((1n << 52n) | kept) & ~(2n * half - 1n)) | tail
  return pack({ negative: prng.chance(0.5), exponent, significand: significand | (1n << 52n) }, double)
}

/** A number with a fraction of a half, beside it, or at the edge of an integer type. */
function nearInteger(prng: Prng, layout: Layout): bigint {
  const bias = (1 << (layout.exponentBits - 1)) - 1
  const exponent = prng.pick([-2, -1, 0, 1, 30, 31, 32, 62, 63, 64, prng.below(layout.fractionBits)])
  const one = 1n << BigInt(layout.fractionBits)
  const unit = one >> BigInt(Math.max(0, Math.min(exponent, layout.fractionBits)))
  const integer = (one | fraction(prng, layout.fractionBits)) & ~(unit - 1n)
  const significand = integer + prng.pick([0n, unit / 2n, unit / 2n - 1n, unit / 2n + 1n, -1n, 1n])
  const isCarry = significand >= 2n * one
  return pack(
    { negative: prng.chance(0.5), exponent: bias + exponent, significand: isCarry ? 2n * one - 1n : significand },
    layout,
  )
}

/** An integer whose conversion ties at 24 or 53 bits, or nearly. */
export function tyingInteger(prng: Prng): bigint {
  const bits = prng.pick([24, 53])
  const shift = 1 + prng.below(64 - bits)
  const half = 1n << BigInt(shift - 1)
  const top = (1n << BigInt(bits - 1)) | (prng.u64() & ((1n << BigInt(bits - 1)) - 1n))
  const value = (top << BigInt(shift)) + prng.pick([half, half - 1n, half + 1n, 2n * half - 1n])
  return BigInt.asUintN(64, prng.chance(0.5) ? -value : value)
}

/** Zeros, infinities, NaNs and extremes, whose combinations have rules of their own. */
function special(prng: Prng, { exponentBits, fractionBits }: Layout): bigint {
  const bias = (1n << BigInt(exponentBits - 1)) - 1n
  const one = 1n << BigInt(fractionBits)
  const infinity = (2n * bias + 1n) * one
  const magnitude = prng.pick([
    0n,
    0n,
    infinity,
    infinity,
    infinity | (one >> 1n),
    infinity | 1n,
    bias * one,
    1n,
    infinity - 1n,
  ])
  return magnitude | (prng.chance(0.5) ? 1n << BigInt(exponentBits + fractionBits) : 0n)
}

/** The raw contents of rs1, rs2, rs3 for a floating-point instruction, by its name in the table. */
export function operandsFor(prng: Prng, name: string): bigint[] {
  const operation = name.slice(0, name.indexOf('.'))
  const isSingle = name === 'fcvt.d.s' || (name.endsWith('.s') && name !== 'fcvt.s.d')
  const layout = isSingle ? single : double
  const box = (bits: bigint): bigint => (isSingle ? bits | boxHigh : bits)
  if (prng.chance(0.2)) return [0, 1, 2].map(() => box(special(prng, layout)))
  if (name === 'fcvt.s.d') return [narrowing(prng)]
  if (/^fcvt\.(w|wu|l|lu)\./.test(name)) return [box(nearInteger(prng, layout))]
  return pairOrTriple(prng, operation, layout).map(box)
}
