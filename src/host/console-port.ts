/**
 * A replica's end of the console: a unix socket on which viewers watch, and one of them writes (console-messages.ts).
 *
 * A backup fills its backlog with what its machine regenerates, and lets viewers connect, but tells them nothing before
 * it is live: until then nobody may see its outputs (the Output Rule).
 *
 * One viewer is the writer: its keys reach the guest, and its terminal alone answers the guest's questions (busybox's
 * ESC [ 6 n). The first that wishes so is; when it leaves, the one that waits longest.
 */

import { createServer, type Server, type Socket } from 'node:net'
import { listenOn } from '../net/listen.ts'
import { ConsoleBacklog, type ConsoleOutput } from './console-backlog.ts'
import {
  type FromReplica,
  type FromViewer,
  fromViewerSchema,
  maxKeysBytes,
  parseLine,
  toLine,
  type Wish,
} from './console-messages.ts'
import { onLines } from './socket-lines.ts'

/** A viewer that lets so much pile up reads no more; it may come back and get the backlog. */
const slowViewerBytes = 4 << 20
const maxViewers = 32
/** Keys in base64 with what is around them. */
const maxViewerLineBytes = 2 * maxKeysBytes + 1024

export interface ConsolePortOptions {
  readonly onKeys: (bytes: Uint8Array) => void
  /** The keyboard belongs to somebody else (the terminal of `run`): every viewer only watches. Default false. */
  readonly isReadOnly?: boolean
}

interface Viewer {
  readonly socket: Socket
  /** Undefined: connected, not attached. */
  wish: Wish | undefined
}

export class ConsolePort {
  readonly #options: ConsolePortOptions
  readonly #backlog = new ConsoleBacklog()
  /** In the order in which they came. */
  readonly #viewers: Viewer[] = []
  #writer: Viewer | undefined
  #liveGeneration: number | undefined
  #server: Server | undefined

  constructor(options: ConsolePortOptions) {
    this.#options = options
  }

  /** @param takesPlace whoever listens there has lost the place */
  async listen(path: string, takesPlace = false): Promise<void> {
    const server = createServer((socket) => this.#onConnected(socket))
    this.#server = server
    await listenOn(server, { path }, 'console', takesPlace)
  }

  get viewers(): number {
    return this.#viewers.filter(({ wish }) => wish !== undefined).length
  }

  /** A backup's machine printed this again. It is kept and not shown. */
  onRegenerated(output: ConsoleOutput): void {
    this.#backlog.add(output)
  }

  /** Released: everybody may see it. */
  onReleased(output: ConsoleOutput): void {
    if (!this.#backlog.add(output)) return
    const line = outputLine(output, false)
    for (const viewer of [...this.#viewers]) if (viewer.wish !== undefined) this.#write(viewer, line)
  }

  /** The replica holds the machine: now it speaks. */
  onLive(generation: number): void {
    this.#liveGeneration = generation
    for (const viewer of [...this.#viewers]) this.#send(viewer, { kind: 'live', generation })
  }

  /** The guest is off. What was written before is delivered if the viewer reads. */
  onOff(failed: boolean): void {
    for (const viewer of [...this.#viewers]) this.#send(viewer, { kind: 'off', failed })
  }

  close(): void {
    this.#server?.close()
    for (const { socket } of [...this.#viewers]) socket.end()
  }

  #onConnected(socket: Socket): void {
    const viewer: Viewer = { socket, wish: undefined }
    socket.on('error', () => socket.destroy())
    if (this.#viewers.length >= maxViewers) {
      socket.destroy()
      return
    }
    this.#viewers.push(viewer)
    socket.on('close', () => this.#onGone(viewer))
    onLines(socket, maxViewerLineBytes, (line) => {
      const message = socket.destroyed ? undefined : parseLine(fromViewerSchema, line)
      if (message) this.#onMessage(viewer, message)
      else socket.destroy()
    })
    if (this.#liveGeneration !== undefined) this.#send(viewer, { kind: 'live', generation: this.#liveGeneration })
  }

  #onMessage(viewer: Viewer, message: FromViewer): void {
    if (message.kind === 'keys') {
      if (viewer === this.#writer) this.#options.onKeys(new Uint8Array(Buffer.from(message.base64, 'base64')))
      return
    }
    if (this.#liveGeneration === undefined) return
    const { outputs, isComplete } = this.#backlog.since(message.after === undefined ? undefined : BigInt(message.after))
    viewer.wish = this.#options.isReadOnly ? 'watch' : message.wish
    const before = this.#writer
    const isWriter = viewer.wish === 'take' || (viewer.wish === 'write' && (before ?? viewer) === viewer)
    if (isWriter) this.#writer = viewer
    if (isWriter && before && before !== viewer) this.#send(before, { kind: 'writer', isWriter: false })
    this.#send(viewer, { kind: 'attached', isWriter, isComplete })
    for (const output of outputs) this.#write(viewer, outputLine(output, true))
  }

  #onGone(viewer: Viewer): void {
    this.#viewers.splice(this.#viewers.indexOf(viewer), 1)
    if (this.#writer !== viewer) return
    this.#writer = this.#viewers.find(({ wish }) => wish === 'write' || wish === 'take')
    if (this.#writer) this.#send(this.#writer, { kind: 'writer', isWriter: true })
  }

  #send(viewer: Viewer, message: FromReplica): void {
    this.#write(viewer, toLine(message))
  }

  #write(viewer: Viewer, line: string): void {
    if (viewer.socket.writableLength > slowViewerBytes) viewer.socket.destroy()
    else if (viewer.socket.writable) viewer.socket.write(line)
  }
}

function outputLine({ sequence, bytes }: ConsoleOutput, isBacklog: boolean): string {
  const base64 = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
  return toLine({ kind: 'output', sequence: sequence.toString(), base64, isBacklog })
}
