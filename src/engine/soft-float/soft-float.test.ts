import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Prng } from '../../base/prng.ts'
import { canonicalNan, type FloatFormat, type FloatOperation, floatOperations } from '../../riscv/float-operations.ts'
import { exactReference } from './test-support/exact-reference.ts'
import { randomFloats, randomOperands, specialFloats } from './test-support/operands.ts'
import { describeCase, formats, operations, SoftFloatInstance } from './test-support/soft-float-instance.ts'

const library = new SoftFloatInstance()

const view = new DataView(new ArrayBuffer(8))

function toHost(format: FloatFormat, bits: bigint): number {
  if (format === 'double') view.setBigUint64(0, bits)
  else view.setUint32(0, Number(bits))
  return format === 'double' ? view.getFloat64(0) : view.getFloat32(0)
}

function fromHost(format: FloatFormat, value: number): bigint {
  if (Number.isNaN(value)) return canonicalNan[format]
  if (format === 'double') view.setFloat64(0, value)
  else view.setFloat32(0, value)
  return format === 'double' ? view.getBigUint64(0) : BigInt(view.getUint32(0))
}

function modes(operation: FloatOperation): readonly number[] {
  return floatOperations[operation].rounds ? [0, 1, 2, 3, 4] : [0]
}

function assertCase(
  operation: FloatOperation,
  format: FloatFormat,
  operands: readonly bigint[],
  rm: number,
  bits: bigint,
  flags: number,
): void {
  const actual = library.run(operation, format, operands, rm)
  if (actual.bits === bits && actual.flags === flags) return
  assert.equal(
    describeCase(operation, format, operands, rm, actual),
    describeCase(operation, format, operands, rm, { bits, flags }),
  )
}

describe('every operation agrees with exact fractions, in value and flags, in all rounding modes', () => {
  for (const format of formats) {
    for (const operation of operations) {
      test(`${format}.${operation}`, () => {
        const prng = new Prng(0x5eed)
        for (let i = 0; i < 1500; i++) {
          const operands = randomOperands(prng, operation, format)
          for (const rm of modes(operation)) {
            const expected = exactReference(operation, format, operands, rm)
            assertCase(operation, format, operands, rm, expected.bits, expected.flags)
          }
        }
      })
    }
  }
})

test('every pair of zeros, subnormals, ends, infinities and NaNs agrees with exact fractions, and every third one too', () => {
  for (const format of formats) {
    const specials = specialFloats(format)
    for (const operation of operations.filter((name) => floatOperations[name].operands > 1)) {
      const thirds = operation === 'fma' ? specials : [0n]
      for (const a of specials) {
        for (const b of specials) {
          for (const c of thirds) {
            for (const rm of operation === 'fma' ? [0, 2] : modes(operation)) {
              const operands = [a, b, c].slice(0, floatOperations[operation].operands)
              const expected = exactReference(operation, format, operands, rm)
              assertCase(operation, format, operands, rm, expected.bits, expected.flags)
            }
          }
        }
      }
    }
  }
})

test('every integer around the ends of the formats and types, and half-way between, converts like exact fractions', () => {
  for (const format of formats) {
    for (const operation of operations.filter((name) => name.startsWith('to') || name.startsWith('from'))) {
      for (const exponent of [0, 1, 22, 23, 24, 25, 30, 31, 32, 51, 52, 53, 54, 61, 62, 63, 64]) {
        for (let offset = -12; offset <= 12; offset++) {
          const magnitude = 2 ** exponent + offset / 4
          for (const value of [magnitude, -magnitude]) {
            const integer = BigInt.asUintN(64, (1n << BigInt(exponent)) + BigInt(offset)) * (value < 0 ? -1n : 1n)
            const operand = operation.startsWith('to') ? fromHost(format, value) : BigInt.asUintN(64, integer)
            for (const rm of modes(operation)) {
              const expected = exactReference(operation, format, [operand], rm)
              assertCase(operation, format, [operand], rm, expected.bits, expected.flags)
            }
          }
        }
      }
    }
  }
})

describe('rounding to nearest agrees with the host', () => {
  const host: Partial<Record<FloatOperation, (a: number, b: number) => number>> = {
    add: (a, b) => a + b,
    sub: (a, b) => a - b,
    mul: (a, b) => a * b,
    div: (a, b) => a / b,
    sqrt: (a) => Math.sqrt(a),
  }
  for (const format of formats) {
    for (const [operation, compute] of Object.entries(host) as [FloatOperation, (a: number, b: number) => number][]) {
      test(`${format}.${operation}`, () => {
        const prng = new Prng(0xabc)
        for (let i = 0; i < 5000; i++) {
          const operands = randomFloats(prng, format).slice(0, floatOperations[operation].operands)
          const [a = 0, b = 0] = operands.map((bits) => toHost(format, bits))
          // Rounding a double result to single once more is harmless for these operations (Figueroa, 1995).
          const result = compute(a, b)
          const expected = fromHost(format, format === 'single' ? Math.fround(result) : result)
          const actual = library.run(operation, format, operands, 0)
          assert.equal(actual.bits, expected, describeCase(operation, format, operands, 0, actual))
        }
      })
    }
  }
})

