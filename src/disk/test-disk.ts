/** What the tests of this folder share: images in a temporary folder, a disk server on free ports, a store that can be held. */

import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { assert } from '../base/assert.ts'
import { MiB } from '../base/units.ts'
import type { Endpoint, SocketAddress } from '../net/address.ts'
import { ArbiterClient, type ArbiterClientOptions } from './arbiter-client.ts'
import type { BlockStore } from './block-store.ts'
import { type DiskExport, type DiskServer, type DiskServerOptions, startDiskServer } from './disk-server.ts'
import type { ReplicaPass } from './names.ts'
import { NbdClient } from './nbd-client.ts'
import type { NbdClientEvent, NbdClientSession } from './nbd-client-session.ts'

export const token = 'secret-of-web'

/** Long enough for a loaded computer; no test waits for it to pass. */
export const patienceMs = 20_000

const folders: string[] = []

export function temporaryFolder(): string {
  // At the very end: an inode freed while a server still holds its lock may come back in a test that runs beside.
  if (folders.length === 0) {
    process.once('exit', () => {
      for (const folder of folders) rmSync(folder, { recursive: true, force: true })
    })
  }
  const folder = mkdtempSync(join(tmpdir(), 'understudy-disk-'))
  folders.push(folder)
  return folder
}

let sockets = 0
let socketFolder: string | undefined

/** A unix socket that nobody uses yet. */
export function freeSocket(): Endpoint {
  socketFolder ??= temporaryFolder()
  return { address: { path: join(socketFolder, `${++sockets}.socket`) } }
}

/** An image of `sizeBytes`, each byte telling its 512-byte sector. */
export function makeImage(folder: string, name = 'disk0.img', sizeBytes = MiB): string {
  const path = join(folder, name)
  const image = Buffer.alloc(sizeBytes)
  for (let offset = 0; offset < sizeBytes; offset += 512) image.fill((offset >> 9) & 0xff, offset, offset + 512)
  writeFileSync(path, image)
  return path
}

/** A server with disk0 of machine web, disk1 of the same machine, and plain, which belongs to nobody. */
export async function startTestServer(
  t: TestContext,
  folder: string,
  changes: Partial<DiskServerOptions> = {},
): Promise<DiskServer> {
  const freshExports = (): DiskExport[] => [
    { name: 'disk0', path: makeImage(folder, 'disk0.img'), machine: 'web' },
    { name: 'disk1', path: makeImage(folder, 'disk1.img'), machine: 'web' },
    { name: 'plain', path: makeImage(folder, 'plain.img') },
  ]
  const server = await startDiskServer({
    exports: changes.exports ?? freshExports(),
    nbd: freeSocket(),
    arbiter: freeSocket(),
    recordFolder: join(folder, 'arbiter'),
    tokens: { web: token },
    ...changes,
  })
  t.after(() => server.close())
  return server
}

export function arbiterClient(
  t: TestContext,
  server: DiskServer,
  replica: string,
  changes: Partial<ArbiterClientOptions> = {},
): ArbiterClient {
  const client = new ArbiterClient({ address: server.addresses.arbiter, machine: 'web', replica, token, ...changes })
  t.after(() => client.close())
  return client
}

export function passOf(replica: string, generation: number): ReplicaPass {
  return { machine: 'web', generation, replica, token }
}

export async function nbdClient(
  t: TestContext,
  server: DiskServer,
  exportName: string,
  pass?: ReplicaPass,
): Promise<NbdClient> {
  const client = await NbdClient.connect({
    address: server.addresses.nbd,
    exportName,
    connectTimeoutMs: patienceMs,
    ...(pass ? { pass } : {}),
  })
  t.after(() => client.destroy())
  return client
}

/** The server's ends of connections, newest last: how a test knows what has arrived, instead of guessing. */
export function serverSockets(t: TestContext): readonly Socket[] {
  const sockets: Socket[] = []
  const onSocket = (message: unknown): void => {
    sockets.push((message as { socket: Socket }).socket)
  }
  subscribe('net.server.socket', onSocket)
  t.after(() => unsubscribe('net.server.socket', onSocket))
  return sockets
}

/** Resolves once `socket` has received `bytes` in all. */
export async function hasReceived(socket: Socket, bytes: number): Promise<void> {
  while (socket.bytesRead < bytes) await new Promise(setImmediate)
}

/** A raw connection, for saying things that no client would. */
export async function rawSocket(t: TestContext, address: SocketAddress): Promise<Socket> {
  const socket = address.path === undefined ? connect(address.port, address.host) : connect(address.path)
  t.after(() => socket.destroy())
  socket.on('error', () => {})
  await new Promise((resolve) => socket.once('connect', resolve))
  return socket
}

