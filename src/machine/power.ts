/** Whether the machine is on, and the ways it stops being on: power off, waiting for a reboot, end of a bare program. */

import type { ByteReader, ByteWriter } from '../base/bytes.ts'
import type { ConsoleBatch } from './console-batch.ts'
import type { Outbox } from './outbox.ts'

export class Power {
  readonly #outbox: Outbox
  readonly #console: ConsoleBatch
  #state: 'off' | 'on' | 'exited' = 'off'
  #exitCode = 0

  constructor(outbox: Outbox, console: ConsoleBatch) {
    this.#outbox = outbox
    this.#console = console
  }

  get isOn(): boolean {
    return this.#state === 'on'
  }

  /** The code a bare program ended with; `undefined` while it has not. */
  get exitCode(): number | undefined {
    return this.#state === 'exited' ? this.#exitCode : undefined
  }

  turnOn(): void {
    this.#state = 'on'
  }

  /** Off until a `boot` input. What the guest printed goes out first. */
  turnOff(action: 'off' | 'reboot', failed: boolean): void {
    this.#console.flush()
    this.#state = 'off'
    this.#outbox.emit<'power'>({ kind: 'power', action, failed })
  }

  exit(code: number): void {
    this.#console.flush()
    this.#state = 'exited'
    this.#exitCode = code
  }

  saveState(writer: ByteWriter): void {
    writer.u8(this.#state === 'off' ? 0 : this.#state === 'on' ? 1 : 2).u32(this.#exitCode)
  }

  loadState(reader: ByteReader): void {
    const state = reader.u8()
    this.#state = state === 0 ? 'off' : state === 1 ? 'on' : 'exited'
    this.#exitCode = reader.u32()
  }
}
