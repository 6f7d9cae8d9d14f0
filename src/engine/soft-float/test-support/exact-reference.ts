/**
 * What the soft-float library must give, worked out in the most literal way: numbers are exact fractions of big integers,
 * and rounding is a comparison with the two neighbours. Slow, and without anything in common with the code under test.
 *
 * A square root is no fraction; it is replaced by one that lies on the same side of every number and every midpoint of the
 * format (the root's first 300 binary digits, and half a digit more if there are further ones).
 */

import { unreachable } from '../../../base/assert.ts'
import type { FloatFormat, FloatOperation } from '../../../riscv/float-operations.ts'

export interface Outcome {
  readonly bits: bigint
  readonly flags: number
}

const NV = 16
const DZ = 8
const OF = 4
const UF = 2
const NX = 1

/** A magnitude: numerator ≥ 0, denominator > 0. */
interface Fraction {
  readonly n: bigint
  readonly d: bigint
}

type Datum =
  | { readonly kind: 'nan'; readonly signaling: boolean }
  | { readonly kind: 'infinity'; readonly negative: boolean }
  | { readonly kind: 'number'; readonly negative: boolean; readonly size: Fraction }

/** p: digits of a significand, emax: exponent of the largest power of two (IEEE 754-2019, table 3.5). */
const parameters = { single: { width: 32n, p: 24n, emax: 127n }, double: { width: 64n, p: 53n, emax: 1023n } } as const

const nan = { single: 0x7fc00000n, double: 0x7ff8000000000000n } as const

function power(exponent: bigint): Fraction {
  return exponent >= 0n ? { n: 1n << exponent, d: 1n } : { n: 1n, d: 1n << -exponent }
}

function times(x: Fraction, y: Fraction): Fraction {
  return { n: x.n * y.n, d: x.d * y.d }
}

function compare(x: Fraction, y: Fraction): number {
  const difference = x.n * y.d - y.n * x.d
  return difference < 0n ? -1 : difference > 0n ? 1 : 0
}

function signed(x: { negative: boolean; size: Fraction }): Fraction {
  return { n: x.negative ? -x.size.n : x.size.n, d: x.size.d }
}

/** ⌊log2 x⌋ of x > 0. */
function floorLog2({ n, d }: Fraction): bigint {
  let guess = BigInt(n.toString(2).length - d.toString(2).length)
  while (compare({ n, d }, power(guess)) < 0) guess--
  return guess
}

function decode(format: FloatFormat, bits: bigint): Datum {
  const { width, p, emax } = parameters[format]
  const negative = bits >> (width - 1n) === 1n
  const fraction = bits & ((1n << (p - 1n)) - 1n)
  const exponent = (bits >> (p - 1n)) & (2n * emax + 1n)
  if (exponent === 2n * emax + 1n) {
    if (fraction === 0n) return { kind: 'infinity', negative }
    return { kind: 'nan', signaling: fraction >> (p - 2n) === 0n }
  }
  const digits = exponent === 0n ? fraction : fraction + (1n << (p - 1n))
  const weight = (exponent === 0n ? 1n : exponent) - emax - (p - 1n)
  return { kind: 'number', negative, size: times({ n: digits, d: 1n }, power(weight)) }
}

/** The integer that mode `rm` makes of x ≥ 0 with the given sign. */
function roundToInteger(x: Fraction, negative: boolean, rm: number): { integer: bigint; exact: boolean } {
  const below = x.n / x.d
  const twiceRest = 2n * (x.n - below * x.d)
  if (twiceRest === 0n) return { integer: below, exact: true }
  let up: boolean
  if (rm === 0) up = twiceRest > x.d || (twiceRest === x.d && below % 2n === 1n)
  else if (rm === 1) up = false
  else if (rm === 2) up = negative
  else if (rm === 3) up = !negative
  else up = twiceRest >= x.d
  return { integer: up ? below + 1n : below, exact: false }
}

