/**
 * Invariant 9 over real sockets: a write of the old generation, held inside the server, either finishes before the grant
 * is answered or never lands.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { MiB } from '../base/units.ts'
import { ArbiterClient } from './arbiter-client.ts'
import type { DiskServer } from './disk-server.ts'
import { foreignServer, nbdkit, needs } from './foreign-server.test-support.ts'
import { formatExportName } from './names.ts'
import { NbdClient } from './nbd-client.ts'
import { NbdClientSession } from './nbd-client-session.ts'
import { NbdError } from './nbd-error.ts'
import { Command, NbdErrno } from './nbd-wire.ts'
import {
  arbiterClient,
  HeldStore,
  hasReceived,
  makeImage,
  nbdClient,
  passOf,
  patienceMs,
  rawEvents,
  rawSocket,
  serverSockets,
  slowNetwork,
  startTestServer,
  temporaryFolder,
  token,
} from './test-disk.ts'

interface Pair {
  readonly server: DiskServer
  readonly folder: string
  readonly stores: Readonly<Record<string, HeldStore>>
  readonly primary: ArbiterClient
  readonly backup: ArbiterClient
}

/** Resolves once the record has moved on from generation 1; a grant may be draining still. */
async function recordMoved(t: TestContext, server: DiskServer): Promise<void> {
  const witness = arbiterClient(t, server, 'witness')
  while ((await witness.read(patienceMs)).generation === 1) await new Promise(setImmediate)
}

/** Holds reads until every place for a request in execution is taken; returns the way to let them go. */
async function fillExecution(client: NbdClient, store: HeldStore): Promise<() => Promise<void>> {
  const releases: (() => void)[] = []
  const reads: Promise<unknown>[] = []
  for (let index = 0; index < 16; index++) {
    const { held, release } = store.hold('read')
    const read = client.read(0, 512)
    // A test may break the connection: that is no failure of its own.
    read.catch(() => {})
    reads.push(read)
    await held
    releases.push(release)
  }
  return async () => {
    for (const release of releases) release()
    await Promise.all(reads)
  }
}

/** Primary a holds web in generation 1, b is eligible, and both disks can be held. */
async function startPair(t: TestContext, imageBytes = MiB): Promise<Pair> {
  const folder = temporaryFolder()
  const disks = ['disk0', 'disk1'].map((name) => ({
    name,
    path: makeImage(folder, `${name}.img`, imageBytes),
    machine: 'web',
  }))
  const stores: Record<string, HeldStore> = {}
  t.after(() => {
    for (const store of Object.values(stores)) store.releaseAll()
  })
  const server = await startTestServer(t, folder, {
    exports: [...disks, { name: 'plain', path: makeImage(folder, 'plain.img') }],
    wrapStore: (store, { name }) => (stores[name] = new HeldStore(store)),
  })
  const primary = arbiterClient(t, server, 'a')
  const backup = arbiterClient(t, server, 'b')
  assert.deepEqual(await primary.start(patienceMs), { granted: true, generation: 1 })
  assert.equal((await primary.setEligible(1, ['b'], patienceMs)).accepted, true)
  return { server, folder, stores, primary, backup }
}

const isFenced = (error: unknown): boolean => error instanceof NbdError && error.reason === 'fenced'
const isLostOrFenced = (error: unknown): boolean =>
  error instanceof NbdError && (error.reason === 'fenced' || error.reason === 'connection-lost')

