/**
 * Supervisor Binary Interface 2.0, served by us: what firmware would do for an operating system on one hart.
 *
 * Extensions: base, timer, IPI, remote fence, hart state, system reset, debug console. A call has its extension in a7, its
 * function in a6, arguments from a0; the answer is an error in a0 and a value in a1. Everything else is answered with
 * SBI_ERR_NOT_SUPPORTED and a probe of it with 0; legacy (0.1) calls are not offered.
 */

import { type Engine, ramBase } from '../engine/types.ts'
import type { ConsoleBatch } from './console-batch.ts'
import type { Uart } from './devices/uart.ts'
import type { GuestMemory } from './guest-memory.ts'
import type { Power } from './power.ts'

const error = { failed: -1n, notSupported: -2n, invalidParameter: -3n, alreadyAvailable: -6n } as const

const extension = {
  base: 0x10n,
  timer: 0x5449_4d45n,
  ipi: 0x73_5049n,
  remoteFence: 0x5246_4e43n,
  hartState: 0x48_534dn,
  systemReset: 0x5352_5354n,
  debugConsole: 0x4442_434en,
} as const
const offered = new Set<bigint>(Object.values(extension))

const specificationVersion = 2n << 24n
/** No number is registered for us; this one is outside the registry's range: "US". */
const implementationId = 0x5553n
const implementationVersion = 1n

/** A single console call moves at most this much; SBI lets a call move less than it was asked to. */
const consoleCallBytes = 4096

const csr = { stimecmp: 0x14d, mip: 0x344, vendor: 0xf11, architecture: 0xf12, implementation: 0xf13 } as const
const supervisorSoftwareInterrupt = 1n << 1n

interface Answer {
  readonly error: bigint
  readonly value: bigint
}

const done = (value = 0n): Answer => ({ error: 0n, value })
const refused = (code: bigint): Answer => ({ error: code, value: 0n })

export class SupervisorBinaryInterface {
  readonly #engine: Engine
  readonly #memory: GuestMemory
  readonly #power: Power
  readonly #console: ConsoleBatch
  readonly #uart: Uart

  constructor(engine: Engine, memory: GuestMemory, power: Power, console: ConsoleBatch, uart: Uart) {
    this.#engine = engine
    this.#memory = memory
    this.#power = power
    this.#console = console
    this.#uart = uart
  }

  /** The hart stands behind an ECALL from S mode: serve it. */
  onCall(): void {
    const { error: code, value } = this.#dispatch(this.#argument(7), this.#argument(6))
    this.#engine.setX(10, BigInt.asUintN(64, code))
    this.#engine.setX(11, BigInt.asUintN(64, value))
  }

  /** Register a`number`. */
  #argument(number: number): bigint {
    return BigInt.asUintN(64, this.#engine.getX(10 + number))
  }

  #dispatch(called: bigint, id: bigint): Answer {
    switch (called) {
      case extension.base:
        return this.#base(id)
      case extension.timer:
        if (id !== 0n) return refused(error.notSupported)
        this.#engine.setCsr(csr.stimecmp, this.#argument(0))
        return done()
      case extension.ipi:
        return id === 0n ? this.#sendIpi() : refused(error.notSupported)
      case extension.remoteFence:
        // One hart, and translations are invisible (invariant 3): there is nothing to flush anywhere else. The
        // hypervisor extension's fences (3 …) are not ours.
        return id <= 2n ? done() : refused(error.notSupported)
      case extension.hartState:
        return this.#hartState(id)
      case extension.systemReset:
        return id === 0n ? this.#systemReset() : refused(error.notSupported)
      case extension.debugConsole:
        return this.#debugConsole(id)
      default:
        return refused(error.notSupported)
    }
  }

  #base(id: bigint): Answer {
    switch (id) {
      case 0n:
        return done(specificationVersion)
      case 1n:
        return done(implementationId)
      case 2n:
        return done(implementationVersion)
      case 3n:
        return done(offered.has(this.#argument(0)) ? 1n : 0n)
      case 4n:
        return done(this.#engine.getCsr(csr.vendor))
      case 5n:
        return done(this.#engine.getCsr(csr.architecture))
      case 6n:
        return done(this.#engine.getCsr(csr.implementation))
      default:
        return refused(error.notSupported)
    }
  }

  #sendIpi(): Answer {
    const mask = this.#argument(0)
    const base = this.#argument(1)
    const isAll = base === 0xffff_ffff_ffff_ffffn
    if (!isAll && (base !== 0n || mask > 1n)) return refused(error.invalidParameter)
    if (isAll || mask === 1n) this.#engine.setCsr(csr.mip, this.#engine.getCsr(csr.mip) | supervisorSoftwareInterrupt)
    return done()
  }

  /** Hart 0 runs, and is the only one. */
  #hartState(id: bigint): Answer {
    const isHart = this.#argument(0) === 0n
    switch (id) {
      case 0n:
        return refused(isHart ? error.alreadyAvailable : error.invalidParameter)
      case 1n:
        return refused(error.failed)
      case 2n:
        return isHart ? done(0n) : refused(error.invalidParameter)
      default:
        return refused(error.notSupported)
    }
  }

  #systemReset(): Answer {
    const type = this.#argument(0)
    const reason = this.#argument(1)
    if (type > 2n || reason > 1n) return refused(error.invalidParameter)
    this.#power.turnOff(type === 0n ? 'off' : 'reboot', reason === 1n)
    return done()
  }

  #debugConsole(id: bigint): Answer {
    if (id === 2n) {
      this.#console.append(Number(this.#argument(0) & 0xffn))
      return done()
    }
    if (id > 2n) return refused(error.notSupported)
    // Addresses come as two words of 64 bits; with RV64 the upper one must be 0.
    const address = this.#argument(1)
    const lengthBytes = this.#argument(0)
    const end = BigInt(ramBase) + BigInt(this.#engine.ramBytes)
    if (this.#argument(2) !== 0n || address < BigInt(ramBase) || address + lengthBytes > end) {
      return refused(error.invalidParameter)
    }
    const count = Number(lengthBytes < consoleCallBytes ? lengthBytes : BigInt(consoleCallBytes))
    return id === 0n ? this.#consoleWrite(Number(address), count) : this.#consoleRead(Number(address), count)
  }

  #consoleWrite(address: number, count: number): Answer {
    for (const byte of this.#memory.read(address, count)) this.#console.append(byte)
    return done(BigInt(count))
  }

  #consoleRead(address: number, count: number): Answer {
    const bytes: number[] = []
    while (bytes.length < count) {
      const byte = this.#uart.takeByte()
      if (byte === undefined) break
      bytes.push(byte)
    }
    this.#memory.write(address, Uint8Array.from(bytes))
    return done(BigInt(bytes.length))
  }
}
