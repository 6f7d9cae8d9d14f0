/**
 * A replica's end of the LAN: connects to the switch's replica port, binds the machine's MAC with a generation, sends
 * released outputs, and hears which were forwarded and which frames arrived.
 *
 * The client decides nothing. Who may bind is the arbiter's decision and the switch's check; which outputs to send again
 * after going live is the backup's knowledge. A lost connection is reported, not repaired: the caller connects anew and
 * binds again in the same generation.
 */

import type { Socket } from 'node:net'
import { assert, ExitCode, unreachable, WorldError } from '../base/assert.ts'
import { type Endpoint, formatAddress } from '../net/address.ts'
import { connectTo } from '../net/connect.ts'
import { BatchedWriter } from './batched-writer.ts'
import { type Mac, parseMac } from './frame.ts'
import { LengthPrefixSplitter } from './length-prefix.ts'
import type { Refusal } from './machine-port.ts'
import {
  decodeMessageToReplica,
  encodeMessageToSwitch,
  type MessageToReplica,
  type MessageToSwitch,
  maxMessageBytes,
  proofOf,
  replicaProtocolVersion,
} from './replica-message.ts'

export interface LanClientOptions extends Endpoint {
  readonly machine: string
  /** The machine's MAC, as `52:54:00:12:34:56`; must be the one the switch knows. */
  readonly mac: string
  /** Names this replica; another name cannot bind in a generation that this one has bound. */
  readonly replica: string
  readonly token: string
  /** An inbound frame, numbered per machine; in order, each exactly once per bind. The bytes are the callee's. */
  readonly onFrame: (frameId: bigint, frame: Uint8Array) => void
  /** The switch has forwarded every output up to `sequence`. */
  readonly onConfirmed: (sequence: bigint) => void
  /** The answer to a `ping`. */
  readonly onPong?: () => void
  /** Another replica bound the machine with `generation`: nothing that this one sends is forwarded any more. */
  readonly onFenced: (generation: bigint) => void
  /** Called once when the connection has ended: not after `close()`, and not when `connect` failed. */
  readonly onClosed: (error?: WorldError) => void
  /** Default 5000. */
  readonly connectTimeoutMs?: number
}

export interface LanBinding {
  readonly generation: bigint
  /** Every frame up to this one is in an acknowledged log entry; 0 for none. */
  readonly coveredFrameId: bigint
  /** The last frame that reached this replica. Default: the covered one. */
  readonly receivedFrameId?: bigint
  /** Names the log (one boot of the machine) in which sequences and frame ids count. Default 0. */
  readonly logId?: bigint
}

export interface BoundState {
  /** The highest output sequence the switch has forwarded in this log; 0 for none. */
  readonly lastSequence: bigint
  /** The highest frame id given; frames after `receivedFrameId` up to it follow at once. */
  readonly lastFrameId: bigint
}

const refusalTexts: Readonly<Record<Refusal, string>> = {
  'stale-generation': 'a later generation is bound',
  'other-replica': 'another replica is bound in this generation',
  'wrong-mac': 'the switch knows another MAC address for this machine',
  'bad-frame-id': 'the covered frame id is impossible',
  fenced: 'another replica has taken over',
  unauthenticated: 'the machine is unknown there or the token is wrong',
}

interface PendingBind {
  readonly resolve: (state: BoundState) => void
  readonly reject: (error: WorldError) => void
}

export class LanClient {
  readonly #options: LanClientOptions
  readonly #mac: Mac
  readonly #socket: Socket
  readonly #writer: BatchedWriter
  readonly #welcome = Promise.withResolvers<void>()
  #pendingBind: PendingBind | undefined
  #isWelcomed = false
  #isClosed = false