for (const disk of ['disk0', 'disk1'] as const) {
  test(`a grant waits for a write of the old generation that is in execution on ${disk}`, async (t) => {
    const { server, folder, stores, backup } = await startPair(t)
    const old = await nbdClient(t, server, disk, passOf('a', 1))
    const { held, release } = stores[disk]!.hold('write')
    const write = old.write(0, Buffer.alloc(512, 0xee))
    await held
    let oldFinished = false
    const finished = write.then(() => {
      oldFinished = true
    })
    const grant = backup.testAndSet(1, patienceMs).then((answer) => {
      // What the winner's next read would see: the old write, whole.
      assert.equal(readFileSync(join(folder, `${disk}.img`))[0], 0xee, 'the old write had landed before the answer')
      return answer
    })
    // The record has moved already: whoever asks the arbiter sees it. The answer to the winner has not left.
    await recordMoved(t, server)
    const witness = arbiterClient(t, server, 'witness')
    const early = await Promise.race([grant, witness.read(patienceMs).then(() => 'not yet')])
    assert.equal(early, 'not yet')
    assert.equal(oldFinished, false)
    release()
    assert.deepEqual(await grant, { won: true, generation: 2 })
    await finished.catch((error) => assert.ok(isLostOrFenced(error)))
  })
}

test('a write of the old generation that waits in the queue never lands', async (t) => {
  const { server, folder, stores, backup } = await startPair(t)
  const sockets = serverSockets(t)
  const old = await nbdClient(t, server, 'disk0', passOf('a', 1))
  const store = stores.disk0!
  const image = readFileSync(join(folder, 'disk0.img'))
  const letReadsGo = await fillExecution(old, store)
  const socket = sockets.at(-1)!
  const bytesBefore = socket.bytesRead
  const refused = assert.rejects(old.write(4096, Buffer.alloc(512, 0xee)), isFenced)
  await hasReceived(socket, bytesBefore + 28 + 512)
  assert.equal(store.counts.write, 0, 'the write is in the queue')
  const grant = backup.testAndSet(1, patienceMs)
  await recordMoved(t, server)
  await letReadsGo()
  assert.deepEqual(await grant, { won: true, generation: 2 })
  await refused
  assert.equal((await old.ended)?.reason, 'connection-lost', 'and the connection is closed')
  assert.equal(store.counts.write, 0)
  assert.ok(readFileSync(join(folder, 'disk0.img')).equals(image))
})

test('a write that arrives while a grant drains is refused at once, not after the drain', async (t) => {
  const { server, stores, backup } = await startPair(t)
  const old = await nbdClient(t, server, 'disk0', passOf('a', 1))
  const letReadsGo = await fillExecution(old, stores.disk0!)
  const grant = backup.testAndSet(1, patienceMs)
  await recordMoved(t, server)
  await assert.rejects(old.write(0, Buffer.alloc(512)), isFenced)
  await letReadsGo()
  assert.equal((await grant).won, true)
})

test('a write of the old generation that is half on the wire when the grant is answered never lands', async (t) => {
  const { server, folder, stores, backup } = await startPair(t)
  const session = new NbdClientSession(formatExportName('disk0', passOf('a', 1)), false)
  const socket = await rawSocket(t, server.addresses.nbd)
  const events = rawEvents(socket, session)
  assert.equal((await events.next('ready')).kind, 'ready')
  const { header } = session.request(Command.write, 0, 0, 512)
  socket.write(Buffer.concat([header, Buffer.alloc(200, 0xee)]))
  assert.equal((await backup.testAndSet(1, patienceMs)).won, true)
  const winner = await nbdClient(t, server, 'disk0', passOf('b', 2))
  await winner.write(0, Buffer.alloc(512, 0x22))
  const writesBefore = stores.disk0!.counts.write
  socket.write(Buffer.alloc(312, 0xee))
  const reply = await events.next('reply')
  assert.equal(reply.kind === 'reply' && reply.errno, NbdErrno.shutdown)
  assert.equal(stores.disk0!.counts.write, writesBefore)
  assert.equal(readFileSync(join(folder, 'disk0.img'))[0], 0x22)
})

