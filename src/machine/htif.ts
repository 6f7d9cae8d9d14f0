/**
 * HTIF, the mailbox through which bare RISC-V programs speak to their host (riscv-isa-sim: fesvr). A program stores to
 * its symbol `tohost`: an odd value v ends it with code v >> 1. Device 1, command 1 prints a byte. Device 0 is a system
 * call described in memory; `exit` and `write` are served, which is what test programs use.
 *
 * RAM stores do not reach the bus, so the engine watches the word and stops right after a store to it.
 */

import { type Engine, ramBase } from '../engine/types.ts'
import type { ConsoleBatch } from './console-batch.ts'
import type { GuestMemory } from './guest-memory.ts'
import type { Power } from './power.ts'

const systemCall = { write: 64n, exit: 93n } as const
const longestWriteBytes = 65_536

export class HostInterface {
  readonly #engine: Engine
  readonly #memory: GuestMemory
  readonly #power: Power
  readonly #console: ConsoleBatch
  readonly #tohost: number
  readonly #fromhost: number | undefined

  constructor(
    engine: Engine,
    memory: GuestMemory,
    power: Power,
    console: ConsoleBatch,
    mailbox: { readonly tohost: number; readonly fromhost: number | undefined },
  ) {
    this.#engine = engine
    this.#memory = memory
    this.#power = power
    this.#console = console
    this.#tohost = mailbox.tohost
    this.#fromhost = mailbox.fromhost
  }

  /** Has to be said again after every reset. */
  watch(): void {
    if (this.#memory.contains(this.#tohost, 8)) this.#engine.watchStore(this.#tohost)
  }

  /** The engine stopped; maybe because of the mailbox. */
  onStop(): void {
    if (!this.#memory.contains(this.#tohost, 8)) return
    const value = this.#load(this.#tohost)
    if (value === 0n) return
    if (value & 1n) {
      this.#exit(value >> 1n)
      return
    }
    const device = value >> 56n
    const command = (value >> 48n) & 0xffn
    const payload = value & 0xffff_ffff_ffffn
    if (device === 1n && command === 1n) {
      this.#console.append(Number(payload & 0xffn))
      this.#answer(value & ~0xffff_ffff_ffffn)
    } else if (device === 0n && command === 0n) this.#onSystemCall(payload)
  }

  #exit(code: bigint): void {
    const low = Number(code & 0x7fff_ffffn)
    // A code that only differs from 0 in bits that we drop is still a failure.
    this.#power.exit(low === 0 && code !== 0n ? 1 : low)
  }

  #onSystemCall(block: bigint): void {
    const address = Number(block)
    if (!this.#memory.contains(address, 64)) return
    const [number, first, second, third] = [0, 8, 16, 24].map((offset) => this.#load(address + offset)) as [
      bigint,
      bigint,
      bigint,
      bigint,
    ]
    if (number === systemCall.exit) {
      this.#exit(first)
      return
    }
    let result = -38n // ENOSYS
    if (number === systemCall.write) {
      const count = Number(third < longestWriteBytes ? third : BigInt(longestWriteBytes))
      const from = Number(second)
      result = -14n // EFAULT
      if (this.#memory.contains(from, count)) {
        for (const byte of this.#memory.read(from, count)) this.#console.append(byte)
        result = BigInt(count)
      }
    }
    this.#store(address, BigInt.asUintN(64, result))
    this.#answer(1n)
  }

  #answer(value: bigint): void {
    this.#store(this.#tohost, 0n)
    if (this.#fromhost !== undefined && this.#memory.contains(this.#fromhost, 8)) this.#store(this.#fromhost, value)
  }

  #load(address: number): bigint {
    const { ram } = this.#engine
    return new DataView(ram.buffer, ram.byteOffset).getBigUint64(address - ramBase, true)
  }

  #store(address: number, value: bigint): void {
    const bytes = new Uint8Array(8)
    new DataView(bytes.buffer).setBigUint64(0, value, true)
    this.#memory.write(address, bytes)
  }
}