function signBit(format: FloatFormat, negative: boolean): bigint {
  return negative ? 1n << (parameters[format].width - 1n) : 0n
}

function infinity(format: FloatFormat, negative: boolean): bigint {
  const { p, emax } = parameters[format]
  return signBit(format, negative) | ((2n * emax + 1n) << (p - 1n))
}

function round(format: FloatFormat, negative: boolean, x: Fraction, rm: number): Outcome {
  const { p, emax } = parameters[format]
  const sign = signBit(format, negative)
  if (x.n === 0n) return { bits: sign, flags: 0 }
  const emin = 1n - emax
  const e = floorLog2(x)

  const quantum = (e < emin ? emin : e) - (p - 1n)
  const { integer, exact } = roundToInteger(times(x, power(-quantum)), negative, rm)
  const result = times({ n: integer, d: 1n }, power(quantum))
  if (compare(result, power(emax + 1n)) >= 0) {
    const staysFinite = rm === 1 || (rm === 2 && !negative) || (rm === 3 && negative)
    return { bits: infinity(format, negative) - (staysFinite ? 1n : 0n), flags: OF | NX }
  }

  const unboundedQuantum = e - (p - 1n)
  const unbounded = roundToInteger(times(x, power(-unboundedQuantum)), negative, rm).integer
  const tiny = compare(times({ n: unbounded, d: 1n }, power(unboundedQuantum)), power(emin)) < 0
  const flags = exact ? 0 : tiny ? UF | NX : NX

  if (integer < 1n << (p - 1n)) return { bits: sign | integer, flags }
  const carried = integer === 1n << p
  const fraction = carried ? 0n : integer - (1n << (p - 1n))
  const field = quantum + (p - 1n) + emax + (carried ? 1n : 0n)
  return { bits: sign | (field << (p - 1n)) | fraction, flags }
}

/** Rounds a signed sum or product; `zeroIsNegative` gives the sign of an exact zero. */
function roundSigned(format: FloatFormat, x: Fraction, zeroIsNegative: boolean, rm: number): Outcome {
  if (x.n === 0n) return { bits: signBit(format, zeroIsNegative), flags: 0 }
  return round(format, x.n < 0n, { n: x.n < 0n ? -x.n : x.n, d: x.d }, rm)
}

function integerRoot(n: bigint): bigint {
  if (n < 2n) return n
  let x = 1n << BigInt((n.toString(2).length + 1) >> 1)
  for (;;) {
    const next = (x + n / x) >> 1n
    if (next >= x) return x
    x = next
  }
}

function toInteger(format: FloatFormat, bits: bigint, width: bigint, isSigned: boolean, rm: number): Outcome {
  const lowest = isSigned ? -(1n << (width - 1n)) : 0n
  const highest = isSigned ? (1n << (width - 1n)) - 1n : (1n << width) - 1n
  const out = (value: bigint): bigint => BigInt.asUintN(64, BigInt.asIntN(Number(width), value))
  const x = decode(format, bits)
  if (x.kind === 'nan') return { bits: out(highest), flags: NV }
  if (x.kind === 'infinity') return { bits: out(x.negative ? lowest : highest), flags: NV }
  const { integer, exact } = roundToInteger(x.size, x.negative, rm)
  const value = x.negative ? -integer : integer
  if (value < lowest) return { bits: out(lowest), flags: NV }
  if (value > highest) return { bits: out(highest), flags: NV }
  return { bits: out(value), flags: exact ? 0 : NX }
}

function fromInteger(format: FloatFormat, bits: bigint, width: number, isSigned: boolean, rm: number): Outcome {
  const value = isSigned ? BigInt.asIntN(width, bits) : BigInt.asUintN(width, bits)
  return roundSigned(format, { n: value, d: 1n }, false, rm)
}

