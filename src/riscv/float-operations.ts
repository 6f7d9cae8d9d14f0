/**
 * The floating-point operations that the instruction table uses and the soft-float library provides (RISC-V unprivileged
 * specification, chapters "F" and "D"; IEEE 754-2019). One list, so that neither side can lack one.
 *
 * Operands and results are i64: doubles are their bits, singles their bits in the low half with a zero upper half (NaN
 * boxing is the instruction table's business), integers are sign- or zero-extended to 64 bits. Every NaN result is the
 * canonical NaN. Flags are or-ed into the accrued fflags: NV 16, DZ 8, OF 4, UF 2, NX 1.
 */

export type FloatFormat = 'single' | 'double'

/** Rounding modes as rm encodes them: 0 RNE, 1 RTZ, 2 RDN, 3 RUP, 4 RMM. */
export const floatOperations = {
  add: { operands: 2, rounds: true },
  sub: { operands: 2, rounds: true },
  mul: { operands: 2, rounds: true },
  div: { operands: 2, rounds: true },
  sqrt: { operands: 1, rounds: true },
  /** a · b + c, rounded once. */
  fma: { operands: 3, rounds: true },
  /** IEEE 754-2019 minimumNumber: −0 < +0; one NaN loses; signaling NaN raises NV. */
  min: { operands: 2, rounds: false },
  max: { operands: 2, rounds: false },
  /** Quiet comparison: 1 or 0. */
  eq: { operands: 2, rounds: false },
  /** Signaling comparisons: any NaN raises NV. */
  lt: { operands: 2, rounds: false },
  le: { operands: 2, rounds: false },
  /** FCLASS's ten-bit mask. */
  class: { operands: 1, rounds: false },
  /** To integers, saturating as RISC-V says; 32-bit results are sign-extended, also the unsigned ones. */
  toI32: { operands: 1, rounds: true },
  toU32: { operands: 1, rounds: true },
  toI64: { operands: 1, rounds: true },
  toU64: { operands: 1, rounds: true },
  /** From integers; 32-bit operands are taken from the low half. */
  fromI32: { operands: 1, rounds: true },
  fromU32: { operands: 1, rounds: true },
  fromI64: { operands: 1, rounds: true },
  fromU64: { operands: 1, rounds: true },
  /** From the other format into this one: FCVT.S.D for `single`, FCVT.D.S for `double`. */
  convert: { operands: 1, rounds: true },
} as const satisfies Record<string, { operands: 1 | 2 | 3; rounds: boolean }>

export type FloatOperation = keyof typeof floatOperations

export const canonicalNan = { single: 0x7fc0_0000n, double: 0x7ff8_0000_0000_0000n } as const
