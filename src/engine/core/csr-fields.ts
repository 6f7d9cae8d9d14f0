/** Fields of the CSRs that steer the hart (RISC-V privileged specification, "Machine-Level CSRs", "Supervisor CSRs"). */

import type { Expression } from '../wasm/expression.ts'

export const mstatusBit = {
  sie: 1n << 1n,
  mie: 1n << 3n,
  spie: 1n << 5n,
  mpie: 1n << 7n,
  spp: 1n << 8n,
  mpp: 3n << 11n,
  fs: 3n << 13n,
  mprv: 1n << 17n,
  sum: 1n << 18n,
  mxr: 1n << 19n,
  tvm: 1n << 20n,
  tw: 1n << 21n,
  tsr: 1n << 22n,
  /** UXL and SXL: both 2 (64 bits), read-only. */
  uxl: 2n << 32n,
  sxl: 2n << 34n,
  sd: 1n << 63n,
} as const

const positions = { spp: [8, 1], mpp: [11, 3], fs: [13, 3] } as const

/** A field of mstatus as a small number (i64). */
export function field(mstatus: Expression, name: keyof typeof positions): Expression {
  const [shift, mask] = positions[name]
  return mstatus.shrU(shift).and(mask)
}

export const satpModeSv39 = 8

export const interruptBit = {
  ssip: 1n << 1n,
  msip: 1n << 3n,
  stip: 1n << 5n,
  mtip: 1n << 7n,
  seip: 1n << 9n,
  meip: 1n << 11n,
} as const

export const menvcfgBit = { fiom: 1n, adue: 1n << 61n, stce: 1n << 63n } as const
export const mseccfgBit = { useed: 1n << 8n, sseed: 1n << 9n } as const
export const mcountinhibitBit = { cy: 1n, ir: 4n } as const
