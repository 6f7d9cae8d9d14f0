/** Disks that are not shared: what a replica does with its own copy, as backup and live, and how copies become equal. */

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Prng } from '../base/prng.ts'
import { MiB } from '../base/units.ts'
import { ArbiterRecord } from '../disk/arbiter-record.ts'
import { changePieceBytes } from '../disk/change-map.ts'
import {
  arbiterClient,
  makeImage,
  nbdClient,
  passOf,
  patienceMs,
  startTestServer,
  temporaryFolder,
  token,
} from '../disk/test-disk.ts'
import { type DiskRequest, logIndex } from '../log/entry.ts'
import type { Endpoint } from '../net/address.ts'
import { CopyStamp } from './copy-stamp.ts'
import { failingStores, flush, newBackend, read, replayed, until, write } from './disk-backend.test-support.ts'
import { DiskCopy } from './disk-copy.ts'

const pass = (replica: string) => ({ machine: 'web', replica, token, generation: 0 })

/** A server with the copies of a and b, and the backend of replica b. */
async function ownCopies(t: TestContext, hasOther = true, sizeBytes = MiB) {
  const folder = temporaryFolder()
  const images = { a: makeImage(folder, 'a.img', sizeBytes), b: makeImage(folder, 'b.img', sizeBytes) }
  const { stores, wrapStore } = failingStores(t)
  const server = await startTestServer(t, folder, {
    exports: [
      { name: 'disk0-a', path: images.a, machine: 'web', owner: 'a' },
      { name: 'disk0-b', path: images.b, machine: 'web', owner: 'b' },
    ],
    wrapStore,
  })
  const failures: Error[] = []
  const { backend, answers } = newBackend(t, server, {
    exports: ['disk0-b'],
    replica: 'b',
    own: { disks: new Set([0]), hasOther: () => hasOther, onFailed: (error) => failures.push(error) },
  })
  const endpoint = { address: server.addresses.nbd }
  return { server, endpoint, folder, images, store: stores[1]!, backend, answers, failures }
}

async function openCopy(t: TestContext, endpoint: Endpoint): Promise<DiskCopy> {
  const copy = await DiskCopy.open({ endpoint, exportName: 'disk0-a' }, { endpoint, exportName: 'disk0-b' }, pass('b'))
  t.after(() => copy.close())
  return copy
}

test('a backup makes the changes of its machine on its own copy, and answers nothing', async (t) => {
  const { backend, images, answers, server, store } = await ownCopies(t)
  await arbiterClient(t, server, 'a').start(patienceMs)
  backend.begin()
  backend.onReplayed([replayed(write(1n, 3n, 0xaa)), replayed(read(2n, 3n)), replayed(flush(3n))], [])
  await until(() => store.counts.flush === 1)
  assert.equal(readFileSync(images.b)[3 * 512], 0xaa)
  assert.deepEqual(answers, [], "the log has the primary's answers")
  assert.equal(readFileSync(images.a)[3 * 512], 3, "a's copy is a's")
})

test('own changes that overlap are made in the order of the log, although the log has answered the first already', async (t) => {
  const { backend, images, store } = await ownCopies(t)
  const { held, release } = store.hold('write')
  backend.begin()
  backend.onReplayed([replayed(write(1n, 5n, 0x11))], [])
  await held
  const answer = { index: logIndex(2n), sequence: 1n, status: 'ok', isOwnRead: false } as const
  backend.onReplayed([replayed(write(3n, 5n, 0x22)), replayed(write(4n, 9n, 0x99))], [answer])
  await until(() => readFileSync(images.b)[9 * 512] === 0x99)
  assert.equal(store.counts.write, 2, 'the second one waits for the first, and a third goes past both')
  release()
  await until(() => readFileSync(images.b)[5 * 512] === 0x22)
})

test('a flush of the guest covers on each copy what the guest takes for written', async (t) => {
  const { backend, store } = await ownCopies(t)
  const { held, release } = store.hold('write')
  backend.begin()
  backend.onReplayed([replayed(write(1n, 5n, 0x11)), replayed(flush(2n))], [])
  await held
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.equal(store.counts.flush, 0)
  release()
  await until(() => store.counts.flush === 1)
})

test('a replica that goes live has its turn after what it followed, and is told when that is on stable storage', async (t) => {
  const { backend, images, answers, store } = await ownCopies(t)
  const { held, release } = store.hold('write')
  backend.begin()
  backend.onReplayed([replayed(write(1n, 5n, 0x11))], [])
  await held
  let isLive = false
  const live = backend.connect(2n).then(() => {
    isLive = true
  })
  backend.issue(write(1n, 5n, 0x11))
  backend.issue(write(2n, 7n, 0x77))
  await until(() => answers.length === 1)
  assert.deepEqual([answers[0]!.sequence, isLive], [2n, false])
  release()
  await live
  await until(() => answers.length === 2)
  assert.equal(readFileSync(images.b)[5 * 512], 0x11)
  assert.ok(store.counts.flush > 0)
})

