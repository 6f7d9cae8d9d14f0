/**
 * The backup's side of a state transfer: what has come of the machine so far. Pages are passed on as they come; the state
 * behind them comes in pieces and is opened when it is whole.
 */

import { WorldError } from '../base/assert.ts'
import { concatBytes } from '../base/bytes.ts'
import type { Message } from './messages.ts'
import { decodeState, type TransferredState } from './transferred-state.ts'

export class StateReceipt {
  #loadedBytes = 0
  #pieces: Uint8Array[] = []
  #stateBytes = 0
  #state: TransferredState | undefined
  #isInMachine = false

  /** Bytes of pages that are in the machine. */
  get loadedBytes(): number {
    return this.#loadedBytes
  }

  /** Undefined until all of it is here. */
  get state(): TransferredState | undefined {
    return this.#state
  }

  /** The machine is the primary's, as it was at the end of the log that the state names. */
  get isInMachine(): boolean {
    return this.#isInMachine
  }

  onStateLoaded(): void {
    this.#isInMachine = true
  }

  onLoaded(bytes: number): void {
    this.#loadedBytes += bytes
  }

  /**
   * @returns the state, when this was its last piece
   * @throws WorldError it is no state
   */
  onPiece({ lengthBytes, offset, bytes }: Extract<Message, { kind: 'state' }>): TransferredState | undefined {
    if (this.#state !== undefined || offset !== this.#stateBytes || offset + bytes.length > lengthBytes) {
      throw new WorldError('bad-state', `byte ${offset} of the machine's state came where ${this.#stateBytes} is due`)
    }
    this.#pieces.push(bytes)
    this.#stateBytes += bytes.length
    if (this.#stateBytes < lengthBytes) return undefined
    this.#state = decodeState(concatBytes(this.#pieces))
    this.#pieces = []
    return this.#state
  }
}
