/** A hart with a little RAM and a bus that the test scripts: what the engine's tests run their programs on. */

import { ByteReader, ByteWriter } from '../../base/bytes.ts'
import { formatDigest, hash64 } from '../../base/digest.ts'
import { MiB } from '../../base/units.ts'
import { type AccessSize, type Bus, type Engine, type GuestPhysical, ramBase } from '../types.ts'
import { createEngine, type EngineOptions, type ProfiledEngine } from '../wasm-engine.ts'
import { Assembler } from './assembler.ts'

/** Where the test bus answers: 16 bytes that keep what is stored. */
export const deviceBase = 0x1000_0000

export class ScriptedBus implements Bus {
  readonly accesses: string[] = []
  onAccess: () => void = () => {}
  loadValue = 0n

  load(address: GuestPhysical, size: AccessSize): bigint | undefined {
    if (address < deviceBase || address >= deviceBase + 16) return undefined
    this.accesses.push(`load ${size}`)
    this.onAccess()
    return this.loadValue
  }

  store(address: GuestPhysical, size: AccessSize, value: bigint): boolean {
    if (address < deviceBase || address >= deviceBase + 16) return false
    this.accesses.push(`store ${size} ${value}`)
    this.onAccess()
    return true
  }
}

export interface BareHart {
  readonly engine: ProfiledEngine
  readonly bus: ScriptedBus
}

/** In M mode at `ramBase`, one instruction per tick, no cap. */
export function bareHart(ramBytes = 4 * MiB, translation?: EngineOptions['translation']): BareHart {
  const bus = new ScriptedBus()
  const engine = createEngine(translation ? { ramBytes, bus, translation } : { ramBytes, bus })
  engine.setClock({ n0: 0n, t0: 0n, ratePer2p32: 1n << 32n, cap: 1n << 62n })
  return { engine, bus }
}

/** Puts a program at an offset in RAM. */
export function loadProgram(engine: Engine, offset: number, write: (a: Assembler) => void): void {
  const assembler = new Assembler()
  write(assembler)
  engine.storeBytes(ramBase + offset, assembler.bytes())
}

export function storeWord64(engine: Engine, offset: number, value: bigint): void {
  engine.storeBytes(ramBase + offset, new ByteWriter().u64(value).finish())
}

export function loadWord64(engine: Engine, offset: number): bigint {
  return new ByteReader(engine.ram.subarray(offset, offset + 8)).u64()
}

/** Runs a number of instructions more. */
export function step(engine: Engine, instructions: number | bigint): ReturnType<Engine['run']> {
  return engine.run(engine.count + BigInt(instructions))
}

/** A digest of everything a guest could see. */
export function stateOf(engine: Engine): string {
  const writer = new ByteWriter()
  engine.saveState(writer)
  writer.raw(engine.ram)
  return formatDigest(hash64(writer.view()))
}