test('a write of the old generation that is on the wire until the new primary has written the same sectors never lands', async (t) => {
  const { server, folder, stores, backup } = await startPair(t)
  const network = await slowNetwork(t, server.addresses.nbd)
  const old = await NbdClient.connect({ address: network.address, exportName: 'disk0', pass: passOf('a', 1) })
  t.after(() => old.destroy())
  await old.write(0, Buffer.alloc(512, 0x11))
  network.hold()
  const requests = {
    write: old.write(0, Buffer.alloc(512, 0xee)),
    zeroes: old.writeZeroes(512, 512),
    trim: old.trim(1024, 512),
  }
  const refused = Object.values(requests).map((request) => assert.rejects(request, isLostOrFenced))
  while (network.heldBytes < 28 + 512 + 28 + 28) await new Promise(setImmediate)
  assert.deepEqual(await backup.testAndSet(1, patienceMs), { won: true, generation: 2 })
  const winner = await nbdClient(t, server, 'disk0', passOf('b', 2))
  await winner.write(0, Buffer.alloc(1536, 0x22))
  const counts = { ...stores.disk0!.counts }
  network.release()
  await Promise.all(refused)
  assert.deepEqual(stores.disk0!.counts, counts)
  assert.ok(readFileSync(join(folder, 'disk0.img')).subarray(0, 1536).equals(Buffer.alloc(1536, 0x22)))
})

for (const kind of ['read', 'write', 'flush', 'writeZeroes', 'trim'] as const) {
  test(`a ${kind} of a connection whose generation is over is refused, and the connection closed`, async (t) => {
    const { server, folder, backup } = await startPair(t)
    const old = await nbdClient(t, server, 'disk0', passOf('a', 1))
    const before = readFileSync(join(folder, 'disk0.img'))
    assert.equal((await backup.testAndSet(1, patienceMs)).won, true)
    const requests = {
      read: () => old.read(0, 512),
      write: () => old.write(0, Buffer.alloc(512, 0xee), { fua: true }),
      flush: () => old.flush(),
      writeZeroes: () => old.writeZeroes(0, 4096),
      trim: () => old.trim(0, 4096),
    }
    await assert.rejects(requests[kind](), isFenced)
    assert.equal((await old.ended)?.reason, 'connection-lost')
    assert.ok(readFileSync(join(folder, 'disk0.img')).equals(before))
    await assert.rejects(nbdClient(t, server, 'disk0', passOf('a', 1)), isFenced)
  })
}

test('a long zeroing is cut at the fence: the grant does not wait for all of it', async (t) => {
  const { server, stores, backup } = await startPair(t, 24 * MiB)
  const old = await nbdClient(t, server, 'disk0', passOf('a', 1))
  const { held, release } = stores.disk0!.hold('writeZeroes')
  const refused = assert.rejects(old.writeZeroes(0, old.sizeBytes), isFenced)
  await held
  const grant = backup.testAndSet(1, patienceMs)
  await recordMoved(t, server)
  release()
  assert.equal((await grant).won, true)
  await refused
  assert.equal(stores.disk0!.counts.writeZeroes, 1)
})

test('the winner works on the disks with its new generation', async (t) => {
  const { server, backup } = await startPair(t)
  assert.equal((await backup.testAndSet(1, patienceMs)).won, true)
  const disk = await nbdClient(t, server, 'disk0', passOf('b', 2))
  await disk.write(0, Buffer.alloc(512, 7), { fua: true })
  assert.equal((await disk.read(0, 512))[511], 7)
})

test('a pass of a grant that still drains is answered only after the drain', async (t) => {
  const { server, stores, backup } = await startPair(t)
  const old = await nbdClient(t, server, 'disk1', passOf('a', 1))
  const { held, release } = stores.disk1!.hold('write')
  const write = old.write(0, Buffer.alloc(512, 0xee))
  await held
  const grant = backup.testAndSet(1, patienceMs)
  await recordMoved(t, server)
  const witness = arbiterClient(t, server, 'witness')
  let isReleased = false
  const early = nbdClient(t, server, 'disk0', passOf('b', 2)).then(() => isReleased)
  await witness.read(patienceMs)
  isReleased = true
  release()
  await Promise.all([grant, write])
  assert.equal(await early, true)
})