  private constructor(options: LanClientOptions, mac: Mac, socket: Socket) {
    this.#options = options
    this.#mac = mac
    this.#socket = socket
    this.#writer = new BatchedWriter(socket)
    const splitter = new LengthPrefixSplitter(1, maxMessageBytes)
    let failure: WorldError | undefined
    socket.on('data', (chunk: Buffer) => {
      try {
        splitter.push(chunk, (body) => this.#onMessage(decodeMessageToReplica(body)))
      } catch (error) {
        if (!(error instanceof WorldError)) throw error
        failure = error
        socket.destroy()
      }
    })
    socket.on('error', (error) => {
      failure ??= new WorldError('connection-broken', error.message)
    })
    socket.once('close', () => this.#onSocketClosed(failure))
  }

  /** Connects and authenticates. Throws `WorldError`: cannot-connect, lan-refused, lan-version, timed-out. */
  static async connect(options: LanClientOptions): Promise<LanClient> {
    const mac = parseMac(options.mac)
    const timeoutMs = options.connectTimeoutMs ?? 5000
    const client = new LanClient(options, mac, await connectTo(options, { purpose: 'switch', timeoutMs }))
    const timer = setTimeout(() => {
      client.#welcome.reject(
        new WorldError(
          'timed-out',
          `the switch at ${formatAddress(options.address)} does not answer`,
          ExitCode.timedOut,
        ),
      )
    }, timeoutMs)
    try {
      await client.#welcome.promise
      return client
    } catch (error) {
      client.close()
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  /**
   * Binds the machine's MAC to this connection. Kept frames after `receivedFrameId` follow through `onFrame`, in order,
   * then live ones; the first may be handed over before the promise's awaiter runs. Throws `WorldError('bind-refused')` when another replica holds the machine, `lan-closed` when the
   * connection ends first.
   */
  bind(binding: LanBinding): Promise<BoundState> {
    assert(!this.#pendingBind, 'one bind at a time')
    if (this.#isClosed) return Promise.reject(closedError())
    const { promise, resolve, reject } = Promise.withResolvers<BoundState>()
    this.#pendingBind = { resolve, reject }
    const { generation, coveredFrameId, receivedFrameId = coveredFrameId, logId = 0n } = binding
    const request = { generation, logId, mac: this.#mac, coveredFrameId, receivedFrameId }
    this.#send({ type: 'bind', request })
    return promise
  }

  /** Releases an output. Sequences grow within a log; repeats are harmless. Dropped when the connection has ended. */
  sendOutput(sequence: bigint, frame: Uint8Array): void {
    this.#send({ type: 'output', sequence, frame })
  }

  /** Every frame up to `frameId` is in an acknowledged log entry, or was dropped by the machine. */
  covered(frameId: bigint): void {
    this.#send({ type: 'covered', frameId })
  }

  /** Tells the stations again where the machine is; the bind did so once. */
  announce(): void {
    this.#send({ type: 'announce' })
  }

  /** Asks whether the switch is there; `onPong` is the answer. */
  ping(): void {
    this.#send({ type: 'ping' })
  }

  /** Ends the connection after what was sent; nothing is called back any more. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#pendingBind?.reject(closedError())
    this.#pendingBind = undefined
    this.#socket.destroySoon()
  }

  #send(message: MessageToSwitch): void {
    this.#writer.write(encodeMessageToSwitch(message))
  }

  #onMessage(message: MessageToReplica): void {
    if (this.#isClosed) return
    switch (message.type) {
      case 'challenge': {
        const { machine, replica, token } = this.#options
        const proof = proofOf(token, message.nonce, machine, replica)
        this.#send({ type: 'hello', version: replicaProtocolVersion, machine, replica, proof })
        return
      }
      case 'welcome':
        this.#isWelcomed = true
        this.#welcome.resolve()
        return
      case 'bound': {
        const pending = this.#pendingBind
        this.#pendingBind = undefined
        pending?.resolve({ lastSequence: message.lastSequence, lastFrameId: message.lastFrameId })
        return
      }
      case 'refused':
        this.#onRefused(message.reason, message.generation)
        return
      case 'frame':
        // Copied: the message is a view of a socket's chunk, and the frame is going to live in a log entry.
        this.#options.onFrame(message.frameId, message.frame.slice())
        return
      case 'confirmed':
        this.#options.onConfirmed(message.sequence)
        return
      case 'pong':
        this.#options.onPong?.()
        return
      default:
        unreachable(message)
    }
  }

  #onRefused(reason: Refusal, generation: bigint): void {
    if (reason === 'fenced') {
      this.#options.onFenced(generation)
      return
    }
    if (reason === 'unauthenticated') {
      this.#welcome.reject(new WorldError('lan-refused', `the switch refused us: ${refusalTexts[reason]}`))
      return
    }
    const pending = this.#pendingBind
    this.#pendingBind = undefined
    pending?.reject(
      new WorldError(
        'bind-refused',
        `the switch did not bind "${this.#options.machine}" to replica "${this.#options.replica}": ${refusalTexts[reason]} (generation ${generation})`,
        ExitCode.lostArbitration,
      ),
    )
  }

  #onSocketClosed(failure: WorldError | undefined): void {
    this.#welcome.reject(failure ?? new WorldError('lan-refused', 'the switch closed the connection before welcome'))
    if (this.#isClosed) return
    this.#isClosed = true
    this.#pendingBind?.reject(closedError())
    this.#pendingBind = undefined
    if (this.#isWelcomed) this.#options.onClosed(failure)
  }
}

function closedError(): WorldError {
  return new WorldError('lan-closed', 'the connection to the switch has ended')
}
