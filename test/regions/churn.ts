/**
 * Builds and discards regions by the hundred thousand: code that is rewritten all the time, as by a guest that runs ever new
 * programs. What is watched is the host's memory: modules that are dropped must really go, long before the kernel's
 * limit of mappings ends the process (ENGINE, "Batch").
 */

import { MiB, pageBytes } from '../../src/base/units.ts'
import { encode, reg } from '../../src/engine/test-support/assembler.ts'
import { bareHart, step } from '../../src/engine/test-support/bare-hart.ts'
import { ramBase } from '../../src/engine/types.ts'

const { a0, a1, t0 } = reg
const functionBytes = 64
/** So that what belongs to pages of code, and is bounded by them, has its full size. */
export const churnRamBytes = 32 * MiB
const codePages = 128
const firstCode = 16 * pageBytes

export interface ChurnFigures {
  readonly regions: number
  readonly modules: number
  readonly invalidated: number
  readonly evicted: number
  /** The most the process had, beyond guest RAM and what it had before there was an engine. */
  readonly peakBytes: number
  /** What the last function of every round left in a0, mixed: the work was really done. */
  readonly sum: bigint
}

/** A function of its own for every (round, index): a loop of a few turns, then back. */
function functionCode(round: number, index: number): Uint8Array<ArrayBuffer> {
  const words = [
    encode('addi', { rd: t0, imm: 4 }),
    encode('addi', { rd: a0, rs1: a0, imm: (round * 31 + index) % 2048 }),
    encode('xori', { rd: a0, rs1: a0, imm: index % 2048 }),
    encode('slli', { rd: a1, rs1: a0, imm: 1 + (round % 31) }),
    encode('add', { rd: a0, rs1: a0, rs2: a1 }),
    encode('addi', { rd: t0, rs1: t0, imm: -1 }),
    encode('bne', { rs1: t0, imm: -20 }),
    encode('jalr', { rs1: reg.ra }),
  ]
  return new Uint8Array(Uint32Array.from(words).buffer)
}

export function churn(regionsWanted: number, cacheBytes: number): ChurnFigures {
  const processBytes = process.memoryUsage.rss()
  const { engine } = bareHart(churnRamBytes, { threshold: 1, cacheBytes })
  const functions = (codePages * pageBytes) / functionBytes
  let peakBytes = 0
  let sum = 0n
  for (let round = 0; engine.profile.regions.built < regionsWanted; round++) {
    for (let page = 0; page < codePages; page++) {
      const bytes = new Uint8Array(pageBytes)
      for (let offset = 0; offset < pageBytes; offset += functionBytes) {
        bytes.set(functionCode(round, (page * pageBytes + offset) / functionBytes), offset)
      }
      engine.storeBytes(ramBase + firstCode + page * pageBytes, bytes)
    }
    for (let index = 0; index < functions; index++) {
      // Twice into the loop for the interpreter, then again for the region that a later run brings.
      for (let call = 0; call < 2; call++) {
        engine.setX(reg.ra, BigInt(ramBase))
        engine.pc = BigInt(ramBase + firstCode + index * functionBytes)
        step(engine, 25)
      }
    }
    sum = BigInt.asUintN(64, sum * 3n + engine.getX(a0))
    peakBytes = Math.max(peakBytes, process.memoryUsage.rss() - processBytes - churnRamBytes)
  }
  const { built, modules, invalidated, evicted } = engine.profile.regions
  return { regions: built, modules, invalidated, evicted, peakBytes, sum }
}
