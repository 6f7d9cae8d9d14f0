/**
 * The socket part of a replica port, on the switch's side: authenticates the peer, then turns messages into calls and
 * deliveries into messages. Which replica may speak for a machine is the switch's decision (machine-port.ts).
 *
 *     connected ── challenge ──► waiting for hello ── right proof ──► welcome, then bind / output / covered / announce
 *                                        └── anything else: one trace line, and the connection ends
 */

import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { WorldError } from '../base/assert.ts'
import { BatchedWriter } from './batched-writer.ts'
import { LengthPrefixSplitter } from './length-prefix.ts'
import {
  decodeMessageToSwitch,
  encodeMessageToReplica,
  isSameProof,
  type MessageToReplica,
  type MessageToSwitch,
  maxMessageBytes,
  nonceBytes,
  proofOf,
  replicaProtocolVersion,
} from './replica-message.ts'

/** A stranger who says nothing holds a connection no longer than this. */
const helloTimeoutMs = 5000

/** Beyond this a replica is not reading at all: its kept frames alone are bounded below it. */
const maxQueuedBytes = 64 * 1024 * 1024

export interface ReplicaPortHandlers {
  /** The token of a machine, undefined for an unknown one. */
  readonly tokenOf: (machine: string) => string | undefined
  readonly onWelcomed: (machine: string, replica: string) => void
  readonly onMessage: (message: Exclude<MessageToSwitch, { type: 'hello' }>) => void
  /** Called once, with the reason when it was not an ordinary end. */
  readonly onClosed: (error?: WorldError) => void
}

export class ReplicaPort {
  readonly #socket: Socket
  readonly #writer: BatchedWriter
  readonly #handlers: ReplicaPortHandlers
  readonly #nonce = new Uint8Array(randomBytes(nonceBytes))
  #isWelcomed = false
  #confirmed: bigint | undefined

  constructor(socket: Socket, handlers: ReplicaPortHandlers) {
    this.#socket = socket
    this.#writer = new BatchedWriter(socket)
    this.#handlers = handlers
    const splitter = new LengthPrefixSplitter(1, maxMessageBytes)
    let failure: WorldError | undefined
    const helloTimer = setTimeout(() => {
      if (this.#isWelcomed) return
      failure = new WorldError('no-hello', `the peer did not say who it is within ${helloTimeoutMs / 1000} s`)
      socket.destroy()
    }, helloTimeoutMs)
    socket.on('data', (chunk: Buffer) => {
      try {
        splitter.push(chunk, (body) => this.#onMessage(decodeMessageToSwitch(body)))
      } catch (error) {
        if (!(error instanceof WorldError)) throw error
        failure = error
        // Ended, not destroyed, so that a last "refused" still reaches the peer.
        socket.end()
        socket.removeAllListeners('data')
        socket.resume()
        setTimeout(() => socket.destroy(), 100).unref()
      }
    })
    socket.on('error', (error) => {
      failure ??= new WorldError('connection-broken', error.message)
    })
    socket.once('close', () => {
      clearTimeout(helloTimer)
      this.#handlers.onClosed(failure)
    })
    this.send({ type: 'challenge', version: replicaProtocolVersion, nonce: this.#nonce })
  }

  #onMessage(message: MessageToSwitch): void {
    if (message.type !== 'hello') {
      if (!this.#isWelcomed) throw new WorldError('bad-message', `${message.type} came before hello`)
      this.#handlers.onMessage(message)
      return
    }
    if (this.#isWelcomed) throw new WorldError('bad-message', 'a second hello')
    const { machine, replica, proof } = message
    // An unknown machine takes the same path and time as a wrong token: strangers cannot ask for names.
    const token = this.#handlers.tokenOf(machine)
    const isProved = isSameProof(proof, proofOf(token ?? '', this.#nonce, machine, replica))
    if (!isProved || token === undefined) {
      this.send({ type: 'refused', reason: 'unauthenticated', generation: 0n })
      throw new WorldError(
        'unauthenticated',
        `replica ${JSON.stringify(replica)} does not hold the token of its machine`,
      )
    }
    this.#isWelcomed = true
    this.send({ type: 'welcome' })
    this.#handlers.onWelcomed(machine, replica)
  }

  send(message: MessageToReplica): void {
    if (this.#writer.queuedBytes > maxQueuedBytes) this.#socket.destroy()
    this.#writer.write(encodeMessageToReplica(message))
  }

  /** Confirms every output up to `sequence`, once per turn of the event loop however many there were. */
  confirm(sequence: bigint): void {
    if (this.#confirmed === undefined) {
      process.nextTick(() => {
        this.send({ type: 'confirmed', sequence: this.#confirmed! })
        this.#confirmed = undefined
      })
    }
    this.#confirmed = sequence
  }

  close(): void {
    this.#socket.destroy()
  }
}