function convert(format: FloatFormat, bits: bigint, rm: number): Outcome {
  const x = decode(format === 'single' ? 'double' : 'single', bits)
  if (x.kind === 'nan') return { bits: nan[format], flags: x.signaling ? NV : 0 }
  if (x.kind === 'infinity') return { bits: infinity(format, x.negative), flags: 0 }
  return round(format, x.negative, x.size, rm)
}

function classify(format: FloatFormat, bits: bigint): bigint {
  const x = decode(format, bits)
  if (x.kind === 'nan') return x.signaling ? 0x100n : 0x200n
  if (x.kind === 'infinity') return x.negative ? 1n : 0x80n
  if (x.size.n === 0n) return x.negative ? 8n : 0x10n
  if (compare(x.size, power(1n - parameters[format].emax)) < 0) return x.negative ? 4n : 0x20n
  return x.negative ? 2n : 0x40n
}

function extreme(format: FloatFormat, a: bigint, b: bigint, wantsLess: boolean): Outcome {
  const x = decode(format, a)
  const y = decode(format, b)
  const flags = (x.kind === 'nan' && x.signaling) || (y.kind === 'nan' && y.signaling) ? NV : 0
  if (x.kind === 'nan') return { bits: y.kind === 'nan' ? nan[format] : b, flags }
  if (y.kind === 'nan') return { bits: a, flags }
  const order = compareValues(x, y) || Number(y.negative) - Number(x.negative)
  return { bits: order < 0 === wantsLess ? a : b, flags }
}

/** Negative, zero or positive; −0 equals +0. */
function compareValues(x: Exclude<Datum, { kind: 'nan' }>, y: Exclude<Datum, { kind: 'nan' }>): number {
  const rank = (v: typeof x): number => (v.kind === 'infinity' ? (v.negative ? -1 : 1) : 0)
  if (x.kind === 'infinity' || y.kind === 'infinity') return rank(x) - rank(y)
  return compare(signed(x), signed(y))
}

function relation(
  format: FloatFormat,
  a: bigint,
  b: bigint,
  quiet: boolean,
  holds: (order: number) => boolean,
): Outcome {
  const x = decode(format, a)
  const y = decode(format, b)
  if (x.kind === 'nan' || y.kind === 'nan') {
    const signaling = (x.kind === 'nan' && x.signaling) || (y.kind === 'nan' && y.signaling)
    return { bits: 0n, flags: signaling || !quiet ? NV : 0 }
  }
  return { bits: holds(compareValues(x, y)) ? 1n : 0n, flags: 0 }
}

/** a · b + c in full generality; sums and products are special cases that IEEE 754 treats alike. */
function multiplyAdd(format: FloatFormat, a: Datum, b: Datum, c: Datum | undefined, rm: number): Outcome {
  const invalid = { bits: nan[format], flags: NV }
  const isZero = (x: Datum): boolean => x.kind === 'number' && x.size.n === 0n
  if ((a.kind === 'infinity' && isZero(b)) || (b.kind === 'infinity' && isZero(a))) return invalid
  const nans = [a, b, c].filter((x) => x?.kind === 'nan')
  if (nans.length > 0) return { bits: nan[format], flags: nans.some((x) => x?.kind === 'nan' && x.signaling) ? NV : 0 }
  if (a.kind === 'nan' || b.kind === 'nan' || c?.kind === 'nan') return invalid
  const negative = a.negative !== b.negative
  if (a.kind === 'infinity' || b.kind === 'infinity') {
    if (c?.kind === 'infinity' && c.negative !== negative) return invalid
    return { bits: infinity(format, negative), flags: 0 }
  }
  if (c?.kind === 'infinity') return { bits: infinity(format, c.negative), flags: 0 }
  const product = times(signed(a), signed(b))
  if (!c) return roundSigned(format, product, negative, rm)
  const addend = signed(c)
  const sum = { n: product.n * addend.d + addend.n * product.d, d: product.d * addend.d }
  return roundSigned(format, sum, negative === c.negative ? negative : rm === 2, rm)
}

