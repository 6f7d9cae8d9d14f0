/**
 * VMware FT (2010): the rules of deterministic replay, of going live, and of disk and network I/O, each by its name in the
 * paper, on the machine's own parts.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MiB } from '../../../src/base/units.ts'
import { Recorder } from '../../../src/hypervisor/recorder.ts'
import { Replayer } from '../../../src/hypervisor/replayer.ts'
import { BatchBuilder, decodeBatch, type LogBatch } from '../../../src/log/batch.ts'
import { logIndex } from '../../../src/log/entry.ts'
import { VirtioBlock } from '../../../src/machine/devices/virtio/block.ts'
import { GuestMemory } from '../../../src/machine/guest-memory.ts'
import { Outbox } from '../../../src/machine/outbox.ts'
import { FakeEngine } from '../../../src/machine/test-support/fake-engine.ts'
import { type DriverQueue, GuestHeap, VirtioDriver } from '../../../src/machine/test-support/virtio-driver.ts'
import { type Input, instructionCount } from '../../../src/machine/types.ts'
import { ToyMachine, toyConfig, toyHabits } from '../../support/toy-machine.ts'

/** A recording of a toy machine that gets a key and a frame now and then. */
function record(turns: number): { readonly recorder: Recorder; readonly batches: LogBatch[] } {
  const recorder = new Recorder(new ToyMachine())
  const apply = (input: Input): void => void recorder.apply(input)
  apply({ kind: 'boot', rngSeed: new Uint8Array(64), wallClockNs: 0n })
  for (let turn = 0; turn < turns; turn++) {
    apply({ kind: 'clock', ticks: recorder.machine.ticks, ratePer2p32: 1n << 30n, capTicks: 50n })
    apply({ kind: 'frame', frameId: BigInt(turn + 1), bytes: Uint8Array.of(turn) })
    apply({ kind: 'consoleInput', bytes: Uint8Array.of(turn) })
    const until = instructionCount(recorder.machine.count + 60n)
    while (recorder.run(until).stop.kind === 'outputs');
    for (const { lengthBytes } of [...recorder.obligations.entropyRequests]) {
      apply({ kind: 'entropy', bytes: new Uint8Array(lengthBytes).fill(turn) })
    }
  }
  recorder.entryDigest()
  return { recorder, batches: recorder.takeBatches() }
}

function replay(batches: readonly LogBatch[], slice = 7n): Replayer {
  const replayer = new Replayer(new ToyMachine())
  for (const batch of batches) replayer.append(batch)
  for (;;) {
    const { state } = replayer.run(slice)
    assert.notEqual(state.kind, 'diverged')
    if (state.kind === 'needsEntries') return replayer
  }
}

test('Deterministic replay: the log has each input at the exact instruction where it was delivered, and replays to the same machine', () => {
  const { recorder, batches } = record(30)
  for (const slice of [1n, 13n, 1000n]) assert.equal(replay(batches, slice).machine.digest(), recorder.machine.digest())
})

test('Deterministic replay: an input one instruction later is another machine, and that is noticed', () => {
  const entries = record(30).batches.flatMap((batch) => decodeBatch(batch.bytes))
  const moved = entries.findIndex(({ count, body }, at) => {
    return at > 50 && body.kind === 'consoleInput' && (entries[at + 1]?.count ?? count) > count
  })
  assert.ok(moved > 0)
  const builder = new BatchBuilder(logIndex(0n))
  for (const [at, { count, body }] of entries.entries()) {
    builder.append(at === moved ? instructionCount(count + 1n) : count, body)
  }
  const replayer = new Replayer(new ToyMachine())
  replayer.append(builder.take()!.batch)
  assert.equal(replayer.run(1n << 40n).state.kind, 'diverged')
})

test('Output Rule: the operation that produces an output has a log entry of its own: the backup replays to the output point', () => {
  const { batches } = record(30)
  const markers = batches.flatMap((batch) => decodeBatch(batch.bytes)).filter(({ body }) => body.kind === 'marker')
  assert.ok(markers.length > 10)
  const replayer = new Replayer(new ToyMachine())
  for (const batch of batches) replayer.append(batch)
  const { outputs } = replayer.run(1n << 40n)
  assert.deepEqual(
    outputs.map(({ markerIndex }) => markerIndex),
    markers.map(({ index }) => index),
  )
})

test('Logging channel: with an empty log buffer the backup stops; it never runs past its log', () => {
  const { batches } = record(10)
  const replayer = replay(batches)
  const { count } = replayer.machine
  for (let attempt = 0; attempt < 10; attempt++) replayer.run(1n << 40n)
  assert.equal(replayer.machine.count, count)
})

test('Go live: disk I/Os with a start and no completion in the log are issued again, in their order', () => {
  const { recorder, batches } = record(60)
  const inFlight = recorder.machine.inFlightDiskRequests()
  assert.ok(inFlight.length > 1, `${inFlight.length} requests in flight`)
  const { reissue } = replay(batches).goLive()
  assert.deepEqual(
    reissue.map(({ output }) => output),
    inFlight,
  )
})

