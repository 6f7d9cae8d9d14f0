/** The user's terminal as the console of a machine: keys one by one, and one key to leave. */

/** Ctrl-], as telnet and virsh have it. */
const leaveKey = 0x1d

/**
 * Puts the terminal into raw mode; keys go to `onKeys`. Of a piped stdin every byte is a key, and its end is none.
 * @returns restores the terminal
 */
export function attachTerminal(onKeys: (bytes: Uint8Array) => void, onLeave: () => void): () => void {
  const { stdin } = process
  const wasRaw = stdin.isTTY ? stdin.isRaw : false
  if (stdin.isTTY) stdin.setRawMode(true)
  const onData = (chunk: Buffer): void => {
    const leave = stdin.isTTY ? chunk.indexOf(leaveKey) : -1
    if (leave !== 0) onKeys(new Uint8Array(leave < 0 ? chunk : chunk.subarray(0, leave)))
    if (leave >= 0) onLeave()
  }
  stdin.on('data', onData)
  return () => {
    stdin.off('data', onData)
    if (stdin.isTTY) stdin.setRawMode(wasRaw)
    stdin.pause()
  }
}