function divide(format: FloatFormat, a: Datum, b: Datum, rm: number): Outcome {
  const invalid = { bits: nan[format], flags: NV }
  if (a.kind === 'nan' || b.kind === 'nan') {
    const signaling = (a.kind === 'nan' && a.signaling) || (b.kind === 'nan' && b.signaling)
    return { bits: nan[format], flags: signaling ? NV : 0 }
  }
  const negative = a.negative !== b.negative
  if (a.kind === 'infinity') return b.kind === 'infinity' ? invalid : { bits: infinity(format, negative), flags: 0 }
  if (b.kind === 'infinity') return { bits: signBit(format, negative), flags: 0 }
  if (b.size.n === 0n) return a.size.n === 0n ? invalid : { bits: infinity(format, negative), flags: DZ }
  return round(format, negative, { n: a.size.n * b.size.d, d: a.size.d * b.size.n }, rm)
}

function squareRoot(format: FloatFormat, bits: bigint, rm: number): Outcome {
  const a = decode(format, bits)
  if (a.kind === 'nan') return { bits: nan[format], flags: a.signaling ? NV : 0 }
  if (a.kind === 'number' && a.size.n === 0n) return { bits, flags: 0 }
  if (a.negative) return { bits: nan[format], flags: NV }
  if (a.kind === 'infinity') return { bits, flags: 0 }
  // The size is a subnormal of about 2^−1074 at least: 900 digits behind the point leave it 300 significant ones.
  const digits = 900n
  const scaled = (a.size.n << (2n * digits)) / a.size.d
  const root = integerRoot(scaled)
  return round(format, false, { n: 2n * root + (root * root === scaled ? 0n : 1n), d: 1n << (digits + 1n) }, rm)
}

const one: Datum = { kind: 'number', negative: false, size: { n: 1n, d: 1n } }

function negated(x: Datum): Datum {
  return x.kind === 'nan' ? x : { ...x, negative: !x.negative }
}

export function exactReference(
  operation: FloatOperation,
  format: FloatFormat,
  operands: readonly bigint[],
  rm: number,
): Outcome {
  const [a = 0n, b = 0n, c = 0n] = operands
  switch (operation) {
    case 'add':
      return multiplyAdd(format, decode(format, a), one, decode(format, b), rm)
    case 'sub':
      return multiplyAdd(format, decode(format, a), one, negated(decode(format, b)), rm)
    case 'mul':
      return multiplyAdd(format, decode(format, a), decode(format, b), undefined, rm)
    case 'fma':
      return multiplyAdd(format, decode(format, a), decode(format, b), decode(format, c), rm)
    case 'div':
      return divide(format, decode(format, a), decode(format, b), rm)
    case 'sqrt':
      return squareRoot(format, a, rm)
    case 'min':
      return extreme(format, a, b, true)
    case 'max':
      return extreme(format, a, b, false)
    case 'eq':
      return relation(format, a, b, true, (order) => order === 0)
    case 'lt':
      return relation(format, a, b, false, (order) => order < 0)
    case 'le':
      return relation(format, a, b, false, (order) => order <= 0)
    case 'class':
      return { bits: classify(format, a), flags: 0 }
    case 'toI32':
      return toInteger(format, a, 32n, true, rm)
    case 'toU32':
      return toInteger(format, a, 32n, false, rm)
    case 'toI64':
      return toInteger(format, a, 64n, true, rm)
    case 'toU64':
      return toInteger(format, a, 64n, false, rm)
    case 'fromI32':
      return fromInteger(format, a, 32, true, rm)
    case 'fromU32':
      return fromInteger(format, a, 32, false, rm)
    case 'fromI64':
      return fromInteger(format, a, 64, true, rm)
    case 'fromU64':
      return fromInteger(format, a, 64, false, rm)
    case 'convert':
      return convert(format, a, rm)
    default:
      return unreachable(operation)
  }
}
