/**
 * The shared disk of Understudy as one process: exports over NBD, and the arbiter beside them, because the one that
 * decides who is primary must be the one that keeps everybody else off the disk. Runs in a process of its own, so that it
 * survives both replicas. Start it with UV_THREADPOOL_SIZE=16 or so: a flush occupies a thread while the disk works.
 *
 * An export stands on an image file, or on the export of another NBD server (qemu-nbd, nbdkit, a gateway of a storage
 * cluster), which knows nothing of generations: this one is its fence then.
 *
 * Another arbiter may decide (etcd). The fence stays here: it rises when a replica shows what it was granted there.
 *
 * Over unix sockets whoever may open them is let in; over TCP, whoever has the key (net/listener.ts).
 */

import { stat } from 'node:fs/promises'
import { ExitCode, WorldError } from '../base/assert.ts'
import type { Endpoint, SocketAddress } from '../net/address.ts'
import { Listener } from '../net/listener.ts'
import { Arbiter } from './arbiter.ts'
import { ArbiterConnection } from './arbiter-connection.ts'
import type { BlockStore } from './block-store.ts'
import { ChangeCountingStore, changesSuffix } from './change-map.ts'
import { ExportDirectory, type StoredExport } from './export-directory.ts'
import { FileStore } from './file-store.ts'
import { ImageLock } from './image-lock.ts'
import { nameSchema, tokenSchema } from './names.ts'
import { NbdConnection } from './nbd-connection.ts'
import { acceptStartTls } from './nbd-starttls.ts'
import { NbdStore } from './nbd-store.ts'
import { digestsSuffix, PieceDigestStore } from './piece-digests.ts'
import { FileRecordStorage, type RecordStorage } from './record-storage.ts'

/** What an export stands on: a raw image file, or the export of another NBD server. */
export type DiskSource =
  | { readonly path: string }
  /** As `parseNbdUri` wants it. */
  | { readonly nbd: string }

export type DiskExport = DiskSource & {
  readonly name: string
  readonly readOnly?: boolean
  /** The machine that the disk belongs to, and whose generations fence it. */
  readonly machine?: string
  /** The replica whose own copy of a disk this is; with `machine`. */
  readonly owner?: string
}

export interface DiskServerOptions {
  readonly exports: readonly DiskExport[]
  readonly nbd: Endpoint
  readonly arbiter: Endpoint
  /** Another arbiter decides about the machines: this one grants nothing, and the fence follows what replicas show. */
  readonly isDecidedElsewhere?: boolean
  /** Folder of the arbiter's records, created if need be. Losing it is losing the generations. */
  readonly recordFolder: string
  /** Secret of each machine, by the machine's name. */
  readonly tokens: Readonly<Record<string, string>>
  /** One line of diagnostics at a time; never holds a secret. */
  readonly trace?: (line: string) => void
  /** Puts something between the exports and their image files: tests, and stores that are no files. */
  readonly wrapStore?: (store: BlockStore, diskExport: DiskExport) => BlockStore
  /** Where records stand instead of `recordFolder`. */
  readonly recordStorage?: RecordStorage
}

export interface DiskServer {
  /** Where it really listens: port 0 is replaced by the port it got. */
  readonly addresses: { readonly nbd: SocketAddress; readonly arbiter: SocketAddress }
  /** New at every start. */
  readonly bootId: string
  /** Drops every connection, lets requests in execution finish, closes the images. */
  close(): Promise<void>
}

