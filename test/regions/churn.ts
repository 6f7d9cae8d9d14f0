/**
 * Builds and discards regions by the hundred thousand: code that is rewritten all the time, as by a guest that runs ever new
 * programs, on more pages than the engine keeps predecoded. Modules that are dropped must really go, long before the
 * kernel's limit of mappings ends the process (ENGINE, "Batch").
 */

import { MiB, pageBytes } from '../../src/base/units.ts'
import { mstatusBit } from '../../src/engine/core/csr-fields.ts'
import { encode, reg } from '../../src/engine/test-support/assembler.ts'
import { bareHart, step } from '../../src/engine/test-support/bare-hart.ts'
import { type Engine, ramBase } from '../../src/engine/types.ts'
import { collectGarbage } from '../../src/host/collect-garbage.ts'
import { csr } from '../../src/riscv/csrs.ts'

const { a0, a1, t0, ra, sp } = reg
export const churnRamBytes = 64 * MiB
/** More than there are slots of predecoded code. */
const codePages = 3400
const firstCode = 16 * pageBytes
/** Pieces of a function, from a small one to one that fills a region; pages take turns. */
const pieceCounts = [2, 1, 4, 2, 12, 30] as const
const turns = 3

export interface ChurnFigures {
  readonly regions: number
  readonly modules: number
  readonly invalidated: number
  readonly evicted: number
  /** What the last function of every page left in a0, mixed: the work was really done. */
  readonly sum: string
}

/** A loop of a few turns over memory and floats, with branches: another one for every seed. */
function functionWords(seed: number, pieces: number): number[] {
  const words = [encode('addi', { rd: t0, imm: turns })]
  for (let piece = 0; piece < pieces; piece++) {
    words.push(
      encode('ld', { rd: a1, rs1: sp, imm: 8 * ((piece + seed) % 64) }),
      encode('sd', { rs1: sp, rs2: a0, imm: 8 * ((piece * 7 + seed) % 64) }),
      encode('add', { rd: a0, rs1: a0, rs2: a1 }),
      encode('fadd.d', { rd: 1, rs1: 2, rs2: 3, rm: 7 }),
      encode('beq', { rs1: a0, rs2: a1, imm: 8 }),
      encode('xori', { rd: a0, rs1: a0, imm: seed % 2048 }),
    )
  }
  words.push(encode('addi', { rd: t0, rs1: t0, imm: -1 }))
  words.push(encode('bne', { rs1: t0, imm: 4 - 4 * words.length }), encode('jalr', { rs1: ra }))
  return words
}

/** Fills a page with functions, runs each until it is hot and once more, and says what the last one left. */
function runPage(engine: Engine, page: number, round: number): bigint {
  const pieces = pieceCounts[(page + round) % pieceCounts.length]!
  const length = functionWords(0, pieces).length
  const words = new Uint32Array(pageBytes / 4)
  const starts: number[] = []
  for (let start = 0; start + length <= words.length; start += length) {
    words.set(functionWords(round * 31 + page * 7 + start, pieces), start)
    starts.push(start)
  }
  const address = ramBase + firstCode + page * pageBytes
  engine.storeBytes(address, new Uint8Array(words.buffer))
  for (const start of starts) {
    for (let call = 0; call < 2; call++) {
      engine.setX(ra, BigInt(ramBase))
      engine.pc = BigInt(address + start * 4)
      step(engine, turns * length)
    }
  }
  return engine.getX(a0)
}

/** Uses every slot of predecoded code, all of it: runs through more pages than there are, and rewrites each before it is translated. */
function fillSlots(engine: Engine): void {
  const nops = new Uint32Array(pageBytes / 4).fill(encode('addi', {}))
  const zeros = new Uint8Array(pageBytes)
  for (let page = 0; page < codePages; page++) {
    const address = ramBase + firstCode + page * pageBytes
    engine.storeBytes(address, new Uint8Array(nops.buffer))
    engine.pc = BigInt(address)
    step(engine, nops.length)
    engine.storeBytes(address, zeros)
  }
}

export function churn(regionsWanted: number): ChurnFigures {
  // As a hart's thread makes its engine (src/host/hart-of-host.ts), only that everything is hot.
  const { engine } = bareHart(churnRamBytes, { threshold: 1, collectGarbage })
  // Guest RAM counts as used, all of it: what is measured is what comes on top.
  engine.ram.fill(1).fill(0)
  engine.setX(sp, BigInt(ramBase + pageBytes))
  engine.setCsr(csr.mstatus, mstatusBit.fs)
  fillSlots(engine)
  engine.setX(a0, 1n)
  let sum = 0n
  for (let round = 0; engine.profile.regions.built < regionsWanted; round++) {
    for (let page = 0; page < codePages && engine.profile.regions.built < regionsWanted; page++) {
      sum = BigInt.asUintN(64, sum * 3n + runPage(engine, page, round))
    }
  }
  const { built, modules, invalidated, evicted } = engine.profile.regions
  return { regions: built, modules, invalidated, evicted, sum: `${sum}` }
}
