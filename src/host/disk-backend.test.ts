import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { BlockStore } from '../disk/block-store.ts'
import type { DiskServer, DiskServerOptions } from '../disk/disk-server.ts'
import { arbiterClient, HeldStore, patienceMs, startTestServer, temporaryFolder, token } from '../disk/test-disk.ts'
import type { DiskAnswer as DiskAnswerEntry } from '../hypervisor/replayer.ts'
import { logIndex, type MarkedOutput } from '../log/entry.ts'
import { type DiskAnswer, DiskBackend } from './disk-backend.ts'
import type { DiskRequest } from './hart-messages.ts'

const write = (sequence: bigint, sector: bigint, byte: number): DiskRequest => {
  const data = new Uint8Array(512).fill(byte)
  return { kind: 'disk', sequence, disk: 0, operation: 'write', sector, lengthBytes: data.length, data }
}

const read = (sequence: bigint, sector: bigint): DiskRequest => {
  return { kind: 'disk', sequence, disk: 0, operation: 'read', sector, lengthBytes: 512 }
}

/** Waits for a condition that must come true; the test runner's time limit is the only deadline. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}

/** A server whose disk0 can be held, and a replica that holds its machine. */
async function heldDisk(t: TestContext) {
  const folder = temporaryFolder()
  const stores: HeldStore[] = []
  const wrapStore = (store: BlockStore): BlockStore => {
    const held = new HeldStore(store)
    stores.push(held)
    return held
  }
  const start = (changes: Partial<DiskServerOptions> = {}): Promise<DiskServer> =>
    startTestServer(t, folder, { wrapStore, ...changes })
  const server = await start()
  const arbiter = arbiterClient(t, server, 'a')
  const granted = await arbiter.start(patienceMs)
  assert.ok(granted.granted)
  const answers: DiskAnswer[] = []
  const backend = new DiskBackend({
    endpoint: { address: server.addresses.nbd },
    exports: ['disk0'],
    machine: 'web',
    replica: 'a',
    token,
    onAnswer: (answer) => answers.push(answer),
    onFenced: (error) => assert.fail(error.message),
    trace: () => {},
  })
  t.after(() => backend.drop())
  await backend.connect(BigInt(granted.generation))
  return { server, start, store: stores[0]!, backend, answers, folder }
}

test('a replica that halts waits for no request, hears no answer and sends nothing again', async (t) => {
  const { backend, store, answers } = await heldDisk(t)
  const { held, release } = store.hold('write')
  backend.issue(write(0n, 0n, 0xaa))
  await held
  backend.drop()
  await backend.close()
  release()
  backend.issue(write(1n, 1n, 0xbb))
  assert.deepEqual(answers, [])
  assert.equal(store.counts.write, 1)
})

test('requests that a dead disk server left unanswered are answered by the next one at the same place', async (t) => {
  const { server, start, backend, store, answers } = await heldDisk(t)
  const { held, release } = store.hold('write')
  backend.issue(write(0n, 0n, 0xaa))
  backend.issue(read(1n, 8n))
  await held
  await until(() => answers.length === 1)
  const closed = server.close()
  backend.issue(read(2n, 9n))
  release()
  await closed
  assert.deepEqual(
    answers.map(({ sequence }) => sequence),
    [1n],
  )
  await start({ nbd: { address: server.addresses.nbd } })
  await until(() => answers.length === 3)
  assert.deepEqual(answers.map(({ sequence, status }) => [sequence, status]).sort(), [
    [0n, 'ok'],
    [1n, 'ok'],
    [2n, 'ok'],
  ])
})

const flush = (sequence: bigint): DiskRequest => {
  return { kind: 'disk', sequence, disk: 0, operation: 'flush', sector: 0n, lengthBytes: 0 }
}

/** Feeds a backup with a log: each line is one entry, a request's marker or an answer to one. */
function follow(backend: DiskBackend, log: readonly (DiskRequest | { answer: bigint; status?: 'ioError' })[]): void {
  const outputs: MarkedOutput[] = []
  const answers: DiskAnswerEntry[] = []
  log.forEach((entry, at) => {
    const index = logIndex(BigInt(at))
    if ('answer' in entry) answers.push({ index, sequence: entry.answer, status: entry.status ?? 'ok' })
    else outputs.push({ output: entry, markerIndex: index })
  })
  backend.onReplayed(outputs, answers)
}

test('a backup keeps what its log says is written and not flushed, and begins with it when it goes live', async (t) => {
  const folder = temporaryFolder()
  const server = await startTestServer(t, folder)
  const arbiter = arbiterClient(t, server, 'a')
  const granted = await arbiter.start(patienceMs)
  assert.ok(granted.granted)
  const backend = new DiskBackend({
    endpoint: { address: server.addresses.nbd },
    exports: ['disk0'],
    machine: 'web',
    replica: 'a',
    token,
    onAnswer: () => {},
    onFenced: (error) => assert.fail(error.message),
    trace: () => {},
  })
  t.after(() => backend.drop())
  follow(backend, [
    write(0n, 0n, 0x10), // covered by the flush
    { answer: 0n },
    write(1n, 1n, 0x11), // in flight when the flush began
    flush(2n),
    { answer: 1n },
    { answer: 2n },
    write(3n, 2n, 0x13), // after it
    { answer: 3n },
    write(4n, 3n, 0x14), // refused by the disk
    { answer: 4n, status: 'ioError' },
    write(5n, 4n, 0x15), // not answered: the machine issues it again
  ])
  await backend.connect(BigInt(granted.generation))
  const image = readFileSync(join(folder, 'disk0.img'))
  assert.deepEqual(
    [0, 1, 2, 3, 4].map((sector) => image[sector * 512]),
    [0, 0x11, 0x13, 3, 4],
  )
})

test('a write that lost its server is there again, before anything else, when the server is back', async (t) => {
  const { server, start, backend, answers, folder } = await heldDisk(t)
  backend.issue(write(0n, 5n, 0xaa))
  await until(() => answers.length === 1)
  await server.close()
  // What a crash of its host does to a page that nobody flushed.
  const image = readFileSync(join(folder, 'disk0.img'))
  assert.equal(image[5 * 512], 0xaa)
  writeFileSync(join(folder, 'disk0.img'), image.fill(0, 5 * 512, 6 * 512))
  backend.issue(read(1n, 5n))
  await start({
    nbd: { address: server.addresses.nbd },
    exports: [{ name: 'disk0', path: join(folder, 'disk0.img'), machine: 'web' }],
  })
  await until(() => answers.length === 2)
  assert.equal(answers[1]!.data![0], 0xaa)
})
