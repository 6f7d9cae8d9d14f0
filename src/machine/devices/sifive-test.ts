/**
 * The finisher of bare programs, `sifive,test0`: a 32-bit store at offset 0 ends the program. 0x5555 = pass, code 0;
 * 0x3333 with a code in the upper half = fail; 0x7777 = reboot. Linux machines do not have it.
 */

import type { AccessSize } from '../../engine/types.ts'
import type { Power } from '../power.ts'
import type { MmioDevice } from './device.ts'

export class Finisher implements MmioDevice {
  readonly #power: Power

  constructor(power: Power) {
    this.#power = power
  }

  load(): bigint {
    return 0n
  }

  store(offset: number, _size: AccessSize, value: bigint): boolean {
    if (offset !== 0) return true
    const word = Number(value & 0xffff_ffffn)
    const verdict = word & 0xffff
    if (verdict === 0x5555) this.#power.exit(0)
    // A failure without a code is still a failure.
    if (verdict === 0x3333) this.#power.exit(word >>> 16 || 1)
    if (verdict === 0x7777) this.#power.turnOff('reboot', false)
    return true
  }

  reset(): void {}
  saveState(): void {}
  loadState(): void {}
}