test('a write that is in the socket of a broken connection never lands after the same replica has come back', async (t) => {
  const { server, folder, stores } = await startPair(t)
  const sockets = serverSockets(t)
  const session = new NbdClientSession(formatExportName('disk0', passOf('a', 1)), false)
  const wire = await rawSocket(t, server.addresses.nbd)
  assert.equal((await rawEvents(wire, session).next('ready')).kind, 'ready')
  const { header } = session.request(Command.write, 0, 0, 512)
  wire.write(Buffer.concat([header, Buffer.alloc(200, 0xee)]))
  const sent = wire.bytesWritten
  await hasReceived(sockets.at(-1)!, sent)
  // The replica has given that connection up, and issues the write again on another one; the guest goes on.
  let isClosed = false
  wire.once('close', () => {
    isClosed = true
  })
  const again = await nbdClient(t, server, 'disk0', passOf('a', 1))
  await again.write(0, Buffer.alloc(512, 0xee))
  await again.write(0, Buffer.alloc(512, 0x22))
  wire.write(Buffer.alloc(312, 0xee))
  while (!isClosed && stores.disk0!.counts.write === 2) await new Promise(setImmediate)
  assert.equal(stores.disk0!.counts.write, 2)
  assert.equal(readFileSync(join(folder, 'disk0.img'))[0], 0x22)
})

test('a replica that comes back waits for what its broken connection left in execution; what was queued is gone', async (t) => {
  const { server, folder, stores } = await startPair(t)
  const sockets = serverSockets(t)
  const broken = await nbdClient(t, server, 'disk0', passOf('a', 1))
  const letReadsGo = await fillExecution(broken, stores.disk0!)
  const socket = sockets.at(-1)!
  const bytesBefore = socket.bytesRead
  const queued = assert.rejects(broken.write(4096, Buffer.alloc(512, 0xee)), { reason: 'connection-lost' })
  await hasReceived(socket, bytesBefore + 28 + 512)
  let isBack = false
  const back = nbdClient(t, server, 'disk0', passOf('a', 1)).then((client) => {
    isBack = true
    return client
  })
  await queued
  await nbdClient(t, server, 'disk1', passOf('a', 1))
  assert.equal(isBack, false, 'another disk is another matter, and this one still has requests in execution')
  await letReadsGo().catch((error) => assert.ok(isLostOrFenced(error)))
  const disk = await back
  await disk.write(4096, Buffer.alloc(512, 0x22))
  assert.equal(stores.disk0!.counts.write, 1)
  assert.equal(readFileSync(join(folder, 'disk0.img'))[4096], 0x22)
})

test('opening a generation keeps the connections of the holder', async (t) => {
  const { server, primary } = await startPair(t)
  const disk = await nbdClient(t, server, 'disk0', passOf('a', 1))
  assert.deepEqual(await primary.openGeneration(1, ['c'], patienceMs), { accepted: true, generation: 2 })
  await disk.write(0, Buffer.alloc(512, 3))
  const again = await nbdClient(t, server, 'disk0', passOf('a', 2))
  assert.equal((await again.read(0, 1))[0], 3)
})

test('a plain connection to a disk that is held can only read', async (t) => {
  const { server } = await startPair(t)
  const tool = await nbdClient(t, server, 'disk0')
  assert.equal(tool.isReadOnly, true)
  assert.equal((await tool.read(512, 1))[0], 1)
  await assert.rejects(tool.write(0, Buffer.alloc(512)), { reason: 'io', errno: 1 })
})

test('a tool writes to the disk of a stopped machine until the machine is started', async (t) => {
  const folder = temporaryFolder()
  const server = await startTestServer(t, folder)
  const tool = await nbdClient(t, server, 'disk0')
  assert.equal(tool.isReadOnly, false)
  await tool.write(0, Buffer.alloc(512, 9))
  const primary = arbiterClient(t, server, 'a')
  await primary.start(patienceMs)
  await assert.rejects(tool.write(0, Buffer.alloc(512, 10)), isFenced)
  assert.equal((await primary.release(1, patienceMs)).accepted, true)
  const next = await nbdClient(t, server, 'disk0')
  assert.equal((await next.read(0, 1))[0], 9)
  await next.write(0, Buffer.alloc(512, 11))
})

