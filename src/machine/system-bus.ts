/**
 * Routes hart accesses outside RAM to the devices. If an access left outputs behind, or ended the machine, the engine is
 * asked to stop right after the instruction.
 */

import { assert } from '../base/assert.ts'
import type { AccessSize, Bus, Engine, GuestPhysical } from '../engine/types.ts'
import type { MmioDevice } from './devices/device.ts'
import type { Outbox } from './outbox.ts'
import type { Power } from './power.ts'

interface Window {
  readonly base: number
  readonly end: number
  readonly device: MmioDevice
}

export class SystemBus implements Bus {
  readonly #outbox: Outbox
  readonly #power: Power
  #engine: Engine | undefined
  #windows: Window[] = []
  /** The window of the last access: devices are used in bursts. */
  #last: Window | undefined

  constructor(outbox: Outbox, power: Power) {
    this.#outbox = outbox
    this.#power = power
  }

  /** The engine is made with the bus, so the bus learns of the engine later. */
  connect(engine: Engine): void {
    this.#engine = engine
  }

  attach(range: { readonly base: number; readonly lengthBytes: number }, device: MmioDevice): void {
    const window = { base: range.base, end: range.base + range.lengthBytes, device }
    assert(
      this.#windows.every((other) => window.end <= other.base || other.end <= window.base),
      'devices overlap',
    )
    this.#windows.push(window)
  }

  #find(address: GuestPhysical, size: AccessSize): Window | undefined {
    const last = this.#last
    if (last && address >= last.base && address + size <= last.end) return last
    this.#last = this.#windows.find(({ base, end }) => address >= base && address + size <= end)
    return this.#last
  }

  load(address: GuestPhysical, size: AccessSize): bigint | undefined {
    const window = this.#find(address, size)
    const value = window?.device.load(address - window.base, size)
    this.#stopIfNeeded()
    return value
  }

  store(address: GuestPhysical, size: AccessSize, value: bigint): boolean {
    const window = this.#find(address, size)
    const isAccepted = window?.device.store(address - window.base, size, value) ?? false
    this.#stopIfNeeded()
    return isAccepted
  }

  #stopIfNeeded(): void {
    if (!this.#outbox.isEmpty || !this.#power.isOn) this.#engine?.requestStop()
  }
}
