/** Lines of a socket that somebody else writes to: cut, of bounded length, and read no further once they are not. */

import type { Socket } from 'node:net'
import { WorldError } from '../base/assert.ts'
import { LineSplitter } from '../disk/line-splitter.ts'

/** A peer whose line grows beyond `maxLineBytes` loses its connection. */
export function onLines(socket: Socket, maxLineBytes: number, onLine: (line: string) => void): void {
  const splitter = new LineSplitter(maxLineBytes)
  socket.on('data', (chunk: Buffer) => {
    if (socket.destroyed) return
    try {
      for (const line of splitter.push(chunk)) onLine(line)
    } catch (error) {
      if (!(error instanceof WorldError)) throw error
      socket.destroy()
    }
  })
}
