/**
 * The core-local interruptor, `sifive,clint0`, for programs in M mode: software interrupt and machine timer of hart 0.
 *
 *     0x0000  msip, bit 0    0x4000  mtimecmp    0xbff8  mtime
 *
 * `mtime` is guest time, t(n), which only clock entries set (invariant 10): stores to it are accepted and have no effect.
 */

import type { ByteReader, ByteWriter } from '../../base/bytes.ts'
import { type AccessSize, type Engine, interruptBits } from '../../engine/types.ts'
import type { MmioDevice } from './device.ts'

const never = 0xffff_ffff_ffff_ffffn
const lowWord = 0xffff_ffffn

export class CoreLocalInterruptor implements MmioDevice {
  readonly #engine: Engine
  #softwareInterrupt = false

  constructor(engine: Engine) {
    this.#engine = engine
  }

  load(offset: number, size: AccessSize): bigint | undefined {
    if (size < 4 || offset % size !== 0) return undefined
    if (offset === 0) return this.#softwareInterrupt ? 1n : 0n
    if (offset >= 0x4000 && offset < 0x4008) return part(this.#engine.machineTimerCompare, offset - 0x4000, size)
    if (offset >= 0xbff8 && offset < 0xc000) return part(this.#engine.ticks, offset - 0xbff8, size)
    return 0n
  }

  store(offset: number, size: AccessSize, value: bigint): boolean {
    if (size < 4 || offset % size !== 0) return false
    if (offset === 0) {
      this.#softwareInterrupt = (value & 1n) !== 0n
      this.#engine.setInterrupt(interruptBits.msip, this.#softwareInterrupt)
    } else if (offset >= 0x4000 && offset < 0x4008) {
      const old = this.#engine.machineTimerCompare
      if (size === 8) this.#engine.machineTimerCompare = value
      else if (offset === 0x4000) this.#engine.machineTimerCompare = (old & ~lowWord) | value
      else this.#engine.machineTimerCompare = (old & lowWord) | (value << 32n)
    }
    return true
  }

  reset(): void {
    this.#softwareInterrupt = false
    this.#engine.setInterrupt(interruptBits.msip, false)
    this.#engine.machineTimerCompare = never
  }

  /** `mtimecmp` is the engine's state. */
  saveState(writer: ByteWriter): void {
    writer.bool(this.#softwareInterrupt)
  }

  loadState(reader: ByteReader): void {
    this.#softwareInterrupt = reader.bool()
    this.#engine.setInterrupt(interruptBits.msip, this.#softwareInterrupt)
  }
}

function part(value: bigint, offset: number, size: AccessSize): bigint {
  if (size === 8) return BigInt.asUintN(64, value)
  return (value >> BigInt(offset * 8)) & lowWord
}
