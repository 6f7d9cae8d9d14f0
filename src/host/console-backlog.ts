/**
 * The recent end of what the guest printed, for viewers who come late or come back.
 *
 * An output's `sequence` is its name on every replica of the machine: the log makes it so. A backup regenerates the same
 * outputs under the same names, so after a failover a viewer says the last name it saw and gets exactly what follows.
 */

/** One console output; `sequence` is the machine's number for it. */
export interface ConsoleOutput {
  readonly sequence: bigint
  readonly bytes: Uint8Array
}

const defaultLimitBytes = 64 * 1024

export class ConsoleBacklog {
  readonly #limitBytes: number
  readonly #outputs: ConsoleOutput[] = []
  #sizeBytes = 0
  #lastSequence: bigint | undefined
  /** The last output that is here no more. */
  #lastDropped: bigint | undefined

  constructor(limitBytes = defaultLimitBytes) {
    this.#limitBytes = limitBytes
  }

  /**
   * Adds an output, unless it is here already: what a new primary sends again was regenerated before.
   * @returns whether it is new
   */
  add(output: ConsoleOutput): boolean {
    if (this.#lastSequence !== undefined && output.sequence <= this.#lastSequence) return false
    this.#lastSequence = output.sequence
    this.#outputs.push(output)
    this.#sizeBytes += output.bytes.length
    while (this.#sizeBytes > this.#limitBytes && this.#outputs.length > 1) {
      const dropped = this.#outputs.shift()!
      this.#sizeBytes -= dropped.bytes.length
      this.#lastDropped = dropped.sequence
    }
    return true
  }

  /** What follows output `after`; without it, everything here. `isComplete`: nothing in between was dropped. */
  since(after: bigint | undefined): { readonly outputs: readonly ConsoleOutput[]; readonly isComplete: boolean } {
    if (after === undefined) return { outputs: [...this.#outputs], isComplete: this.#lastDropped === undefined }
    return {
      outputs: this.#outputs.filter(({ sequence }) => sequence > after),
      isComplete: this.#lastDropped === undefined || this.#lastDropped <= after,
    }
  }
}
