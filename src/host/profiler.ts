/**
 * The profile of one machine: the engine's own counters (engine/profile.ts), the accesses of each device, and the thread's
 * CPU time. It stands between engine and devices only when somebody asked for a profile; a machine cannot tell.
 */

import type { EngineProfile } from '../engine/profile.ts'
import type { Bus, Engine, GuestPhysical } from '../engine/types.ts'
import { createEngine, type EngineOptions, type ProfiledEngine } from '../engine/wasm-engine.ts'
import { memoryMap, virtioSlotBase, virtioSlots } from '../machine/memory-map.ts'

export interface DeviceAccesses {
  loads: number
  stores: number
}

export interface MachineProfile extends EngineProfile {
  /** CPU time of the thread that ran the machine, from the machine's creation on. */
  readonly cpuMs: number
  /** Devices by name, those that were accessed. `none`: an address without a device. */
  readonly devices: Readonly<Record<string, DeviceAccesses>>
}

const windows = [
  ...(['sifiveTest', 'rtc', 'clint', 'plic', 'uart'] as const).map((name) => ({
    name: name as string,
    ...memoryMap[name],
  })),
  ...Array.from({ length: virtioSlots }, (_, slot) => ({
    name: `virtio${slot}`,
    base: virtioSlotBase(slot),
    lengthBytes: memoryMap.virtio.lengthBytes,
  })),
]

function deviceAt(address: GuestPhysical): string {
  return windows.find(({ base, lengthBytes }) => address >= base && address < base + lengthBytes)?.name ?? 'none'
}

function threadCpuMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}

export class Profiler {
  readonly #devices = new Map<string, DeviceAccesses>()
  readonly #translation: NonNullable<EngineOptions['translation']>
  readonly #startedCpuMs = threadCpuMs()
  #engine: ProfiledEngine | undefined

  constructor(translation: NonNullable<EngineOptions['translation']> = {}) {
    this.#translation = translation
  }

  /** For `createMachine`. */
  readonly createEngine = ({ ramBytes, bus }: { ramBytes: number; bus: Bus }): Engine => {
    const countingBus: Bus = {
      load: (address, size) => {
        this.#accessesAt(address).loads++
        return bus.load(address, size)
      },
      store: (address, size, value) => {
        this.#accessesAt(address).stores++
        return bus.store(address, size, value)
      },
    }
    this.#engine = createEngine({
      ramBytes,
      bus: countingBus,
      translation: this.#translation,
      nowMs: () => performance.now(),
    })
    return this.#engine
  }

  #accessesAt(address: GuestPhysical): DeviceAccesses {
    const name = deviceAt(address)
    let accesses = this.#devices.get(name)
    if (!accesses) {
      accesses = { loads: 0, stores: 0 }
      this.#devices.set(name, accesses)
    }
    return accesses
  }

  /** Up to now; call it on the machine's thread, which has an engine by then. */
  get profile(): MachineProfile {
    return {
      ...this.#engine!.profile,
      cpuMs: threadCpuMs() - this.#startedCpuMs,
      devices: Object.fromEntries(this.#devices),
    }
  }
}
