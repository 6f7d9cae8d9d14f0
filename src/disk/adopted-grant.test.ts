/**
 * The disk server where another arbiter decides (etcd): it grants nothing, and fences by what replicas show it. Here the
 * other arbiter is the test, which says who was granted what.
 */

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { NbdError } from './nbd-error.ts'
import {
  arbiterClient,
  HeldStore,
  makeImage,
  nbdClient,
  passOf,
  patienceMs,
  startTestServer,
  temporaryFolder,
} from './test-disk.ts'

async function startFencingServer(t: TestContext, folder = temporaryFolder()) {
  let store: HeldStore | undefined
  t.after(() => store?.releaseAll())
  const server = await startTestServer(t, folder, {
    isDecidedElsewhere: true,
    exports: [{ name: 'disk0', path: makeImage(folder), machine: 'web' }],
    wrapStore: (inner) => (store = new HeldStore(inner)),
  })
  return { server, store: store!, folder }
}

const isOver = (error: unknown): boolean =>
  error instanceof NbdError && (error.reason === 'fenced' || error.reason === 'connection-lost')

test('a connection with a later generation is let in, and from that moment the older one writes nothing', async (t) => {
  const { server } = await startFencingServer(t)
  const old = await nbdClient(t, server, 'disk0', passOf('a', 3))
  await old.write(0, Buffer.alloc(512, 0xaa))
  const winner = await nbdClient(t, server, 'disk0', passOf('b', 4))
  assert.equal((await winner.read(0, 1))[0], 0xaa)
  await assert.rejects(old.write(0, Buffer.alloc(512, 0xee)), isOver)
  await assert.rejects(nbdClient(t, server, 'disk0', passOf('a', 3)), { reason: 'fenced' })
  await assert.rejects(nbdClient(t, server, 'disk0', passOf('a', 4)), { reason: 'fenced' })
  await winner.write(0, Buffer.alloc(512, 0xbb))
  assert.equal((await winner.read(0, 1))[0], 0xbb)
})

test('a grant of another arbiter still fences: the new holder is let at the disk when the older write has finished', async (t) => {
  const { server, store } = await startFencingServer(t)
  const old = await nbdClient(t, server, 'disk0', passOf('a', 1))
  const { held, release } = store.hold('write')
  const write = old.write(0, Buffer.alloc(512, 0xaa)).catch((error) => assert.ok(isOver(error)))
  await held
  let isOpen = false
  const winner = nbdClient(t, server, 'disk0', passOf('b', 2)).then((client) => {
    isOpen = true
    return client
  })
  const told = arbiterClient(t, server, 'b')
  let isTold = false
  const adopted = told.adopt(2, patienceMs).then((answer) => {
    isTold = true
    return answer
  })
  // Questions of a session begin in order, so the adoption is decided when this is answered.
  assert.equal((await told.read(patienceMs)).generation, 2)
  await told.read(patienceMs)
  assert.deepEqual([isOpen, isTold], [false, false])
  release()
  assert.deepEqual(await adopted, { accepted: true, generation: 2 })
  await (await winner).write(0, Buffer.alloc(512, 0xbb))
  await write
  assert.equal((await (await winner).read(0, 1))[0], 0xbb)
})

test('the fence is durable: after a restart of the disk server an older generation is refused all the same', async (t) => {
  const { server, folder } = await startFencingServer(t)
  await nbdClient(t, server, 'disk0', passOf('b', 7))
  await server.close()
  const { server: reopened } = await startFencingServer(t, folder)
  await assert.rejects(nbdClient(t, reopened, 'disk0', passOf('a', 6)), { reason: 'fenced' })
  await nbdClient(t, reopened, 'disk0', passOf('b', 7))
})

