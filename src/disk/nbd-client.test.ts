import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { Prng } from '../base/prng.ts'
import { MiB } from '../base/units.ts'
import type { SocketAddress } from '../net/address.ts'
import { startDiskServer } from './disk-server.ts'
import { NbdClient } from './nbd-client.ts'
import { NbdErrno } from './nbd-wire.ts'
import {
  freeSocket,
  HeldStore,
  makeImage,
  nbdClient,
  patienceMs,
  startTestServer,
  temporaryFolder,
} from './test-disk.ts'

test('what is written is read back, and stands in the image file', async (t) => {
  const folder = temporaryFolder()
  const disk = await nbdClient(t, await startTestServer(t, folder), 'plain')
  assert.equal(disk.sizeBytes, MiB)
  assert.deepEqual(
    [disk.isReadOnly, disk.canFlush, disk.canFua, disk.canTrim, disk.canWriteZeroes, disk.canMultiConn],
    [false, true, true, true, true, true],
  )
  await disk.write(1000, Buffer.from('understudy'), { fua: true })
  assert.equal((await disk.read(1000, 10)).toString(), 'understudy')
  await disk.writeZeroes(1002, 4)
  await disk.flush()
  assert.equal((await disk.read(1000, 10)).toString(), 'un\0\0\0\0tudy')
  await disk.trim(4096, 4096)
  assert.equal(readFileSync(join(folder, 'plain.img')).toString('latin1', 1000, 1010), 'un\0\0\0\0tudy')
})

test('many requests in flight, in any order of completion, leave what a model leaves', async (t) => {
  const server = await startTestServer(t, temporaryFolder())
  const prng = new Prng(7)
  const clients = await Promise.all([nbdClient(t, server, 'plain'), nbdClient(t, server, 'plain')])
  const model = Buffer.alloc(MiB)
  await clients[0]!.writeZeroes(0, MiB)
  for (let round = 0; round < 5; round++) {
    // Within a round every request has a place of its own, so the order between them does not matter.
    const places = Array.from({ length: 60 }, (_, index) => index * 16_384)
    await Promise.all(
      places.map(async (place) => {
        const client = prng.pick(clients)
        const offset = place + prng.below(4096)
        const length = 1 + prng.below(12_000)
        if (prng.chance(0.2)) {
          model.fill(0, offset, offset + length)
          await client.writeZeroes(offset, length, { mayTrim: prng.chance(0.5) })
          return
        }
        const data = prng.bytes(length)
        model.set(data, offset)
        await client.write(offset, data, { fua: prng.chance(0.1) })
        assert.ok((await client.read(offset, length)).equals(data))
      }),
    )
  }
  assert.ok((await clients[1]!.read(0, MiB)).equals(model))
})

test('answers come as requests finish: a slow one does not hold up the others', async (t) => {
  const held: HeldStore[] = []
  const folder = temporaryFolder()
  const server = await startTestServer(t, folder, {
    wrapStore: (store, { name }) => {
      const wrapped = new HeldStore(store)
      if (name === 'plain') held.push(wrapped)
      return wrapped
    },
  })
  const disk = await nbdClient(t, server, 'plain')
  const gate = held[0]!.hold('flush')
  const flush = disk.flush()
  await gate.held
  assert.equal((await disk.read(512, 1))[0], 1)
  gate.release()
  await flush
})

test('a flush, and a write with FUA, are answered only after the store has flushed', async (t) => {
  let store: HeldStore | undefined
  const server = await startTestServer(t, temporaryFolder(), {
    wrapStore: (inner) => (store = new HeldStore(inner)),
  })
  t.after(() => store!.releaseAll())
  const disk = await nbdClient(t, server, 'plain')
  const requests = [
    () => disk.flush(),
    () => disk.write(0, Buffer.alloc(512), { fua: true }),
    () => disk.writeZeroes(0, 512, { fua: true }),
  ]
  for (const [index, request] of requests.entries()) {
    const { held, release } = store!.hold('flush')
    let isAnswered = false
    const answered = request().then(() => {
      isAnswered = true
    })
    await held
    await disk.read(0, 1)
    assert.equal(isAnswered, false)
    release()
    await answered
    assert.equal(store!.counts.flush, index + 1)
  }
  await disk.write(0, Buffer.alloc(512))
  assert.equal(store!.counts.flush, requests.length, 'a plain write waits for no flush')
})

test('a request that is out of range or too long fails alone', async (t) => {
  const server = await startTestServer(t, temporaryFolder())
  const disk = await nbdClient(t, server, 'plain')
  await assert.rejects(disk.read(MiB - 1, 2), { reason: 'io', errno: NbdErrno.invalid })
  await assert.rejects(disk.read(2 ** 52, 1), { reason: 'io', errno: NbdErrno.invalid })
  await assert.rejects(disk.write(MiB, Buffer.alloc(1)), { reason: 'io', errno: NbdErrno.noSpace })
  await assert.rejects(disk.writeZeroes(0, 2 ** 32 - 1), { reason: 'io', errno: NbdErrno.noSpace })
  await assert.rejects(disk.read(0, 64 * MiB), { reason: 'io', errno: NbdErrno.invalid })
  await assert.rejects(disk.read(-1, 1), { reason: 'io', errno: NbdErrno.invalid })
  assert.equal((await disk.read(512, 1))[0], 1)
})

