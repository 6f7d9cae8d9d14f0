/** The arbiter over real sockets: sessions, durability, and what a client makes of an arbiter that is gone. */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import type { SocketAddress } from '../net/address.ts'
import { Cable } from '../net/cable.ts'
import { Arbiter, type ArbiterSession } from './arbiter.ts'
import { ArbiterClient } from './arbiter-client.ts'
import { arbiterProtocolVersion } from './arbiter-messages.ts'
import type { ArbiterRecord } from './arbiter-record.ts'
import { FileRecordStorage, type RecordStorage } from './record-storage.ts'
import {
  arbiterClient,
  freeSocket,
  makeImage,
  nbdClient,
  passOf,
  patienceMs,
  rawSocket,
  startTestServer,
  temporaryFolder,
  token,
} from './test-disk.ts'

/** An arbiter with a clock of our own, on the records of one folder. */
function clockedArbiter(folder: string) {
  const clock = { nowMs: 0 }
  const arbiter = new Arbiter(new FileRecordStorage(folder), { web: token }, () => clock.nowMs)
  const session = (replica: string, held?: number): ArbiterSession => {
    const joined: ArbiterSession = { machine: 'web', replica, held, onFenced: () => {} }
    arbiter.join(joined)
    return joined
  }
  return { arbiter, clock, session }
}

test('right after its own start the arbiter awaits a holder that did not release: a start would cost a machine that runs', async () => {
  const folder = join(temporaryFolder(), 'records')
  const before = clockedArbiter(folder)
  await before.arbiter.ask(before.session('a'), { op: 'start' })
  const awaited = { granted: false, reason: 'holder-awaited', generation: 1, holder: 'a' }
  const connected = { ...awaited, reason: 'holder-connected' }

  const { arbiter, clock, session } = clockedArbiter(folder)
  const other = session('b')
  assert.deepEqual(await arbiter.ask(other, { op: 'start' }), awaited)
  clock.nowMs = 2999
  assert.deepEqual(await arbiter.ask(other, { op: 'start' }), awaited)
  const holder = session('a', 1)
  clock.nowMs = 60_000
  assert.deepEqual(await arbiter.ask(other, { op: 'start' }), connected)
  arbiter.leave(holder)
  assert.deepEqual(await arbiter.ask(other, { op: 'start' }), awaited, 'its connection broke: it may come back')
  clock.nowMs += 3000
  assert.deepEqual(
    await arbiter.ask(other, { op: 'start' }),
    { granted: true, generation: 2 },
    'start-up is automatic in the end',
  )
})

test('nobody is awaited after a release, nor when every process of the holder is known to have ended', async () => {
  const folder = join(temporaryFolder(), 'records')
  const first = clockedArbiter(folder)
  await first.arbiter.ask(first.session('a'), { op: 'start' })
  const second = clockedArbiter(folder)
  const starting = second.session('b')
  assert.deepEqual(await second.arbiter.ask(starting, { op: 'start', holderHasEnded: true }), {
    granted: true,
    generation: 2,
  })
  const stranger = second.session('c')
  assert.ok(
    !(await second.arbiter.ask(stranger, { op: 'start', holderHasEnded: true })).granted,
    'a living holder refutes who says that it has ended',
  )
  await second.arbiter.ask(starting, { op: 'release', generation: 2 })
  assert.deepEqual(await clockedArbiter(folder).arbiter.ask(stranger, { op: 'start' }), {
    granted: true,
    generation: 3,
  })
})

test('a backup that takes over waits for nobody', async () => {
  const folder = join(temporaryFolder(), 'records')
  const first = clockedArbiter(folder)
  const holder = first.session('a')
  await first.arbiter.ask(holder, { op: 'start' })
  await first.arbiter.ask(holder, { op: 'setEligible', generation: 1, eligible: ['b'] })
  const { arbiter, session } = clockedArbiter(folder)
  assert.deepEqual(await arbiter.ask(session('b'), { op: 'testAndSet', generation: 1 }), { won: true, generation: 2 })
})

test('the old holder is told before the new one has its answer', async () => {
  const { arbiter, session } = clockedArbiter(join(temporaryFolder(), 'records'))
  const told: unknown[] = []
  const holder: ArbiterSession = {
    machine: 'web',
    replica: 'a',
    held: undefined,
    onFenced: (notice) => told.push(notice),
  }
  arbiter.join(holder)
  await arbiter.ask(holder, { op: 'start' })
  await arbiter.ask(holder, { op: 'setEligible', generation: 1, eligible: ['b'] })
  assert.deepEqual(told, [])
  await arbiter.ask(session('b'), { op: 'testAndSet', generation: 1 })
  assert.deepEqual(told, [{ generation: 2, holder: 'b' }])
})

