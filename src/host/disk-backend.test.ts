import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Prng } from '../base/prng.ts'
import type { DiskServer, DiskServerOptions } from '../disk/disk-server.ts'
import { LossyStore } from '../disk/lossy-store.test-support.ts'
import { arbiterClient, makeImage, patienceMs, startTestServer, temporaryFolder } from '../disk/test-disk.ts'
import type { DiskAnswer as DiskAnswerEntry } from '../hypervisor/replayer.ts'
import { type DiskRequest, logIndex, type MarkedOutput } from '../log/entry.ts'
import type { DiskAnswer } from '../replica/disk-requests.ts'
import { failingStores, flush, newBackend, read, until, write } from './disk-backend.test-support.ts'
import type { DiskBackend } from './disk-backend.ts'

/** A server whose disk0 can be held, and a replica that holds its machine. */
async function heldDisk(t: TestContext) {
  const folder = temporaryFolder()
  const { stores, wrapStore } = failingStores(t)
  const start = (changes: Partial<DiskServerOptions> = {}): Promise<DiskServer> =>
    startTestServer(t, folder, { wrapStore, ...changes })
  const server = await start()
  const granted = await arbiterClient(t, server, 'a').start(patienceMs)
  assert.ok(granted.granted)
  const { backend, answers } = newBackend(t, server)
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

/** Feeds a backup with a log: each line is one entry, a request's marker or an answer to one. */
function follow(backend: DiskBackend, log: readonly (DiskRequest | { answer: bigint; status?: 'ioError' })[]): void {
  const outputs: MarkedOutput[] = []
  const answers: DiskAnswerEntry[] = []
  log.forEach((entry, at) => {
    const index = logIndex(BigInt(at))
    if ('answer' in entry)
      answers.push({ index, sequence: entry.answer, status: entry.status ?? 'ok', isOwnRead: false })
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
  const { backend } = newBackend(t, server)
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

test('after every prefix of its requests the host of the disk may crash, and the replica fail over: the disk is whole', async (t) => {
  const folder = temporaryFolder()
  const path = makeImage(folder)
  const contents = readFileSync(path)
  const prng = new Prng(2026)
  let lossy: LossyStore
  const start = (changes: Partial<DiskServerOptions>): Promise<DiskServer> =>
    startTestServer(t, folder, {
      exports: [{ name: 'disk0', path, machine: 'web' }],
      wrapStore: (store) => (lossy = new LossyStore(store, readFileSync(path))),
      ...changes,
    })
  let server = await start({})
  const endpoints = { nbd: { address: server.addresses.nbd }, arbiter: { address: server.addresses.arbiter } }
  const arbiter = arbiterClient(t, server, 'a')
  const granted = await arbiter.start(patienceMs)
  assert.ok(granted.granted)

  const answers = new Map<bigint, DiskAnswer>()
  const onAnswer = (answer: DiskAnswer) => answers.set(answer.sequence, answer)
  const open = (): DiskBackend => newBackend(t, server, { onAnswer }).backend
  let primary = open()
  let backup = open()
  await primary.connect(BigInt(granted.generation))

  let sequence = 0n
  let logged: (DiskRequest | { answer: bigint })[] = []
  const carryOut = async (request: DiskRequest): Promise<DiskAnswer> => {
    primary.issue(request)
    await until(() => answers.has(request.sequence))
    if (request.operation !== 'read') logged.push(request, { answer: request.sequence })
    return answers.get(request.sequence)!
  }
  const change = async (): Promise<void> => {
    const [sector, sectors] = [prng.below(40), 1 + prng.below(6)]
    const lengthBytes = sectors * 512
    const base = { kind: 'disk', sequence: sequence++, disk: 0, sector: BigInt(sector), lengthBytes } as const
    const kind = prng.below(6)
    if (kind === 0) await carryOut(flush(base.sequence))
    else if (kind === 1) {
      await carryOut({ ...base, operation: prng.chance(0.5) ? 'writeZeroes' : 'discard' })
      contents.fill(0, sector * 512, sector * 512 + lengthBytes)
    } else {
      const data = prng.bytes(lengthBytes)
      await carryOut({ ...base, operation: 'write', data })
      contents.set(data, sector * 512)
    }
  }
  for (let round = 0; round < 40; round++) {
    for (let changes = prng.below(4); changes >= 0; changes--) await change()
    await lossy!.crash(prng)
    await server.close()
    if (round % 4 === 3) {
      primary.drop()
      follow(backup, logged)
      primary = backup
      void primary.connect(BigInt(granted.generation))
      backup = open()
      // The next one follows from here: all that is kept now is in the log it has seen, or durable after this.
      logged = []
    }
    server = await start(endpoints)
    const all = { kind: 'disk', sequence: sequence++, disk: 0, operation: 'read', sector: 0n } as const
    const read = await carryOut({ ...all, lengthBytes: 64 * 512 })
    assert.ok(Buffer.from(read.data!).equals(contents.subarray(0, 64 * 512)), `round ${round}`)
    if (logged.length === 0) await carryOut(flush(sequence++))
  }
})
