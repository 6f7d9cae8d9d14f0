/**
 * What runs between this process and a peer, where fault trials can cut it. A cut cable looks as a cut cable does: what is
 * sent vanishes, nothing comes, no connection ends, and a new one gets no answer. The kernel beneath knows nothing of it.
 */

import type { Socket } from 'node:net'

export class Cable {
  readonly #sockets = new Set<Socket>()
  #isCut = false

  /** A connection over this cable, before anybody has listened to it. */
  plug(socket: Socket): void {
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
    if (this.#isCut) silence(socket)
  }

  cut(): void {
    this.#isCut = true
    for (const socket of this.#sockets) silence(socket)
  }

  /** New connections work again. Those of before the cut break now. */
  mend(): void {
    this.#isCut = false
    for (const socket of this.#sockets) socket.destroy()
  }

  /** What is sent on the present connections still arrives; what is answered does not. */
  loseAnswers(): void {
    for (const socket of this.#sockets) socket.pause()
  }
}

/** An explicit pause lasts: a listener that is added later does not end it. */
function silence(socket: Socket): void {
  socket.pause()
  socket.write = (() => true) as Socket['write']
  socket.end = (() => socket) as Socket['end']
}