test('the largest request goes through', async (t) => {
  const folder = temporaryFolder()
  const server = await startDiskServer({
    exports: [{ name: 'big', path: makeImage(folder, 'big.img', 32 * MiB) }],
    nbd: freeSocket(),
    arbiter: freeSocket(),
    recordFolder: join(folder, 'arbiter'),
    tokens: {},
  })
  t.after(() => server.close())
  const disk = await nbdClient(t, server, 'big')
  const data = Buffer.alloc(32 * MiB, 'understudy')
  await disk.write(0, data)
  assert.ok((await disk.read(0, 32 * MiB)).equals(data))
})

test('a lost connection fails every request in flight, and later ones', async (t) => {
  let store: HeldStore | undefined
  const server = await startTestServer(t, temporaryFolder(), {
    wrapStore: (inner) => (store = new HeldStore(inner)),
  })
  const disk = await nbdClient(t, server, 'plain')
  t.after(() => store!.releaseAll())
  const gate = store!.hold('write')
  const requests = [disk.write(0, Buffer.alloc(512)), disk.flush().then(() => disk.read(0, 1))]
  const lost = requests.map((request) => assert.rejects(request, { reason: 'connection-lost' }))
  await gate.held
  const closed = server.close()
  await lost[0]
  gate.release()
  await Promise.all([...lost, closed])
  await assert.rejects(disk.read(0, 1), { reason: 'connection-lost' })
  assert.equal((await disk.ended)?.reason, 'connection-lost')
})

test('a goodbye waits for the requests in flight', async (t) => {
  const server = await startTestServer(t, temporaryFolder())
  const disk = await nbdClient(t, server, 'plain')
  const requests = Array.from({ length: 100 }, (_, index) => disk.write(index * 512, Buffer.alloc(512, index)))
  await disk.close()
  await Promise.all(requests)
  assert.equal(await disk.ended, undefined)
})

test('no listener, no export, no NBD: each has its reason', async (t) => {
  const server = await startTestServer(t, temporaryFolder())
  await assert.rejects(nbdClient(t, server, 'nothing'), { reason: 'refused' })
  await server.close()
  await assert.rejects(nbdClient(t, server, 'plain'), { reason: 'unreachable' })
  const otherAt = freeSocket()
  const other = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')).listen(otherAt.address.path)
  t.after(() => other.close())
  await new Promise((resolve) => other.once('listening', resolve))
  await assert.rejects(NbdClient.connect({ ...otherAt, exportName: 'x' }), { reason: 'protocol' })
  const silentAt = freeSocket()
  const silent = createServer(() => {}).listen(silentAt.address.path)
  t.after(() => silent.close())
  await new Promise((resolve) => silent.once('listening', resolve))
  await assert.rejects(
    NbdClient.connect({
      ...silentAt,
      exportName: 'x',
      connectTimeoutMs: 30,
    }),
    { reason: 'unreachable' },
  )
})

const hasQemuNbd = spawnSync('qemu-nbd', ['--version']).error === undefined

test('the client works with a server nobody here wrote', {
  skip: hasQemuNbd ? false : 'qemu-nbd is not installed',
}, async (t) => {
  const folder = temporaryFolder()
  const image = makeImage(folder)
  const path = join(folder, 'qemu.sock')
  const child = spawn('qemu-nbd', ['-f', 'raw', '--persistent', '-x', 'disk0', '-k', path, image], { stdio: 'ignore' })
  t.after(() => child.kill('SIGKILL'))
  const address: SocketAddress = { path }
  const disk = await connectPatiently(address)
  assert.equal(disk.sizeBytes, MiB)
  assert.ok((await disk.read(0, MiB)).equals(readFileSync(image)))
  await Promise.all(
    Array.from({ length: 50 }, (_, index) => disk.write(index * 4096, Buffer.alloc(4096, index), { fua: index === 3 })),
  )
  await disk.writeZeroes(0, 8192)
  await disk.trim(MiB / 2, 65_536)
  await disk.flush()
  const data = await disk.read(0, 16_384)
  assert.deepEqual([data[0], data[8191], data[8192], data[12_288]], [0, 0, 2, 3])
  await assert.rejects(disk.read(MiB, 512), { reason: 'io' })
  await disk.close()
  await assert.rejects(NbdClient.connect({ address, exportName: 'other' }), { reason: 'refused' })
})

/** A process that was just spawned listens when it is ready. */
async function connectPatiently(address: SocketAddress): Promise<NbdClient> {
  for (let tries = 0; ; tries++) {
    try {
      return await NbdClient.connect({ address, exportName: 'disk0', connectTimeoutMs: patienceMs })
    } catch (error) {
      if (tries === 500) throw error
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}
