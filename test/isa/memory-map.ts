/**
 * Where the parts of a random program are, both under QEMU and on the bare machine.
 *
 *   0x80000000  code: load the initial state, block 0, block 1, … end
 *   0x80400000  initial state: x0–x31, f0–f31, fcsr
 *   0x80401000  stop word: a store here ends the run on the bare machine
 *   0x80402000  scratch memory, the only place where random instructions read and write
 *   0x80406000  constants
 *   0x80800000  signature: one record {x0–x31, f0–f31, fcsr} per block
 */

export const codeBase = 0x8000_0000
export const codeCapacityBytes = 0x40_0000
export const dataBase = 0x8040_0000
export const stopAddress = 0x8040_1000
export const scratchBase = 0x8040_2000
export const scratchBytes = 0x4000
export const constantsBase = 0x8040_6000
export const signatureBase = 0x8080_0000
/** x0–x31, f0–f31, fcsr, eight bytes each. */
export const recordBytes = 65 * 8