test('Randomness: every source goes through the hypervisor: what the guest asks for comes by a log entry', () => {
  const machine = new ToyMachine({ ...toyHabits, entropyEvery: 20 })
  const recorder = new Recorder(machine)
  recorder.apply({ kind: 'boot', rngSeed: new Uint8Array(64), wallClockNs: 0n })
  recorder.apply({ kind: 'clock', ticks: 0n, ratePer2p32: 1n << 30n, capTicks: 1000n })
  while (recorder.obligations.entropyRequests.length === 0) recorder.run(instructionCount(machine.count + 10n))
  const before = machine.digest()
  recorder.apply({ kind: 'entropy', bytes: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16) })
  assert.notEqual(machine.digest(), before)
  const kinds = recorder.takeBatches().flatMap((batch) => decodeBatch(batch.bytes).map(({ body }) => body.kind))
  assert.deepEqual([kinds[0], kinds.at(-1)], ['boot', 'entropy'])
})

test('Control operations: a press of the power button is a log entry, and both sides do it at the same instruction', () => {
  const { recorder } = record(5)
  recorder.apply({ kind: 'powerButton' })
  const entries = recorder.takeBatches().flatMap((batch) => decodeBatch(batch.bytes))
  assert.equal(entries.find(({ body }) => body.kind === 'powerButton')?.count, recorder.machine.count)
})

test('Network I/O: packets enter at recorded instructions, and a group of them is flushed as one batch', () => {
  const { recorder } = record(1)
  recorder.takeBatches()
  for (let id = 100n; id < 164n; id++) recorder.apply({ kind: 'frame', frameId: id, bytes: new Uint8Array(60) })
  const batches = recorder.takeBatches()
  assert.equal(batches.length, 1)
  const frames = decodeBatch(batches[0]!.bytes).filter(({ body }) => body.kind === 'frame')
  assert.equal(frames.length, 64)
  assert.ok(frames.every(({ count }) => count === recorder.machine.count))
})

const type = { read: 0, write: 1 }

/** A disk with a driver. */
function disk() {
  const engine = new FakeEngine({ ramBytes: 4 * MiB, bus: { load: () => undefined, store: () => false } })
  const heap = new GuestHeap(engine)
  const outbox = new Outbox()
  const parts = { memory: new GuestMemory(engine), line: () => {} }
  const device = new VirtioBlock(parts, toyConfig.disks[0]!, 0, outbox)
  const [queue] = new VirtioDriver(device, heap).start([64]) as [DriverQueue]
  const request = (kind: number, sector: number, buffer: number, lengthBytes: number): void => {
    const header = new Uint8Array(16)
    new DataView(header.buffer).setUint32(0, kind, true)
    new DataView(header.buffer).setBigUint64(8, BigInt(sector), true)
    const status = heap.place(Uint8Array.of(0xff))
    const data = [buffer, lengthBytes]
    const isRead = kind === type.read
    const readable = [[heap.place(header), 16], ...(isRead ? [] : [data])]
    queue.offer(queue.chain(readable, [...(isRead ? [data] : []), [status, 1]], false))
  }
  const started = () => outbox.take().flatMap((output) => (output.kind === 'disk' ? [output] : []))
  return { heap, device, queue, request, started }
}

test('Disk I/O: operations on the same sectors, one of them a write, are forced into one order', () => {
  const { heap, device, queue, request, started } = disk()
  request(type.write, 10, heap.place(new Uint8Array(1024).fill(1)), 1024)
  request(type.write, 11, heap.place(new Uint8Array(512).fill(2)), 512)
  queue.notify()
  assert.deepEqual(
    started().map(({ sector }) => sector),
    [10n],
  )
  device.onAnswer(0n, 'ok', undefined)
  assert.deepEqual(
    started().map(({ sector }) => sector),
    [11n],
  )
})

test('Disk I/O: operations on the same guest memory are forced into one order', () => {
  const { heap, device, queue, request, started } = disk()
  const buffer = heap.allocate(512)
  request(type.read, 1, buffer, 512)
  request(type.read, 2, buffer, 512)
  queue.notify()
  assert.deepEqual(
    started().map(({ sector }) => sector),
    [1n],
  )
  device.onAnswer(0n, 'ok', new Uint8Array(512).fill(1))
  assert.deepEqual(
    started().map(({ sector }) => sector),
    [2n],
  )
})

test('Disk I/O: bounce buffer: what was read enters guest memory only when its completion is delivered', () => {
  const { heap, device, queue, request } = disk()
  const buffer = heap.place(new Uint8Array(512).fill(0xaa))
  request(type.read, 5, buffer, 512)
  queue.notify()
  assert.deepEqual(heap.bytes(buffer, 512), new Uint8Array(512).fill(0xaa))
  device.onAnswer(0n, 'ok', new Uint8Array(512).fill(0x55))
  assert.deepEqual(heap.bytes(buffer, 512), new Uint8Array(512).fill(0x55))
})

test('Disk I/O: bounce buffer: what is written is copied out first: the guest may change its memory meanwhile', () => {
  const { heap, queue, request, started } = disk()
  const buffer = heap.place(new Uint8Array(512).fill(1))
  request(type.write, 5, buffer, 512)
  queue.notify()
  const [write] = started()
  heap.bytes(buffer, 512).fill(9)
  assert.deepEqual(new Uint8Array(write!.data!), new Uint8Array(512).fill(1))
})
