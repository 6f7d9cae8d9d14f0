/** What tests of a replica's disks share: requests of a machine, stores that fail on demand, a backend that notes what it is told. */

import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { BlockStore } from '../disk/block-store.ts'
import type { DiskServer } from '../disk/disk-server.ts'
import { HeldStore, token } from '../disk/test-disk.ts'
import { type DiskRequest, logIndex, type MarkedOutput } from '../log/entry.ts'
import type { DiskAnswer } from '../replica/disk-requests.ts'
import { DiskBackend, type DiskBackendOptions } from './disk-backend.ts'

export const write = (sequence: bigint, sector: bigint, byte: number): DiskRequest => {
  const data = new Uint8Array(512).fill(byte)
  return { kind: 'disk', sequence, disk: 0, operation: 'write', sector, lengthBytes: data.length, data }
}

export const read = (sequence: bigint, sector: bigint): DiskRequest => {
  return { kind: 'disk', sequence, disk: 0, operation: 'read', sector, lengthBytes: 512 }
}

export const flush = (sequence: bigint): DiskRequest => {
  return { kind: 'disk', sequence, disk: 0, operation: 'flush', sector: 0n, lengthBytes: 0 }
}

/** A backup's machine made this request again. */
export const replayed = (request: DiskRequest): MarkedOutput => {
  return { output: request, markerIndex: logIndex(request.sequence) }
}

/** Waits for a condition that must come true; the test runner's time limit is the only deadline. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}

/** A store that can be held, and that fails on demand as a disk with bad sectors does. */
export class FailingStore extends HeldStore {
  /** How often each is to fail yet. */
  readonly failures = { read: 0, write: 0, flush: 0 }

  override async read(offset: number, lengthBytes: number): Promise<Buffer> {
    this.#failIfAsked('read')
    return await super.read(offset, lengthBytes)
  }

  override async write(offset: number, data: Uint8Array): Promise<void> {
    this.#failIfAsked('write')
    await super.write(offset, data)
  }

  override async flush(): Promise<void> {
    this.#failIfAsked('flush')
    await super.flush()
  }

  #failIfAsked(operation: 'read' | 'write' | 'flush'): void {
    if (this.failures[operation] === 0) return
    this.failures[operation]--
    throw Object.assign(new Error('bad sector'), { code: 'EIO' })
  }
}

/** For a server's `wrapStore`: its stores in the order of its exports, none of them held when the test is over. */
export function failingStores(t: TestContext) {
  const stores: FailingStore[] = []
  t.after(() => {
    for (const store of stores) store.releaseAll()
  })
  const wrapStore = (inner: BlockStore): BlockStore => {
    const store = new FailingStore(inner)
    stores.push(store)
    return store
  }
  return { stores, wrapStore }
}

/** The disks of replica `a` of machine web on this server: disk0, if `changes` name no others. It is never to be fenced. */
export function newBackend(t: TestContext, server: DiskServer, changes: Partial<DiskBackendOptions> = {}) {
  const answers: DiskAnswer[] = []
  const given: [sequence: bigint, firstByte: number][] = []
  const backend = new DiskBackend({
    endpoint: { address: server.addresses.nbd },
    exports: ['disk0'],
    machine: 'web',
    replica: 'a',
    token,
    onAnswer: (answer) => answers.push(answer),
    onRead: (sequence, data) => given.push([sequence, data[0]!]),
    onFenced: (error) => assert.fail(error.message),
    trace: () => {},
    ...changes,
  })
  t.after(() => backend.drop())
  return { backend, answers, given }
}