test('when the primary loses its session nothing happens by itself', async (t) => {
  const server = await startTestServer(t, temporaryFolder())
  const holder = arbiterClient(t, server, 'a')
  await holder.start(patienceMs)
  await holder.setEligible(1, ['b'], patienceMs)
  const disk = await nbdClient(t, server, 'disk0', passOf('a', 1))
  const other = arbiterClient(t, server, 'b')
  const before = await other.read(patienceMs)
  holder.close()
  await disk.write(0, Buffer.alloc(512, 1))
  assert.deepEqual(await other.read(patienceMs), before)
})

test('a winner that lost its reply asks again and is answered the same, by a new server too', async (t) => {
  const folder = temporaryFolder()
  const server = await startTestServer(t, folder)
  const holder = arbiterClient(t, server, 'a')
  await holder.start(patienceMs)
  await holder.setEligible(1, ['b', 'c'], patienceMs)
  const first = await arbiterClient(t, server, 'b').testAndSet(1, patienceMs)
  assert.deepEqual(await arbiterClient(t, server, 'b').testAndSet(1, patienceMs), first)
  await server.close()
  const reopened = await startTestServer(t, folder)
  assert.notEqual(reopened.bootId, server.bootId)
  assert.deepEqual(await arbiterClient(t, reopened, 'b').testAndSet(1, patienceMs), first)
  assert.equal((await arbiterClient(t, reopened, 'c').testAndSet(1, patienceMs)).won, false)
})

test('a server killed between record and answer has granted: the retry is answered the same', async (t) => {
  const folder = temporaryFolder()
  // A server whose disk never finishes a write: a grant drains for ever, so its record is durable and its answer is not sent.
  const script = `
    import { startDiskServer } from ${JSON.stringify(join(import.meta.dirname, 'disk-server.ts'))}
    const server = await startDiskServer({
      exports: [{ name: 'disk0', path: ${JSON.stringify(makeImage(folder))}, machine: 'web' }],
      nbd: ${JSON.stringify(freeSocket())},
      arbiter: ${JSON.stringify(freeSocket())},
      recordFolder: ${JSON.stringify(join(folder, 'arbiter'))},
      tokens: { web: ${JSON.stringify(token)} },
      wrapStore: (store) => new Proxy(store, {
        get: (target, key) => key === 'write' ? () => { console.log('held'); return new Promise(() => {}) }
          : typeof target[key] === 'function' ? target[key].bind(target) : target[key],
      }),
    })
    console.log(JSON.stringify(server.addresses))`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  const lines: AsyncIterator<string> = child.stdout.setEncoding('utf8')[Symbol.asyncIterator]()
  const addresses: { nbd: SocketAddress; arbiter: SocketAddress } = JSON.parse((await lines.next()).value)
  const victim = { addresses, bootId: '', close: async () => {} }
  const holder = arbiterClient(t, victim, 'a')
  await holder.start(patienceMs)
  await holder.setEligible(1, ['b', 'c'], patienceMs)
  const disk = await nbdClient(t, victim, 'disk0', passOf('a', 1))
  const lost = assert.rejects(disk.write(0, Buffer.alloc(512, 0xee)), { reason: 'connection-lost' })
  assert.match((await lines.next()).value, /held/)
  const asked = arbiterClient(t, victim, 'b').testAndSet(1, patienceMs)
  const unanswered = assert.rejects(asked, { reason: 'unreachable' })
  const witness = arbiterClient(t, victim, 'witness')
  while ((await witness.read(patienceMs)).generation === 1) await new Promise(setImmediate)
  const exited = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await Promise.all([unanswered, lost, exited])
  const reopened = await startTestServer(t, folder)
  assert.equal((await arbiterClient(t, reopened, 'c').testAndSet(1, patienceMs)).won, false)
  assert.deepEqual(await arbiterClient(t, reopened, 'b').testAndSet(1, patienceMs), { won: true, generation: 2 })
  await assert.rejects(nbdClient(t, reopened, 'disk0', passOf('a', 1)), { reason: 'fenced' })
})