describe('rules that random operands may miss', () => {
  const one = 0x3ff0000000000000n
  const infinity = 0x7ff0000000000000n
  const quiet = 0x7ff8000000000123n
  const signaling = 0x7ff0000000000001n
  const negativeZero = 0x8000000000000000n

  test('every NaN result is the canonical one, whatever the payload and sign of the operands', () => {
    assertCase('add', 'double', [quiet | negativeZero, one], 0, canonicalNan.double, 0)
    assertCase('mul', 'double', [one, signaling], 0, canonicalNan.double, 16)
    assertCase('sqrt', 'double', [quiet], 0, canonicalNan.double, 0)
    assertCase('convert', 'single', [quiet], 0, canonicalNan.single, 0)
    assertCase('convert', 'double', [0xffa00000n], 0, canonicalNan.double, 16)
    assertCase('max', 'double', [quiet, quiet], 0, canonicalNan.double, 0)
  })

  test('∞ · 0 is invalid in a fused multiply-add even if the addend is a quiet NaN', () => {
    assertCase('fma', 'double', [infinity, 0n, quiet], 0, canonicalNan.double, 16)
    assertCase('fma', 'double', [negativeZero, infinity, quiet], 0, canonicalNan.double, 16)
    assertCase('fma', 'double', [infinity, one, quiet], 0, canonicalNan.double, 0)
  })

  test('tininess is detected after rounding: a result rounded up to the smallest normal number does not underflow', () => {
    // (1 + 2^−52) · 2^−1022 · (1 − 2^−52) = 2^−1022 · (1 − 2^−104), hardly below the smallest normal number.
    assertCase('mul', 'double', [0x3ff0000000000001n, 0x000fffffffffffffn], 0, 0x0010000000000000n, 1)
    assertCase('mul', 'double', [0x3ff0000000000001n, 0x000fffffffffffffn], 1, 0x000fffffffffffffn, 3)
    // 2^−126 · (1 − 2^−53) has more digits than a single: rounded to 24 of them it is no longer tiny. 2^−126 · (1 − 2^−24)
    // has exactly 24, so it stays tiny, although the subnormal numbers' coarser grid takes it to the same result.
    assertCase('convert', 'single', [0x380fffffffffffffn], 0, 0x00800000n, 1)
    assertCase('convert', 'single', [0x380fffffe0000000n], 0, 0x00800000n, 3)
  })

  test('minimum and maximum put −0 below +0, and a number before a signaling NaN', () => {
    assertCase('min', 'double', [0n, negativeZero], 0, negativeZero, 0)
    assertCase('max', 'double', [negativeZero, 0n], 0, 0n, 0)
    assertCase('min', 'double', [signaling, one], 0, one, 16)
    assertCase('max', 'double', [one, quiet], 0, one, 0)
  })

  test('an exact zero sum of unlike signs is −0 only when rounding down', () => {
    for (const rm of [0, 1, 2, 3, 4]) {
      const zero = rm === 2 ? negativeZero : 0n
      assertCase('sub', 'double', [one, one], rm, zero, 0)
      assertCase('add', 'double', [0n, negativeZero], rm, zero, 0)
      assertCase('fma', 'double', [one, one, one | negativeZero], rm, zero, 0)
      assertCase('add', 'double', [negativeZero, negativeZero], rm, negativeZero, 0)
    }
  })

  test('conversion to an integer out of range saturates and is invalid without being inexact', () => {
    assertCase('toI32', 'double', [0x41dfffffffe00000n], 1, 0x7fffffffn, 1)
    assertCase('toI32', 'double', [0x41dfffffffe00000n], 0, 0x7fffffffn, 16)
    assertCase('toI32', 'double', [0xffffffffffffffffn], 0, 0x7fffffffn, 16)
    assertCase('toU32', 'double', [0x41efffffffe00000n], 0, 0xffffffffffffffffn, 0)
    assertCase('toU64', 'double', [0xbfe8000000000000n], 1, 0n, 1)
    assertCase('toU64', 'double', [0xbfe8000000000000n], 0, 0n, 16)
    assertCase('toI64', 'double', [0xc3e0000000000000n], 0, 0x8000000000000000n, 0)
    assertCase('toI64', 'double', [0xc3e0000000000001n], 0, 0x8000000000000000n, 16)
  })

  test('flags accrue: an operation never clears what is set', () => {
    library.flags.value = 8
    library.raw('add', 'double')(one, 1n, 0)
    assert.equal(library.flags.value, 9)
    library.raw('add', 'double')(one, one, 0)
    assert.equal(library.flags.value, 9)
  })
})