/** A network between client and server that can hold back what the client has sent, however long. */
export interface SlowNetwork {
  readonly address: SocketAddress
  /** From now on bytes to the server stay on the way. */
  hold(): void
  /** Bytes on the way. */
  readonly heldBytes: number
  /** They arrive, and later ones pass. */
  release(): void
}

export async function slowNetwork(t: TestContext, target: SocketAddress): Promise<SlowNetwork> {
  const held: { socket: Socket; chunk: Buffer }[] = []
  let isHolding = false
  const proxy = createServer((near) => {
    const far = target.path === undefined ? connect(target.port, target.host) : connect(target.path)
    t.after(() => {
      near.destroy()
      far.destroy()
    })
    for (const socket of [near, far]) socket.on('error', () => {})
    far.pipe(near)
    near.on('data', (chunk: Buffer) => {
      if (isHolding) held.push({ socket: far, chunk })
      else far.write(chunk)
    })
    // A client that is gone does not take back what it has sent.
    near.on('close', () => isHolding || far.end())
  })
  t.after(() => proxy.close())
  const { address } = freeSocket()
  await new Promise<void>((resolve) => proxy.listen(address.path, resolve))
  return {
    address,
    hold: () => {
      isHolding = true
    },
    get heldBytes() {
      return held.reduce((sum, { chunk }) => sum + chunk.length, 0)
    },
    release: () => {
      isHolding = false
      for (const { socket, chunk } of held.splice(0)) socket.write(chunk)
    },
  }
}

/** Runs a client session by hand over a raw connection; `next(kind)` is the next event of that kind. */
export function rawEvents(
  socket: Socket,
  session: NbdClientSession,
): { next: (kind: NbdClientEvent['kind']) => Promise<NbdClientEvent> } {
  const events: NbdClientEvent[] = []
  let wake = (): void => {}
  socket.on('data', (chunk: Buffer) => {
    for (const event of session.receive(chunk)) {
      if (event.kind === 'send') socket.write(event.bytes)
      else events.push(event)
    }
    wake()
  })
  return {
    next: async (kind) => {
      for (;;) {
        const index = events.findIndex((event) => event.kind === kind)
        if (index >= 0) return events.splice(index, 1)[0]!
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    },
  }
}

/** As NBD's tools want it: `nbd+unix:///EXPORT?socket=PATH`. */
export function nbdUri(server: DiskServer, exportName: string): string {
  const { path } = server.addresses.nbd
  assert(path !== undefined, 'a server on a unix socket')
  return `nbd+unix:///${exportName}?socket=${path}`
}

/**
 * A store that stops at chosen operations until the test lets them go on: a slow disk, without clocks. `held` resolves
 * when an operation of the kind has arrived.
 */
export class HeldStore implements BlockStore {
  readonly #store: BlockStore
  readonly #gates = new Map<string, { arrived: () => void; opened: Promise<void> }>()
  readonly #openers: (() => void)[] = []
  /** Operations that have begun, by kind. */
  readonly counts = { read: 0, write: 0, flush: 0, writeZeroes: 0 }

  constructor(store: BlockStore) {
    this.#store = store
  }

  get sizeBytes(): number {
    return this.#store.sizeBytes
  }

  /** Holds the next operation of this kind. */
  hold(kind: keyof HeldStore['counts']): { held: Promise<void>; release: () => void } {
    const arrived = Promise.withResolvers<void>()
    const opened = Promise.withResolvers<void>()
    this.#gates.set(kind, { arrived: arrived.resolve, opened: opened.promise })
    this.#openers.push(opened.resolve)
    return { held: arrived.promise, release: opened.resolve }
  }

  /** Lets everything go on, so that a test that failed half-way can close its server. */
  releaseAll(): void {
    for (const open of this.#openers.splice(0)) open()
  }

  async #pass(kind: keyof HeldStore['counts']): Promise<void> {
    this.counts[kind]++
    const gate = this.#gates.get(kind)
    this.#gates.delete(kind)
    gate?.arrived()
    await gate?.opened
  }

  async read(offset: number, lengthBytes: number): Promise<Buffer> {
    await this.#pass('read')
    return await this.#store.read(offset, lengthBytes)
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    await this.#pass('write')
    await this.#store.write(offset, data)
  }

  async flush(): Promise<void> {
    await this.#pass('flush')
    await this.#store.flush()
  }

  async trim(offset: number, lengthBytes: number): Promise<void> {
    await this.#store.trim(offset, lengthBytes)
  }

  async writeZeroes(offset: number, lengthBytes: number, mayStayHole: boolean): Promise<void> {
    await this.#pass('writeZeroes')
    await this.#store.writeZeroes(offset, lengthBytes, mayStayHole)
  }

  async close(): Promise<void> {
    await this.#store.close()
  }
}