test('the record is durable before the answer: when it cannot be stored, nothing is granted', async (t) => {
  const folder = temporaryFolder()
  const files = new FileRecordStorage(join(folder, 'records'))
  let isFull = false
  const recordStorage: RecordStorage = {
    load: (machine) => files.load(machine),
    save: (record: ArbiterRecord) => {
      if (isFull) throw new Error('no space left on device')
      files.save(record)
    },
  }
  const server = await startTestServer(t, folder, { recordStorage })
  const holder = arbiterClient(t, server, 'a')
  await holder.start(patienceMs)
  await holder.setEligible(1, ['b'], patienceMs)
  const disk = await nbdClient(t, server, 'disk0', passOf('a', 1))
  isFull = true
  const backup = arbiterClient(t, server, 'b')
  await assert.rejects(backup.testAndSet(1, patienceMs), { reason: 'storage' })
  assert.equal((await backup.read(patienceMs)).generation, 1)
  await disk.write(0, Buffer.alloc(512, 1))
  isFull = false
  assert.deepEqual(await backup.testAndSet(1, patienceMs), { won: true, generation: 2 })
})

test('an arbiter that is gone or silent is unreachable, and can be asked again', async (t) => {
  const silentAt = freeSocket()
  const silent = createServer(() => {}).listen(silentAt.address.path)
  t.after(() => silent.close())
  await new Promise((resolve) => silent.once('listening', resolve))
  const client = new ArbiterClient({ ...silentAt, machine: 'web', replica: 'b', token })
  t.after(() => client.close())
  await assert.rejects(client.testAndSet(1, 30), { reason: 'unreachable' })
  await assert.rejects(client.connect(30), { reason: 'unreachable' })

  const folder = temporaryFolder()
  const server = await startTestServer(t, folder)
  const lost = Promise.withResolvers<void>()
  const replica = arbiterClient(t, server, 'a', { onSessionLost: lost.resolve })
  const { bootId, record } = await replica.connect(patienceMs)
  assert.equal(bootId, server.bootId)
  assert.equal(record.generation, 0)
  await server.close()
  await lost.promise
  await assert.rejects(replica.read(patienceMs), { reason: 'unreachable' })
  await startTestServer(t, folder, { arbiter: { address: server.addresses.arbiter } })
  assert.equal((await replica.read(patienceMs)).generation, 0)
})

test('a malformed request drops its connection and nobody else', async (t) => {
  const server = await startTestServer(t, temporaryFolder())
  const good = arbiterClient(t, server, 'a')
  await good.start(patienceMs)
  const hello = `{"id":1,"op":"hello","version":${arbiterProtocolVersion},"machine":"web","replica":"b","token":"${token}"}\n`
  const attacks = [
    'hello\n',
    '{}\n',
    '[1,2\n',
    '{"id":1,"op":"read"}\n',
    '{"op":"ping"}\n',
    '{"id":1,"op":"hello","version":9,"machine":"web","replica":"b","token":"x"}\n',
    `{"id":1,"op":"hello","version":${arbiterProtocolVersion},"machine":"__proto__","replica":"b","token":"x"}\n`,
    `{"id":1,"op":"hello","version":${arbiterProtocolVersion},"machine":"../x","replica":"b","token":"x"}\n`,
    'x'.repeat(100_000),
    Buffer.alloc(70_000),
    `${hello}{"id":2,"op":"testAndSet","generation":-1}\n`,
    `${hello}{"id":2,"op":"testAndSet","generation":1e300}\n`,
    `${hello}{"id":2,"op":"testAndSet","generation":1,"replica":"a"}\n`,
    `${hello}{"id":2,"op":"setEligible","generation":1,"eligible":${JSON.stringify(Array(17).fill('b'))}}\n`,
  ]
  for (const attack of attacks) {
    const socket = await rawSocket(t, server.addresses.arbiter)
    socket.resume()
    const closed = new Promise((resolve) => socket.once('close', resolve))
    socket.write(attack)
    await closed
  }
  assert.equal((await good.read(patienceMs)).generation, 1)
})

test('a ping is answered over the session that is open, and opens none', async (t) => {
  const server = await startTestServer(t, temporaryFolder())
  const replica = arbiterClient(t, server, 'a')
  replica.ping(() => assert.fail('without a session nobody is asked'))
  await replica.connect(patienceMs)
  for (let round = 0; round < 10; round++) await new Promise<void>((resolve) => replica.ping(resolve))
  assert.equal((await replica.read(patienceMs)).generation, 0)
})

test('a session that leaves four pings without an answer is given up for another one', async (t) => {
  const server = await startTestServer(t, temporaryFolder())
  const lost = Promise.withResolvers<void>()
  const cable = new Cable()
  const replica = arbiterClient(t, server, 'a', { cable, onSessionLost: lost.resolve })
  await replica.connect(patienceMs)
  cable.loseAnswers()
  for (let round = 0; round < 5; round++) replica.ping(() => assert.fail('answers are not heard'))
  await lost.promise
  await replica.connect(patienceMs)
  await new Promise<void>((resolve) => replica.ping(resolve))
})
