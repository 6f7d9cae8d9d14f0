/**
 * The platform-level interrupt controller, `sifive,plic-1.0.0` (RISC-V Platform-Level Interrupt Controller
 * Specification 1.0.0): 31 level-triggered lines, and two contexts of the one hart, 0 for M mode and 1 for S mode.
 *
 *     0x000000 + 4·line          priority, 0 (never) … 7
 *     0x001000                   pending bits
 *     0x002000 + 0x80·context    enable bits
 *     0x200000 + 0x1000·context  threshold; + 4: claim (load), complete (store)
 *
 * Every device here drives a level, so a line's pending bit is a function: level high, and not claimed. A line that
 * falls before it was claimed is pending no more; no driver sees an interrupt without a cause.
 */

import type { ByteReader, ByteWriter } from '../../base/bytes.ts'
import { type AccessSize, type Engine, interruptBits } from '../../engine/types.ts'
import { lastLine } from '../memory-map.ts'
import type { InterruptLine, MmioDevice } from './device.ts'

const contexts = 2
const highestPriority = 7

export class InterruptController implements MmioDevice {
  readonly #engine: Engine
  readonly #priority = new Uint8Array(lastLine + 1)
  readonly #enabled = new Uint32Array(contexts)
  readonly #threshold = new Uint8Array(contexts)
  /** One bit per line: what the device drives. */
  #level = 0
  /** One bit per line: claimed and not yet completed. */
  #claimed = 0

  constructor(engine: Engine) {
    this.#engine = engine
  }

  line(number: number): InterruptLine {
    const bit = 1 << number
    return (level) => {
      const next = level ? this.#level | bit : this.#level & ~bit
      if (next === this.#level) return
      this.#level = next
      this.#drive()
    }
  }

  load(offset: number, size: AccessSize): bigint | undefined {
    if (size !== 4 || offset % 4 !== 0) return undefined
    if (offset < 0x1000) return BigInt(this.#priority[offset / 4] ?? 0)
    if (offset < 0x2000) return offset === 0x1000 ? BigInt(this.#pending() >>> 0) : 0n
    if (offset < 0x20_0000) {
      const context = (offset - 0x2000) / 0x80
      return BigInt(this.#enabled[context] ?? 0)
    }
    const context = Math.floor((offset - 0x20_0000) / 0x1000)
    if (context >= contexts) return 0n
    const register = offset % 0x1000
    if (register === 0) return BigInt(this.#threshold[context]!)
    if (register === 4) return BigInt(this.#claim(context))
    return 0n
  }

  store(offset: number, size: AccessSize, value: bigint): boolean {
    if (size !== 4 || offset % 4 !== 0) return false
    const word = Number(value)
    if (offset < 0x1000) {
      const line = offset / 4
      if (line >= 1 && line <= lastLine) this.#priority[line] = word & highestPriority
    } else if (offset >= 0x2000 && offset < 0x20_0000) {
      const context = (offset - 0x2000) / 0x80
      if (Number.isInteger(context) && context < contexts) this.#enabled[context] = word & ~1
    } else if (offset >= 0x20_0000) {
      const context = Math.floor((offset - 0x20_0000) / 0x1000)
      if (context >= contexts) return true
      const register = offset % 0x1000
      if (register === 0) this.#threshold[context] = word & highestPriority
      if (register === 4) this.#complete(context, word)
    }
    this.#drive()
    return true
  }

  #pending(): number {
    return this.#level & ~this.#claimed & ~1
  }

  /** The pending, enabled line of highest priority above `floor`; the lowest number wins a tie. 0: none. */
  #best(context: number, floor: number): number {
    let candidates = this.#pending() & this.#enabled[context]!
    let best = 0
    let bestPriority = floor
    while (candidates !== 0) {
      const line = 31 - Math.clz32(candidates & -candidates)
      candidates &= candidates - 1
      if (this.#priority[line]! > bestPriority) {
        best = line
        bestPriority = this.#priority[line]!
      }
    }
    return best
  }

  /** A claim is not masked by the threshold, only the interrupt signal is (specification, chapter 7). */
  #claim(context: number): number {
    const line = this.#best(context, 0)
    if (line !== 0) {
      this.#claimed |= 1 << line
      this.#drive()
    }
    return line
  }

  #complete(context: number, line: number): void {
    if (line < 1 || line > lastLine) return
    const bit = 1 << line
    if (this.#enabled[context]! & bit) this.#claimed &= ~bit
  }

  #drive(): void {
    this.#engine.setInterrupt(interruptBits.meip, this.#best(0, this.#threshold[0]!) !== 0)
    this.#engine.setInterrupt(interruptBits.seip, this.#best(1, this.#threshold[1]!) !== 0)
  }

  reset(): void {
    this.#priority.fill(0)
    this.#enabled.fill(0)
    this.#threshold.fill(0)
    this.#level = 0
    this.#claimed = 0
    this.#drive()
  }

  saveState(writer: ByteWriter): void {
    writer.raw(this.#priority).u32(this.#enabled[0]!).u32(this.#enabled[1]!).raw(this.#threshold)
    writer.u32(this.#level >>> 0).u32(this.#claimed >>> 0)
  }

  loadState(reader: ByteReader): void {
    this.#priority.set(reader.raw(this.#priority.length))
    this.#enabled[0] = reader.u32()
    this.#enabled[1] = reader.u32()
    this.#threshold.set(reader.raw(contexts))
    this.#level = reader.u32() | 0
    this.#claimed = reader.u32() | 0
    this.#drive()
  }
}