/** Opens images, records and sockets. What is wrong with them is a `WorldError` of one line, and nothing stays open. */
export async function startDiskServer(options: DiskServerOptions): Promise<DiskServer> {
  checkOptions(options)
  const trace = options.trace ?? (() => {})
  const closers: (() => Promise<void>)[] = []
  const closeAll = async (): Promise<void> => {
    for (const close of closers.splice(0).reverse()) await close()
  }
  try {
    const storage = options.recordStorage ?? new FileRecordStorage(options.recordFolder)
    if (!options.recordStorage) {
      const folder = await stat(options.recordFolder, { bigint: true })
      const lock = await ImageLock.take(`${folder.dev}-${folder.ino}`, `arbiter folder ${options.recordFolder}`)
      closers.push(() => lock.release())
    }
    const arbiter = new Arbiter(storage, options.tokens, undefined, undefined, options.isDecidedElsewhere)
    const exports: StoredExport[] = []
    for (const diskExport of options.exports) exports.push(...(await openExport(diskExport, options, closers)))
    const directory = new ExportDirectory(exports, arbiter)
    const nbdConnections = new Set<NbdConnection>()
    const nbd = await Listener.open({
      purpose: 'disk',
      endpoint: options.nbd,
      open: acceptStartTls,
      allowHalfOpen: true,
      onConnection: (socket, begun) => {
        const connection = new NbdConnection(socket, directory, trace, begun)
        nbdConnections.add(connection)
        socket.on('close', () => {
          void connection.idle().then(() => nbdConnections.delete(connection))
        })
      },
      trace,
    })
    closers.push(async () => {
      await nbd.close()
      for (const { store } of exports) store.giveUp?.()
      await Promise.all([...nbdConnections].map((connection) => connection.idle()))
    })
    const arbiterListener = await Listener.open({
      purpose: 'arbiter',
      endpoint: options.arbiter,
      onConnection: (socket) => void new ArbiterConnection(socket, arbiter, trace),
      trace,
    })
    closers.push(() => arbiterListener.close())
    return {
      addresses: { nbd: nbd.address, arbiter: arbiterListener.address },
      bootId: arbiter.bootId,
      close: closeAll,
    }
  } catch (error) {
    await closeAll()
    throw error
  }
}

async function openExport(
  diskExport: DiskExport,
  options: DiskServerOptions,
  closers: (() => Promise<void>)[],
): Promise<StoredExport[]> {
  const readOnly = diskExport.readOnly ?? false
  const { store, identity, what } = await openStore(diskExport, readOnly, options.trace ?? (() => {}))
  closers.push(() => store.close())
  if (!readOnly) {
    const lock = await ImageLock.take(identity, what)
    closers.push(() => lock.release())
  }
  const { name, machine, owner } = diskExport
  const stored = {
    name,
    store: options.wrapStore?.(store, diskExport) ?? store,
    readOnly,
    ...(machine === undefined ? {} : { machine }),
  }
  if (owner === undefined) return [stored]
  const counting = new ChangeCountingStore(stored.store)
  const counters = { ...stored, name: `${name}${changesSuffix}`, store: counting.map, readOnly: true }
  const digests = { ...counters, name: `${name}${digestsSuffix}`, store: new PieceDigestStore(counting) }
  return [{ ...stored, store: counting, owner }, counters, digests]
}

/** Opens what an export stands on. `identity`: what makes two of them the same; `what`: how an error line calls it. */
async function openStore(source: DiskSource, readOnly: boolean, trace: (line: string) => void) {
  if ('path' in source) {
    const store = await FileStore.open(source.path, readOnly)
    return { store, identity: store.identity, what: `disk image ${source.path}` }
  }
  const store = await NbdStore.open(source.nbd, { readOnly, trace })
  return { store, identity: store.identity, what: `disk ${source.nbd}` }
}

function checkOptions({ exports, tokens }: DiskServerOptions): void {
  const bad = (message: string): WorldError => new WorldError('disk-configuration', message, ExitCode.badConfiguration)
  for (const [machine, token] of Object.entries(tokens)) {
    if (!nameSchema.safeParse(machine).success) throw bad(`"${machine}" cannot be a machine's name`)
    if (!tokenSchema.safeParse(token).success) throw bad(`the token of machine ${machine} is empty or not URL-safe`)
  }
  const names = new Set<string>()
  for (const { name, machine } of exports) {
    if (!nameSchema.safeParse(name).success) throw bad(`"${name}" cannot be an export's name`)
    if (names.has(name)) throw bad(`two exports are called ${name}`)
    names.add(name)
    if (machine !== undefined && !Object.hasOwn(tokens, machine)) {
      throw bad(`export ${name} belongs to machine ${machine}, which has no token`)
    }
  }
}
