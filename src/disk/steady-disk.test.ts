/**
 * A disk whose server crashes, and loses what was not flushed, at any moment: to the caller nothing has happened. The
 * server here is a toy without sockets, so that every order of answers, cuts and crashes can be tried; with real sockets
 * and processes: lossy-disk.test.ts, test/system/lossy-disk.system.ts.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { NbdError } from './nbd-error.ts'
import { type DiskConnection, SteadyDisk } from './steady-disk.ts'
import { type DiskWork, overlap } from './steady-requests.ts'
import { type DiskChange, lengthOf } from './unflushed-writes.ts'

/** Bytes of the toy disk; a change is of a few of them. */
const sizeBytes = 12

function apply(contents: Uint8Array, change: DiskChange): void {
  if (change.operation === 'write') contents.set(change.data, change.offset)
  else contents.fill(0, change.offset, change.offset + lengthOf(change))
}

interface InExecution {
  readonly work: DiskWork
  readonly begun: number
  readonly settle: (error: NbdError | undefined, data: Buffer) => void
}

/** Executes what it is told to, when it is told to; keeps in memory what no flush has made durable. */
class ToyServer {
  durable = new Uint8Array(sizeBytes)
  /** Whether requests are refused with an error of the disk. */
  isBroken = false
  readonly executing: InExecution[] = []
  #volatile: DiskChange[] = []
  #boot = 1
  #connections = 0
  #end: (error: NbdError) => void = () => {}
  #isUp = true
  #comesUp = Promise.withResolvers<void>()
  #applied = 0