test('a copy that fails removes its side: a backup says so at once', async (t) => {
  const { backend, store, failures } = await ownCopies(t)
  backend.begin()
  store.failures.write = Infinity
  backend.onReplayed([replayed(write(1n, 5n, 0x11))], [])
  await until(() => failures.length === 1)
})

test('a copy that fails removes its side: a live replica with a backup answers nothing, one without answers the error', async (t) => {
  for (const operation of ['write', 'read'] as const) {
    const { backend, store, failures, answers } = await ownCopies(t, true)
    await backend.connect(1n)
    store.failures[operation] = Infinity
    backend.issue(operation === 'write' ? write(1n, 5n, 0x11) : read(1n, 5n))
    await until(() => failures.length === 1)
    assert.deepEqual(answers, [])
    const alone = await ownCopies(t, false)
    await alone.backend.connect(1n)
    alone.store.failures[operation] = Infinity
    alone.backend.issue(operation === 'write' ? write(1n, 5n, 0x11) : read(1n, 5n))
    await until(() => alone.answers.length === 1)
    assert.deepEqual([alone.answers[0]!.status, alone.failures.length], ['ioError', 0])
  }
})

test('a change that the primary could not make, and told its guest of, removes the copy on which it was made', async (t) => {
  const { backend, failures } = await ownCopies(t)
  backend.begin()
  const answer = (sequence: bigint, status: 'ok' | 'ioError') => {
    return { index: logIndex(sequence + 10n), sequence, status, isOwnRead: false } as const
  }
  backend.onReplayed([replayed(write(1n, 5n, 0x11)), replayed(read(2n, 5n)), replayed(flush(3n))], [answer(1n, 'ok')])
  backend.onReplayed([], [answer(2n, 'ioError'), answer(3n, 'ioError')])
  assert.equal(failures.length, 0, 'neither a read nor a flush makes copies differ')
  backend.onReplayed([replayed(write(4n, 5n, 0x22))], [answer(4n, 'ioError')])
  assert.match(failures[0]!.message, /the copies differ/)
})

test('a copy that cannot be made safe at go-live removes its side, if another one is good', async (t) => {
  const { backend, store, failures } = await ownCopies(t)
  backend.begin()
  backend.onReplayed([replayed(write(1n, 5n, 0x11))], [])
  store.failures.flush = Infinity
  void backend.connect(2n)
  await until(() => failures.length === 1)
})

test('a copy that cannot be made safe at go-live, with no other one, goes on, writes again, and is safe when it can be', async (t) => {
  const { backend, store, failures, answers } = await ownCopies(t, false)
  backend.begin()
  backend.onReplayed([replayed(write(1n, 5n, 0x11))], [])
  await until(() => store.counts.write === 1)
  store.failures.flush = Infinity
  let isSafe = false
  const connecting = backend.connect(2n).then(() => {
    isSafe = true
  })
  backend.issue(flush(2n))
  await until(() => answers.length === 1)
  assert.deepEqual([answers[0]!.status, isSafe, failures.length], ['ioError', false, 0])
  store.failures.flush = 0
  backend.issue(flush(3n))
  await until(() => answers.length === 2)
  assert.equal(answers[1]!.status, 'ok')
  assert.ok(store.counts.write > 1, 'what the disk gave up is written again')
  await connecting
})

test("a replica's own copy is written by that replica alone, whoever holds the machine", async (t) => {
  const { server } = await ownCopies(t)
  const arbiter = arbiterClient(t, server, 'a')
  await arbiter.start(patienceMs)
  const own = await nbdClient(t, server, 'disk0-b', pass('b'))
  await own.write(0, Buffer.alloc(512, 1))
  await assert.rejects(nbdClient(t, server, 'disk0-b', passOf('a', 1)), {
    reason: 'refused',
    message: /own copy of replica b/,
  })
  await assert.rejects(nbdClient(t, server, 'disk0-b', { ...pass('b'), token: 'guess' }), { reason: 'refused' })
  assert.equal((await nbdClient(t, server, 'disk0-b')).isReadOnly, true)
  await arbiter.release(1, patienceMs)
  assert.equal((await nbdClient(t, server, 'disk0-b')).isReadOnly, true, 'a tool would change one copy of two')
  const newer = await nbdClient(t, server, 'disk0-b', pass('b'))
  await assert.rejects(own.write(0, Buffer.alloc(512, 2)), { reason: 'connection-lost' })
  await newer.write(0, Buffer.alloc(512, 3))
})

test('the first round makes the copies equal, writes only what differs, and is durable', async (t) => {
  const { endpoint, images, store } = await ownCopies(t, true, 4 * MiB)
  const copy = await openCopy(t, endpoint)
  const good = Buffer.from(readFileSync(images.a))
  const own = Buffer.from(good)
  for (const offset of [0, MiB + 17, 4 * MiB - 1]) own[offset]! ^= 1
  writeFileSync(images.b, own)
  assert.deepEqual(await copy.round(), { comparedBytes: 4 * MiB, changedBytes: 3 * changePieceBytes })
  assert.ok(readFileSync(images.b).equals(good))
  assert.ok(store.counts.flush > 0)
  assert.deepEqual(await copy.round(), { comparedBytes: 0, changedBytes: 0 })
})

