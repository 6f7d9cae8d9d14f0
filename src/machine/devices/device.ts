/**
 * What the system bus and the machine need of every memory-mapped device.
 *
 * A device is deterministic state: it changes only inside `load`, `store`, or an input that the machine hands it. Its
 * state is what `saveState` writes, all of it: digests and snapshots are made from those bytes.
 */

import type { ByteReader, ByteWriter } from '../../base/bytes.ts'
import type { AccessSize } from '../../engine/types.ts'

export interface MmioDevice {
  /** `undefined`: no register there, the hart takes an access fault. */
  load(offset: number, size: AccessSize): bigint | undefined
  /** `false`: no register there, the hart takes an access fault. */
  store(offset: number, size: AccessSize, value: bigint): boolean
  /** Power-on state. */
  reset(): void
  saveState(writer: ByteWriter): void
  loadState(reader: ByteReader): void
}

/** Drives one line of the interrupt controller; the level stays until it is set again. */
export type InterruptLine = (level: boolean) => void
