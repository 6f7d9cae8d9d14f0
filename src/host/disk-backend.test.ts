import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { BlockStore } from '../disk/block-store.ts'
import type { DiskServer, DiskServerOptions } from '../disk/disk-server.ts'
import { arbiterClient, HeldStore, patienceMs, startTestServer, temporaryFolder, token } from '../disk/test-disk.ts'
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
  return { server, start, store: stores[0]!, backend, answers }
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