  get contents(): Uint8Array {
    const contents = this.durable.slice()
    for (const change of this.#volatile) apply(contents, change)
    return contents
  }

  async connect(): Promise<DiskConnection> {
    if (!this.#isUp) await this.#comesUp.promise
    const connection = ++this.#connections
    const ended = Promise.withResolvers<NbdError>()
    this.#end = ended.resolve
    const ask = (work: DiskWork): Promise<Buffer> => {
      if (connection !== this.#connections || !this.#isUp) {
        return Promise.reject(new NbdError('connection-lost', 'the toy is gone'))
      }
      return new Promise((resolve, reject) => {
        const settle = (error: NbdError | undefined, data: Buffer): void => (error ? reject(error) : resolve(data))
        this.executing.push({ work, begun: this.#applied, settle })
      })
    }
    const noAnswer = async (answer: Promise<Buffer>): Promise<void> => void (await answer)
    return {
      description: `understudy boot ${this.#boot}`,
      ended: ended.promise,
      canFlush: true,
      canTrim: true,
      canWriteZeroes: true,
      read: (offset, lengthBytes) => ask({ operation: 'read', offset, lengthBytes }),
      write: (offset, data) => noAnswer(ask({ operation: 'write', offset, data })),
      flush: () => noAnswer(ask({ operation: 'flush' })),
      trim: (offset, lengthBytes) => noAnswer(ask({ operation: 'trim', offset, lengthBytes })),
      writeZeroes: (offset, lengthBytes) => noAnswer(ask({ operation: 'writeZeroes', offset, lengthBytes })),
      close: async () => {},
      destroy: () => {},
    }
  }

  /** Carries out one of the requests in execution, and answers it. */
  finish(index: number): void {
    const [request] = this.executing.splice(index, 1)
    if (!request) return
    const { work, begun, settle } = request
    if (this.isBroken) {
      settle(new NbdError('io', 'the toy is broken', 5), Buffer.alloc(0))
      return
    }
    let data = Buffer.alloc(0)
    if (work.operation === 'read') {
      data = Buffer.from(this.contents.subarray(work.offset, work.offset + work.lengthBytes))
    } else if (work.operation === 'flush') {
      // Of what came while it ran, nothing: the strictest reading of the standard.
      this.#makeDurable(begun)
    } else {
      this.#volatile.push(work)
      this.#applied++
    }
    settle(undefined, data)
  }

  #makeDurable(end: number): void {
    const first = this.#applied - this.#volatile.length
    for (const change of this.#volatile.splice(0, Math.max(0, end - first))) apply(this.durable, change)
  }

  /** The connection breaks; what was in execution is done or not. */
  cut(isDone: () => boolean): void {
    this.#connections++
    this.#end(new NbdError('connection-lost', 'cut'))
    for (const { work, settle } of this.executing.splice(0)) {
      if (isDone() && work.operation !== 'read' && work.operation !== 'flush') {
        this.#volatile.push(work)
        this.#applied++
      }
      settle(new NbdError('connection-lost', 'cut'), Buffer.alloc(0))
    }
  }

  /** The host crashes: of what was not flushed, some survives. */
  crash(survives: () => boolean): void {
    this.cut(survives)
    for (const change of this.#volatile) if (survives()) apply(this.durable, change)
    this.#volatile = []
    this.#isUp = false
  }

  comeUp(): void {
    if (this.#isUp) return
    this.#boot++
    this.#isUp = true
    this.#comesUp.resolve()
    this.#comesUp = Promise.withResolvers()
  }
}

/**
 * Lets everything that can go on go on. Timers of one length fire in the order they were set in, so a second timer,
 * set when the first has fired, fires behind one that the disk set in between (it waits before it connects again).
 */
async function settle(): Promise<void> {
  for (let timer = 0; timer < 2; timer++) {
    await new Promise((resolve) => setTimeout(resolve, 0))
    await new Promise(setImmediate)
  }
}

function steadyDisk(server: ToyServer, bootIdOf = (text: string): string | undefined => text): SteadyDisk {
  const disk = new SteadyDisk({
    bootIdOf,
    onFenced: (error) => assert.fail(error.message),
    trace: () => {},
    reconnectIntervalMs: 0,
  })
  void disk.connect(() => server.connect())
  return disk
}

const someRange = fc.tuple(fc.nat(sizeBytes - 1), fc.integer({ min: 1, max: 4 })).map(([offset, length]) => {
  return { offset, lengthBytes: Math.min(length, sizeBytes - offset) }
})
const someStep = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('write' as const), range: someRange, byte: fc.nat(255) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom('writeZeroes' as const, 'trim' as const), range: someRange }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('read' as const), range: someRange }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('flush' as const) }) },
  { weight: 10, arbitrary: fc.record({ kind: fc.constant('finish' as const), index: fc.nat(5) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cut' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('crash' as const) }) },
)

/** Plays the caller: keeps requests that overlap in order, and knows what the disk must hold. */
class Caller {
  readonly disk: SteadyDisk
  readonly #server: ToyServer
  /** What the disk must hold once everything issued is answered. */
  readonly #contents = new Uint8Array(sizeBytes)
  readonly #inFlight = new Set<DiskWork>()
  /** How often each byte was changed, by requests issued. */
  readonly #versions = new Uint32Array(sizeBytes)

  constructor(server: ToyServer) {
    this.#server = server
    this.disk = steadyDisk(server)
  }

  get inFlight(): number {
    return this.#inFlight.size
  }

  async issue(work: DiskWork): Promise<void> {
    if (work.operation === 'flush') return await this.#flush(work)
    const asChange = work.operation === 'read' ? ({ ...work, operation: 'trim' } as const) : work
    for (const other of this.#inFlight) {
      if (other.operation === 'flush') continue
      const otherAsChange = other.operation === 'read' ? ({ ...other, operation: 'trim' } as const) : other
      if (overlap(otherAsChange, asChange)) return
    }
    this.#inFlight.add(work)
    if (work.operation === 'read') {
      const expected = this.#contents.slice(work.offset, work.offset + work.lengthBytes)
      assert.deepEqual(new Uint8Array((await this.disk.request(work))!), expected)
    } else {
      apply(this.#contents, work)
      for (let at = work.offset; at < work.offset + lengthOf(work); at++) this.#versions[at]!++
      await this.disk.request(work)
    }
    this.#inFlight.delete(work)
  }

  /** Everything completed before it is durable when it is answered. */
  async #flush(work: DiskWork): Promise<void> {
    const expected = this.#contents.slice()
    const versions = this.#versions.slice()
    const unsure = [...this.#inFlight]
    this.#inFlight.add(work)
    await this.disk.request(work)
    this.#inFlight.delete(work)
    for (let at = 0; at < sizeBytes; at++) {
      const isUnsure = unsure.some(
        (other) => other.operation !== 'flush' && other.offset <= at && at < other.offset + rangeLength(other),
      )
      if (isUnsure || versions[at] !== this.#versions[at]) continue
      assert.equal(this.#server.durable[at], expected[at], `byte ${at} is durable when the flush is answered`)
    }
  }

  check(): void {
    assert.deepEqual(new Uint8Array(this.#server.contents), this.#contents)
  }
}

function rangeLength(work: Exclude<DiskWork, { operation: 'flush' }>): number {
  return work.operation === 'read' ? work.lengthBytes : lengthOf(work)
}

async function finishAll(server: ToyServer, caller: Caller): Promise<void> {
  server.comeUp()
  await settle()
  while (caller.inFlight > 0) {
    server.finish(0)
    await settle()
  }
}

test('whatever crashes, cuts and late answers come, the disk is as if none had, and a flush is true', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(someStep, { maxLength: 50 }), fc.infiniteStream(fc.boolean()), async (steps, coin) => {
      const flip = (): boolean => coin.next().value
      const server = new ToyServer()
      const caller = new Caller(server)
      await settle()
      const failures: unknown[] = []
      const issue = (work: DiskWork): void => void caller.issue(work).catch((error) => failures.push(error))
      for (const step of steps) {
        switch (step.kind) {
          case 'write':
            issue({
              operation: 'write',
              offset: step.range.offset,
              data: new Uint8Array(step.range.lengthBytes).fill(step.byte),
            })
            break
          case 'writeZeroes':
          case 'trim':
          case 'read':
            issue({ operation: step.kind, ...step.range })
            break
          case 'flush':
            issue({ operation: 'flush' })
            break
          case 'finish':
            server.comeUp()
            server.finish(step.index % Math.max(1, server.executing.length))
            break
          case 'cut':
            server.cut(flip)
            break
          case 'crash':
            server.crash(flip)
        }
        await settle()
        if (failures.length > 0) throw failures[0]
      }
      await finishAll(server, caller)
      caller.check()
      server.crash(() => false)
      const flushed = caller.issue({ operation: 'flush' })
      await finishAll(server, caller)
      await flushed
      server.crash(() => false)
      caller.check()
      if (failures.length > 0) throw failures[0]
    }),
    { numRuns: 150, seed: 2026 },
  )
})

test('a server that comes back in the same boot has lost nothing: only what waits is issued again', async () => {
  const server = new ToyServer()
  const disk = steadyDisk(server)
  await settle()
  await carriedOut(server, disk, { operation: 'write', offset: 0, data: Uint8Array.of(1) })
  void disk.request({ operation: 'read', offset: 4, lengthBytes: 1 })
  server.cut(() => false)
  await settle()
  assert.deepEqual(
    server.executing.map(({ work }) => work.operation),
    ['read'],
  )
  assert.equal(disk.unflushed.count, 1, 'and the write is still kept')
})

test('a server that does not name its boot may have lost something whenever the connection was cut', async () => {
  const server = new ToyServer()
  const disk = steadyDisk(server, () => undefined)
  await settle()
  await carriedOut(server, disk, { operation: 'write', offset: 0, data: Uint8Array.of(1) })
  server.cut(() => false)
  await settle()
  assert.deepEqual(
    server.executing.map(({ work }) => work.operation),
    ['write'],
  )
})

test('what waits for a disk out of reach fails when nobody waits any longer', async () => {
  const server = new ToyServer()
  const disk = steadyDisk(server)
  await settle()
  server.crash(() => false)
  await settle()
  const waiting = assert.rejects(disk.request({ operation: 'flush' }), { reason: 'connection-lost' })
  disk.giveUp()
  await waiting
})

test('nothing is sent to a new boot before all that is kept is written again, in order where ranges overlap', async () => {
  const server = new ToyServer()
  const disk = steadyDisk(server)
  await settle()
  for (const change of [
    { operation: 'write', offset: 0, data: Uint8Array.of(1, 1, 1) },
    { operation: 'trim', offset: 2, lengthBytes: 3 },
    { operation: 'write', offset: 8, data: Uint8Array.of(9) },
  ] as const) {
    await carriedOut(server, disk, change)
  }
  void disk.request({ operation: 'read', offset: 0, lengthBytes: 1 })
  server.crash(() => false)
  server.comeUp()
  await settle()
  const offsets = (): unknown[] => server.executing.map(({ work }) => 'offset' in work && [work.operation, work.offset])
  assert.deepEqual(offsets(), [['write', 0]])
  server.finish(0)
  await settle()
  assert.deepEqual(offsets(), [
    ['trim', 2],
    ['write', 8],
  ])
  server.finish(1)
  await settle()
  assert.deepEqual(offsets(), [['trim', 2]])
  server.finish(0)
  await settle()
  assert.deepEqual(offsets(), [['read', 0]])
})

test('a change that the disk took once and refuses when it comes again makes the next flush fail, once', async () => {
  const server = new ToyServer()
  const disk = steadyDisk(server)
  await settle()
  await carriedOut(server, disk, { operation: 'write', offset: 0, data: Uint8Array.of(1) })
  server.crash(() => false)
  server.comeUp()
  await settle()
  server.isBroken = true
  server.finish(0)
  await settle()
  server.isBroken = false
  const flushed = assert.rejects(disk.request({ operation: 'flush' }), { reason: 'io' })
  server.finish(0)
  await flushed
  await settle()
  const again = disk.request({ operation: 'flush' })
  await finishInOrder(server)
  await again
  assert.equal(server.durable[0], 1, 'it was written again, and this time taken')
})

test("the disk's own error is an answer, and what a failed flush was to cover is written again before the next", async () => {
  const server = new ToyServer()
  const disk = steadyDisk(server)
  await settle()
  await carriedOut(server, disk, { operation: 'write', offset: 0, data: Uint8Array.of(1) })
  server.isBroken = true
  const refused = assert.rejects(disk.request({ operation: 'write', offset: 1, data: Uint8Array.of(1) }), {
    reason: 'io',
  })
  server.finish(0)
  await refused
  assert.equal(disk.unflushed.count, 1)
  const flushed = assert.rejects(disk.request({ operation: 'flush' }), { reason: 'io' })
  server.finish(0)
  await flushed
  assert.equal(disk.unflushed.count, 1)
  server.isBroken = false
  const again = disk.request({ operation: 'flush' })
  await settle()
  assert.deepEqual(
    server.executing.map(({ work }) => work.operation),
    ['write'],
  )
  await finishInOrder(server)
  await again
  assert.equal(disk.unflushed.count, 0)
})

test('what the disk refuses when it comes again is read as it was written, and not as the older change that the disk kept', async () => {
  const server = new ToyServer()
  const disk = steadyDisk(server)
  await settle()
  for (const [offset, bytes] of [
    [1, [1]],
    [0, [2, 2]],
  ] as const) {
    await carriedOut(server, disk, { operation: 'write', offset, data: Uint8Array.from(bytes) })
  }
  let kept = 0
  server.crash(() => kept++ === 0)
  server.comeUp()
  await settle()
  server.isBroken = true
  server.finish(0)
  server.isBroken = false
  await settle()
  const read = disk.request({ operation: 'read', offset: 0, lengthBytes: 3 })
  await finishInOrder(server)
  assert.deepEqual([...server.contents.subarray(0, 3)], [0, 1, 0])
  assert.deepEqual([...(await read)!], [2, 2, 0])
})

/** Asks, and has the server do and answer it, which has nothing else to do. */
async function carriedOut(server: ToyServer, disk: SteadyDisk, work: DiskWork): Promise<void> {
  const answered = disk.request(work)
  server.finish(0)
  await answered
}

async function finishInOrder(server: ToyServer): Promise<void> {
  for (await settle(); server.executing.length > 0; await settle()) server.finish(0)
}

/** Writes one byte, then a flush of our own fails. */
async function writtenAndNotSecured(server: ToyServer): Promise<SteadyDisk> {
  const disk = steadyDisk(server)
  await settle()
  await carriedOut(server, disk, { operation: 'write', offset: 3, data: Uint8Array.of(7) })
  server.isBroken = true
  const secured = assert.rejects(disk.secure(), { reason: 'io' })
  server.finish(0)
  await secured
  server.isBroken = false
  await settle()
  return disk
}

test('a flush of our own that fails forgets nothing: the guest, which did not hear of it, finds what it wrote after a crash', async () => {
  const server = new ToyServer()
  const disk = await writtenAndNotSecured(server)
  server.crash(() => false)
  server.comeUp()
  await finishInOrder(server)
  assert.equal(server.contents[3], 7)
  const flushed = disk.request({ operation: 'flush' })
  server.finish(0)
  await flushed
  assert.equal(server.durable[3], 7)
  assert.equal(disk.unflushed.count, 0)
})

test('after a flush of our own that failed, what the disk may have lost with the error is written again before the next one', async () => {
  const server = new ToyServer()
  const disk = await writtenAndNotSecured(server)
  let isSecured = false
  const secured = disk.secure().then(() => (isSecured = true))
  await settle()
  assert.deepEqual(
    server.executing.map(({ work }) => work.operation),
    ['write'],
  )
  server.finish(0)
  await settle()
  assert.equal(isSecured, false)
  server.finish(0)
  await secured
  assert.equal(server.durable[3], 7)
})

test('a flush whose answer was lost may have failed: what it was to cover is written again before it is asked for again', async () => {
  const server = new ToyServer()
  const disk = steadyDisk(server)
  await settle()
  await carriedOut(server, disk, { operation: 'write', offset: 3, data: Uint8Array.of(7) })
  const flushed = disk.request({ operation: 'flush' })
  server.cut(() => true)
  await settle()
  const operations = (): unknown[] => server.executing.map(({ work }) => work.operation)
  assert.deepEqual(operations(), ['write'])
  server.finish(0)
  await settle()
  assert.deepEqual(operations(), ['flush'])
  server.finish(0)
  await flushed
})

test('a change that is refused when it comes again fails our own flushes, until a flush of the guest has failed', async () => {
  const server = new ToyServer()
  const disk = await writtenAndNotSecured(server)
  server.isBroken = true
  server.finish(0)
  await settle()
  server.isBroken = false
  const flushes = [disk.secure(), disk.secure(), disk.request({ operation: 'flush' })]
  const failed = Promise.all(flushes.map((flush) => assert.rejects(flush, { reason: 'io' })))
  await finishInOrder(server)
  await failed
  const secured = disk.secure()
  await finishInOrder(server)
  await secured
})