test('a start waits for the write of a tool, and a release for the write of the holder', async (t) => {
  let store: HeldStore | undefined
  const folder = temporaryFolder()
  t.after(() => store?.releaseAll())
  const server = await startTestServer(t, folder, {
    exports: [{ name: 'disk0', path: makeImage(folder), machine: 'web' }],
    wrapStore: (inner) => (store = new HeldStore(inner)),
  })
  const primary = arbiterClient(t, server, 'a')
  const inExecution = async (name: string, client: NbdClient, answer: () => Promise<unknown>): Promise<void> => {
    const { held, release } = store!.hold('write')
    const write = client.write(0, Buffer.alloc(512))
    await held
    let isAnswered = false
    const answered = answer().then(() => {
      isAnswered = true
    })
    // Requests of a session begin in order: by the first answer this one is decided, and by the second its own answer
    // would have left if it waited for nothing.
    await primary.read(patienceMs)
    await primary.read(patienceMs)
    assert.equal(isAnswered, false, name)
    release()
    await Promise.all([write, answered])
  }
  await primary.connect(patienceMs)
  await inExecution('start', await nbdClient(t, server, 'disk0'), () => primary.start(patienceMs))
  const disk = await nbdClient(t, server, 'disk0', passOf('a', 1))
  await inExecution('release', disk, () => primary.release(1, patienceMs))
})

test('a wrong token opens no disk and no session', async (t) => {
  const { server } = await startPair(t)
  const forged = { ...passOf('a', 1), token: 'guess' }
  await assert.rejects(nbdClient(t, server, 'disk0', forged), { reason: 'refused' })
  await assert.rejects(nbdClient(t, server, 'plain', passOf('a', 1)), { reason: 'refused' })
  const stranger = new ArbiterClient({
    address: server.addresses.arbiter,
    machine: 'web',
    replica: 'a',
    token: `${token}x`,
  })
  await assert.rejects(stranger.read(patienceMs), { reason: 'denied' })
})

test(
  'a grant waits for a write that a foreign server has not answered, and refuses what comes after',
  needs('nbdkit'),
  async (t) => {
    const folder = temporaryFolder()
    const image = makeImage(folder, 'foreign.img')
    const socket = join(folder, 'nbd')
    const slow = nbdkit(socket, '--filter=delay', 'file', image, 'wdelay=200ms')
    const foreign = await foreignServer(t, socket, '', slow)
    const server = await startTestServer(t, folder, { exports: [{ name: 'disk0', nbd: foreign.uri, machine: 'web' }] })
    const [primary, backup] = [arbiterClient(t, server, 'a'), arbiterClient(t, server, 'b')]
    assert.deepEqual(await primary.start(patienceMs), { granted: true, generation: 1 })
    assert.equal((await primary.setEligible(1, ['b'], patienceMs)).accepted, true)
    const sockets = serverSockets(t)
    const old = await nbdClient(t, server, 'disk0', passOf('a', 1))
    const write = old.write(0, Buffer.alloc(512, 0xee)).catch((error) => assert.ok(isLostOrFenced(error)))
    await hasReceived(sockets.at(-1)!, sockets.at(-1)!.bytesRead + 28 + 512)
    assert.deepEqual(await backup.testAndSet(1, patienceMs), { won: true, generation: 2 })
    assert.equal(readFileSync(image)[0], 0xee, 'the old write had landed before the answer')
    await write
    await assert.rejects(old.write(0, Buffer.alloc(512, 0xdd)), isLostOrFenced)
    const winner = await nbdClient(t, server, 'disk0', passOf('b', 2))
    await winner.write(0, Buffer.alloc(512, 0x22))
    assert.equal(readFileSync(image)[0], 0x22)
  },
)