test('a holder that opens generations elsewhere keeps its connection, and may come back with its first one', async (t) => {
  const { server } = await startFencingServer(t)
  const holder = await nbdClient(t, server, 'disk0', passOf('a', 1))
  // Generations 2 and 3 are opened at the other arbiter: this server hears nothing of them.
  await holder.write(0, Buffer.alloc(512, 1))
  const again = await nbdClient(t, server, 'disk0', passOf('a', 1))
  await again.write(0, Buffer.alloc(512, 2))
  await nbdClient(t, server, 'disk0', passOf('b', 4))
  await assert.rejects(again.write(0, Buffer.alloc(512, 3)), isOver)
})

test('the same replica started again is a later holder: what its dead process left on the way is refused', async (t) => {
  const { server } = await startFencingServer(t)
  const dead = await nbdClient(t, server, 'disk0', passOf('a', 1))
  const alive = await nbdClient(t, server, 'disk0', passOf('a', 2))
  await assert.rejects(dead.write(0, Buffer.alloc(512, 1)), isOver)
  await alive.write(0, Buffer.alloc(512, 2))
})

test('an old holder that is told nothing by its arbiter is told by the disk server', async (t) => {
  const { server } = await startFencingServer(t)
  const told = Promise.withResolvers<unknown>()
  const old = arbiterClient(t, server, 'a', { onFenced: told.resolve })
  assert.deepEqual(await old.adopt(1, patienceMs), { accepted: true, generation: 1 })
  await nbdClient(t, server, 'disk0', passOf('b', 2))
  assert.deepEqual(await told.promise, { generation: 2, holder: 'b' })
  const toldLate = Promise.withResolvers<unknown>()
  const woken = arbiterClient(t, server, 'a', { generation: 1, onFenced: toldLate.resolve })
  await woken.connect(patienceMs)
  assert.deepEqual(await toldLate.promise, { generation: 2, holder: 'b' })
})

test('a session that comes back says what it holds, and the fence rises by that alone', async (t) => {
  const { server } = await startFencingServer(t)
  const old = await nbdClient(t, server, 'disk0', passOf('a', 1))
  await arbiterClient(t, server, 'b', { generation: 2 }).connect(patienceMs)
  await assert.rejects(old.write(0, Buffer.alloc(512)), isOver)
})

test('after a release tools may write to the disk, until somebody holds the machine again', async (t) => {
  const { server } = await startFencingServer(t)
  const holder = arbiterClient(t, server, 'a')
  await holder.adopt(5, patienceMs)
  assert.equal((await nbdClient(t, server, 'disk0')).isReadOnly, true)
  assert.deepEqual(await holder.release(5, patienceMs), { accepted: true, generation: 5 })
  const tool = await nbdClient(t, server, 'disk0')
  await tool.write(0, Buffer.alloc(512, 9))
  await nbdClient(t, server, 'disk0', passOf('b', 6))
  await assert.rejects(tool.write(0, Buffer.alloc(512, 10)), isOver)
})

test('there is one arbiter: who only fences grants nothing, and who grants adopts nothing', async (t) => {
  const { server } = await startFencingServer(t)
  const replica = arbiterClient(t, server, 'a')
  await assert.rejects(replica.start(patienceMs), { message: /grants nothing: its VM file names another arbiter/ })
  await assert.rejects(replica.testAndSet(0, patienceMs), { reason: 'protocol' })
  await assert.rejects(replica.openGeneration(0, ['b'], patienceMs), { reason: 'protocol' })
  const arbiter = await startTestServer(t, temporaryFolder())
  const misled = arbiterClient(t, arbiter, 'a')
  await assert.rejects(misled.adopt(9, patienceMs), { message: /is the arbiter itself/ })
  assert.equal((await arbiterClient(t, arbiter, 'w').read(patienceMs)).generation, 0)
  await assert.rejects(nbdClient(t, arbiter, 'disk0', passOf('a', 9)), { reason: 'fenced' })
})

test('a wrong token moves no fence', async (t) => {
  const { server } = await startFencingServer(t)
  await assert.rejects(nbdClient(t, server, 'disk0', { ...passOf('x', 99), token: 'guess' }), { reason: 'refused' })
  assert.equal((await arbiterClient(t, server, 'w').read(patienceMs)).generation, 0)
})
