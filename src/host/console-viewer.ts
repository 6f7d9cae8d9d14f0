/**
 * A viewer's end of the console (console-messages.ts): connected to every replica of the VM, attached to the live one, and
 * to its successor after a failover, without a gap and without a repeat.
 *
 * Keys pressed while nobody is live wait, up to a limit, and go to the successor.
 */

import { createConnection, type Socket } from 'node:net'
import {
  type FromReplica,
  type FromViewer,
  fromReplicaSchema,
  parseLine,
  toLine,
  type Wish,
} from './console-messages.ts'
import { onLines } from './socket-lines.ts'
import { TerminalQueryFilter } from './terminal-queries.ts'
import { isAlive, replicaNames, replicaPids, type VmFolder } from './vm-folder.ts'

export type ViewerEnd =
  /** The guest switched itself off. */
  | { readonly kind: 'off'; readonly failed: boolean }
  /** No replica is left. */
  | { readonly kind: 'gone' }

export interface ViewerEvents {
  readonly onOutput: (bytes: Uint8Array) => void
  /** Something the viewer should know that the guest did not print. */
  readonly onNotice: (text: string) => void
  readonly onEnd: (end: ViewerEnd) => void
}

/** How soon a successor is found. */
const seekIntervalMs = 100
/** While one is attached, others are for later. */
const lookIntervalMs = 1000
const waitingKeysBytes = 4096
/** One output of a console, in base64: far more than a guest prints at once. */
const maxReplicaLineBytes = 16 * 1024 * 1024

interface Connection {
  readonly socket: Socket
  liveGeneration: number
}

export class ConsoleViewer {
  readonly #folder: VmFolder
  readonly #wish: Wish
  readonly #events: ViewerEvents
  readonly #connections = new Map<string, Connection>()
  readonly #filter = new TerminalQueryFilter()
  #retry: NodeJS.Timeout | undefined
  #attached: Connection | undefined
  #generation = 0
  #isWriter = false
  #lastSequence: string | undefined
  #waitingKeys: Uint8Array[] = []
  #hasEnded = false

  constructor(folder: VmFolder, wish: Wish, events: ViewerEvents) {
    this.#folder = folder
    this.#wish = wish
    this.#events = events
    this.#connect()
  }

  get isWriter(): boolean {
    return this.#isWriter
  }

  sendKeys(bytes: Uint8Array): void {
    if (this.#attached) {
      if (this.#isWriter) this.#sendKeysNow(bytes)
      return
    }
    const waiting = this.#waitingKeys.reduce((sum, { length }) => sum + length, 0)
    if (this.#wish !== 'watch' && waiting + bytes.length <= waitingKeysBytes) this.#waitingKeys.push(bytes)
  }

  close(): void {
    this.#hasEnded = true
    clearTimeout(this.#retry)
    for (const { socket } of this.#connections.values()) socket.destroy()
  }

  #connect(): void {
    if (this.#hasEnded) return
    for (const name of replicaNames) if (!this.#connections.has(name)) this.#connectTo(name)
    if (!this.#attached && !this.#hasLivingReplica()) this.#end({ kind: 'gone' })
    else this.#connectAgain()
  }

  #connectAgain(): void {
    clearTimeout(this.#retry)
    this.#retry = setTimeout(() => this.#connect(), this.#attached ? lookIntervalMs : seekIntervalMs)
  }

  #connectTo(name: (typeof replicaNames)[number]): void {
    const socket = createConnection(this.#folder.consolePath(name))
    const connection: Connection = { socket, liveGeneration: 0 }
    this.#connections.set(name, connection)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      this.#connections.delete(name)
      if (connection === this.#attached && !this.#hasEnded) this.#onLost()
    })
    onLines(socket, maxReplicaLineBytes, (line) => {
      const message = parseLine(fromReplicaSchema, line)
      if (message && !this.#hasEnded) this.#onMessage(connection, message)
    })
  }

  #onLost(): void {
    this.#attached = undefined
    this.#events.onNotice('the primary is gone; waiting for its successor')
    this.#connectAgain()
  }

  #onMessage(connection: Connection, message: FromReplica): void {
    if (message.kind === 'live') {
      if (message.generation > this.#generation || !this.#attached) this.#attach(connection, message.generation)
      return
    }
    if (connection !== this.#attached) return
    switch (message.kind) {
      case 'attached':
        this.#onAttached(message)
        return
      case 'output':
        this.#lastSequence = message.sequence
        this.#show(new Uint8Array(Buffer.from(message.base64, 'base64')), message.isBacklog)
        return
      case 'writer':
        this.#isWriter = message.isWriter
        this.#events.onNotice(message.isWriter ? 'you write now' : 'another viewer writes now; you watch')
        return
      case 'off':
        this.#end({ kind: 'off', failed: message.failed })
        return
    }
  }

  /** Whoever wrote before a failover writes after it. */
  #attach(connection: Connection, generation: number): void {
    this.#attached = connection
    this.#generation = generation
    const wish = this.#isWriter
      ? 'take'
      : this.#wish === 'take' && this.#lastSequence !== undefined
        ? 'write'
        : this.#wish
    const after = this.#lastSequence === undefined ? {} : { after: this.#lastSequence }
    this.#send({ kind: 'attach', wish, ...after })
  }

  #onAttached(message: Extract<FromReplica, { kind: 'attached' }>): void {
    this.#isWriter = message.isWriter
    if (this.#lastSequence !== undefined && !message.isComplete) this.#events.onNotice('some output was missed')
    if (!this.#isWriter && this.#wish !== 'watch') this.#events.onNotice('somebody else writes; you watch')
    for (const keys of this.#waitingKeys.splice(0)) if (this.#isWriter) this.#sendKeysNow(keys)
  }

  /** Questions to the terminal are the writer's to answer, and old ones nobody's. */
  #show(bytes: Uint8Array, isBacklog: boolean): void {
    const shown = this.#filter.pass(bytes, isBacklog || !this.#isWriter)
    if (shown.length > 0) this.#events.onOutput(shown)
  }

  #sendKeysNow(bytes: Uint8Array): void {
    this.#send({ kind: 'keys', base64: Buffer.from(bytes).toString('base64') })
  }

  #send(message: FromViewer): void {
    this.#attached?.socket.write(toLine(message))
  }

  #hasLivingReplica(): boolean {
    const run = this.#folder.readRun()
    return run !== undefined && replicaPids(run).some(isAlive)
  }

  #end(end: ViewerEnd): void {
    if (this.#hasEnded) return
    this.close()
    this.#events.onEnd(end)
  }
}
