/**
 * Takes out of a terminal's input the sequences to which a terminal answers: who are you, where is your cursor, what
 * colour is this. Each answer comes in as if it were typed; with several viewers, or with old output shown again, the
 * guest's shell would read answers that it never asked for. Everything that draws passes.
 *
 * Left out: ENQ; ESC Z; CSI … c (device attributes), n (status; 6 is the cursor's place), t (window), x, $p (modes);
 * OSC with a "?" (colours); every DCS. See ECMA-48 (5.4, 8.3.14, 8.3.35) and xterm's ctlseqs. C1 controls of one byte are
 * not looked for: in UTF-8 they are parts of letters.
 */

const enq = 0x05
const bell = 0x07
const escapeByte = 0x1b
const backslash = 0x5c
/** A "sequence" longer than this is none. */
const longestBytes = 4096

type State = 'ground' | 'escape' | 'control' | 'string' | 'stringEscape'

export class TerminalQueryFilter {
  #state: State = 'ground'
  /** The sequence so far, not yet judged. */
  #pending: number[] = []

  /**
   * What of `bytes` the terminal may see. While dropping, a sequence that is cut off at the end waits for the next call.
   * @param isDropping false: everything passes, and what waited comes first
   */
  pass(bytes: Uint8Array, isDropping: boolean): Uint8Array {
    if (!isDropping) {
      const waited = this.#pending
      this.#restart([], 'ground')
      return waited.length === 0 ? bytes : Uint8Array.from([...waited, ...bytes])
    }
    const shown: number[] = []
    for (const byte of bytes) this.#onByte(byte, shown)
    return Uint8Array.from(shown)
  }

  #onByte(byte: number, shown: number[]): void {
    if (this.#state === 'ground' && byte !== escapeByte) {
      if (byte !== enq) shown.push(byte)
      return
    }
    // An escape begins anew wherever it stands; in a string it may be the first half of the string's end.
    if (byte === escapeByte && this.#state !== 'string') {
      this.#judge(shown)
      this.#restart([escapeByte], 'escape')
      return
    }
    if (this.#state === 'stringEscape' && byte !== backslash) {
      this.#pending.pop()
      this.#judge(shown)
      this.#restart([escapeByte], 'escape')
    }
    this.#pending.push(byte)
    if (this.#endsWith(byte)) this.#judge(shown)
    else if (this.#pending.length >= longestBytes) this.#show(shown)
  }

  /** @returns whether the sequence ends with this byte */
  #endsWith(byte: number): boolean {
    switch (this.#state) {
      case 'escape':
        if (byte === 0x5b) this.#state = 'control'
        else if (byte === 0x5d || byte === 0x50) this.#state = 'string'
        else return byte < 0x20 || byte > 0x2f
        return false
      case 'control':
        return byte >= 0x40
      case 'string':
        if (byte === escapeByte) this.#state = 'stringEscape'
        return byte === bell
      default:
        return true
    }
  }

  #judge(shown: number[]): void {
    if (isQuery(this.#pending)) this.#restart([], 'ground')
    else this.#show(shown)
  }

  #show(shown: number[]): void {
    shown.push(...this.#pending)
    this.#restart([], 'ground')
  }

  #restart(pending: number[], state: State): void {
    this.#pending = pending
    this.#state = state
  }
}

function isQuery(sequence: readonly number[]): boolean {
  const text = String.fromCharCode(...sequence.slice(1))
  return /^(Z|\[.*([cntx]|\$p)|\].*\?.*|P.*)$/s.test(text)
}