test('a later round copies what has changed since the one before, whatever changed it', async (t) => {
  const { endpoint, images, server } = await ownCopies(t, true, 4 * MiB)
  const copy = await openCopy(t, endpoint)
  await copy.round()
  const primary = await nbdClient(t, server, 'disk0-a', pass('a'))
  await primary.write(changePieceBytes - 1, Buffer.from([0xaa, 0xbb]))
  await primary.writeZeroes(2 * MiB, 512)
  await primary.trim(3 * MiB, 4096)
  assert.equal((await copy.round()).comparedBytes, 4 * changePieceBytes)
  assert.ok(readFileSync(images.b).equals(readFileSync(images.a)))
  await assert.rejects(primary.write(4 * MiB, Buffer.alloc(512)), { reason: 'io' })
  assert.equal((await copy.round()).comparedBytes, 0)
})

test('a disk that is copied while it is written to: with the last round and the changes since, both copies are equal', async (t) => {
  const { endpoint, images, server, backend } = await ownCopies(t, true, 4 * MiB)
  const prng = new Prng(20_261_122n)
  const primary = await nbdClient(t, server, 'disk0-a', pass('a'))
  let sequence = 0n
  const randomWrite = (): DiskRequest => write(sequence++, BigInt(prng.below((4 * MiB) / 512)), prng.below(256))
  const perform = (request: DiskRequest): Promise<void> => primary.write(Number(request.sector) * 512, request.data!)
  const copy = await openCopy(t, endpoint)
  let isWriting = true
  const writer = (async () => {
    while (isWriting) await Promise.all(Array.from({ length: 8 }, () => perform(randomWrite())))
  })()
  await copy.begin(() => {})
  isWriting = false
  await writer
  // The moment of the state: these are under way, and the state names them …
  const underWay = Array.from({ length: 3 }, randomWrite)
  const done = underWay.map(perform)
  backend.follow(underWay)
  // … and what comes after it both sides do, the backup when its last round is over.
  const later = Array.from({ length: 200 }, randomWrite)
  const onPrimary = (async () => {
    await Promise.all(done)
    for (const request of later) await perform(request)
  })()
  backend.onReplayed(later.map(replayed), [])
  await copy.round()
  await copy.close()
  backend.begin()
  await onPrimary
  await backend.connect(1n)
  assert.ok(readFileSync(images.b).equals(readFileSync(images.a)))
})

test('a copy of another size is an error that says so', async (t) => {
  const folder = temporaryFolder()
  const server = await startTestServer(t, folder, {
    exports: [
      { name: 'disk0-a', path: makeImage(folder, 'a.img', 4096), machine: 'web', owner: 'a' },
      { name: 'disk0-b', path: makeImage(folder, 'b.img', 8192), machine: 'web', owner: 'b' },
    ],
  })
  const copied = openCopy(t, { address: server.addresses.nbd })
  await assert.rejects(copied, { message: /disk0-b.*has 8192 bytes, and the primary's has 4096/ })
})

test('a machine is started from copies that were live in its last hold, or from new ones, and from no others', () => {
  const path = join(temporaryFolder(), 'b.copies')
  const stamp = new CopyStamp(path)
  const first = ArbiterRecord.fresh('web').start('a').next.openGeneration('a', 1, ['b']).next
  const taken = first.testAndSet('b', 2).next
  assert.equal(stamp.read(), undefined)
  stamp.requireNewest(taken.fields, 'b')
  stamp.write({ state: 'live', generation: 1 })
  assert.deepEqual(new CopyStamp(path).read(), { version: 1, state: 'live', generation: 1 })
  stamp.requireNewest(first.fields, 'b')
  stamp.requireNewest(first.release('a', 2).next.fields, 'b')
  assert.throws(() => stamp.requireNewest(taken.fields, 'b'), {
    code: 'copy-outdated',
    exitCode: 4,
    message: /remove .*b\.copies/,
  })
  stamp.write({ state: 'live', generation: 3 })
  stamp.requireNewest(taken.fields, 'b')
  stamp.requireNewest(taken.openGeneration('b', 3, ['a']).next.fields, 'b')
  stamp.write({ state: 'follows' })
  assert.throws(() => stamp.requireNewest(ArbiterRecord.fresh('web').fields, 'b'), { code: 'copy-outdated' }, 'b')
  // b took over, and died with a before its stamp.
  assert.throws(() => stamp.requireNewest(taken.fields, 'b'), {
    code: 'copy-incomplete',
    exitCode: 4,
    message: /took web over in generation 3.* Start the machine where it was live before, after removing/,
  })
  writeFileSync(path, '{"version":1,"state":"li')
  assert.throws(() => stamp.read(), { code: 'copy-stamp-damaged', exitCode: 78 })
})
