/**
 * NBD's way into TLS: the conversation begins in plain text, the client says STARTTLS, and everything after the answer is
 * inside TLS ("TLS support" of the NBD specification, where a server that requires it is in FORCEDTLS mode). These two
 * carry the plain part; the handshake itself is net/secure-socket.ts.
 */

import type { Socket } from 'node:net'
import { WorldError } from '../base/assert.ts'
import type { NbdClientSession } from './nbd-client-session.ts'
import { NbdServerSession } from './nbd-server-session.ts'

/**
 * The server's side: resolves when the client has said STARTTLS and was answered. Nothing else that it says is heeded.
 * @returns the conversation, to go on with inside TLS
 */
export async function acceptStartTls(socket: Socket): Promise<NbdServerSession> {
  const session = new NbdServerSession(true)
  socket.write(session.greeting())
  await plainPart(socket, session)
  return session
}

/** The client's side: resolves when the server has agreed. @throws NbdError `protocol`: it has no TLS, or is no NBD server */
export async function requestStartTls(socket: Socket, session: NbdClientSession): Promise<void> {
  await plainPart(socket, session)
}

type PlainEvent = { readonly kind: string; readonly bytes?: Buffer; readonly error?: Error; readonly fault?: Error }

function plainPart(socket: Socket, session: { receive(bytes: Uint8Array): readonly PlainEvent[] }): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const onEnd = (): void => reject(new WorldError('nbd-protocol', 'the connection was closed before TLS'))
  const onData = (chunk: Buffer): void => {
    for (const event of session.receive(chunk)) {
      if (event.kind === 'send') socket.write(event.bytes!)
      else if (event.kind === 'startTls') resolve()
      else reject(event.error ?? event.fault ?? new WorldError('nbd-protocol', 'it said goodbye before TLS'))
    }
  }
  socket.on('data', onData)
  socket.once('end', onEnd)
  socket.once('close', onEnd)
  return promise.finally(() => {
    socket.pause()
    socket.removeListener('data', onData)
    socket.removeListener('end', onEnd)
    socket.removeListener('close', onEnd)
  })
}
