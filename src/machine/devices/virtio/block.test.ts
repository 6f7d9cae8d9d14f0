import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ByteReader, ByteWriter } from '../../../base/bytes.ts'
import { MiB } from '../../../base/units.ts'
import { GuestMemory } from '../../guest-memory.ts'
import { Outbox } from '../../outbox.ts'
import { FakeEngine } from '../../test-support/fake-engine.ts'
import { type DriverQueue, GuestHeap, VirtioDriver } from '../../test-support/virtio-driver.ts'
import type { DiskConfig, Output } from '../../types.ts'
import { VirtioBlock } from './block.ts'

const type = { read: 0, write: 1, flush: 4, identify: 8, discard: 11, writeZeroes: 13 }

function header(kind: number, sector: number): Uint8Array {
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, kind, true)
  view.setBigUint64(8, BigInt(sector), true)
  return bytes
}

function disk(config: Partial<DiskConfig> = {}, size = 64) {
  const engine = new FakeEngine({ ramBytes: 4 * MiB, bus: { load: () => undefined, store: () => false } })
  const heap = new GuestHeap(engine)
  const outbox = new Outbox()
  let line = false
  const memory = new GuestMemory(engine)
  const whole = { sectors: 2048n, readOnly: false, serial: 'disk-1', ...config }
  const device = new VirtioBlock({ memory, line: (level) => (line = level) }, whole, 0, outbox)
  const driver = new VirtioDriver(device, heap)
  const [queue] = driver.start([size]) as [DriverQueue]

  const add = (kind: number, sector: number, readable: number[][], writable: number[][], indirect = false) => {
    const status = heap.place(Uint8Array.of(0xff))
    const head = queue.chain(
      [[heap.place(header(kind, sector)), 16], ...readable],
      [...writable, [status, 1]],
      indirect,
    )
    queue.offer(head)
    return { head, status: () => heap.bytes(status, 1)[0] }
  }
  const outputs = () => outbox.take() as Extract<Output, { kind: 'disk' }>[]
  return { engine, heap, device, driver, queue, add, outputs, interrupt: () => line }
}

test('a read enters guest memory only when the answer of the disk is applied', () => {
  const { heap, device, queue, add, outputs, interrupt } = disk()
  const before = new Uint8Array(1024).fill(0xaa)
  const buffer = heap.place(before)
  const request = add(type.read, 5, [], [[buffer, 1024]])
  queue.notify()
  const [output] = outputs()
  assert.deepEqual(output, { kind: 'disk', sequence: 0n, disk: 0, operation: 'read', sector: 5n, lengthBytes: 1024 })
  assert.equal(queue.usedIndex, 0)
  assert.equal(request.status(), 0xff)
  assert.equal(interrupt(), false)
  assert.deepEqual(heap.bytes(buffer, 1024), before)

  const data = Uint8Array.from({ length: 1024 }, (_, index) => index % 251)
  device.onAnswer(0n, 'ok', data)
  assert.deepEqual(heap.bytes(buffer, 1024), data)
  assert.equal(request.status(), 0)
  assert.deepEqual(queue.takeUsed(), [{ head: request.head, writtenBytes: 1025 }])
  assert.equal(interrupt(), true)
})

test('the data of a write is copied out at the notify: later stores to the buffer do not change it', () => {
  const { engine, heap, device, queue, add, outputs } = disk()
  const buffer = heap.place(new Uint8Array(512).fill(7))
  const request = add(type.write, 9, [[buffer, 512]], [])
  queue.notify()
  engine.storeBytes(buffer, new Uint8Array(512).fill(8))
  const [output] = outputs()
  assert.deepEqual(output?.data, new Uint8Array(512).fill(7))
  assert.deepEqual(device.inFlight(), [output])
  device.onAnswer(0n, 'ok', undefined)
  assert.equal(request.status(), 0)
  assert.deepEqual(device.inFlight(), [])
})

test('indirect chains and parts of odd sizes read the same request', () => {
  const { heap, queue, add, outputs } = disk()
  const data = Uint8Array.from({ length: 1024 }, (_, index) => index % 13)
  const whole = heap.place(data)
  add(
    type.write,
    0,
    [
      [whole, 1],
      [whole + 1, 700],
      [whole + 701, 323],
    ],
    [],
    true,
  )
  queue.notify()
  assert.deepEqual(outputs()[0]?.data, data)
})

test('an error of the disk reaches the driver as a status, and leaves the buffer alone', () => {
  const { heap, device, queue, add, outputs } = disk()
  const buffer = heap.place(new Uint8Array(512).fill(3))
  const request = add(type.read, 0, [], [[buffer, 512]])
  queue.notify()
  outputs()
  device.onAnswer(0n, 'ioError', undefined)
  assert.equal(request.status(), 1)
  assert.deepEqual(heap.bytes(buffer, 512), new Uint8Array(512).fill(3))
})

test('requests outside the disk, of odd length, or unknown are answered at once and never reach the disk', () => {
  const { heap, queue, add, outputs } = disk({ sectors: 8n })
  const buffer = heap.allocate(4096)
  const wrong = [
    add(type.read, 8, [], [[buffer, 512]]),
    add(type.read, 7, [], [[buffer, 1024]]),
    add(type.read, 0, [], [[buffer, 500]]),
    add(type.write, 8, [[buffer, 512]], []),
  ]
  const unknown = add(77, 0, [], [])
  queue.notify()
  assert.deepEqual(outputs(), [])
  for (const request of wrong) assert.equal(request.status(), 1)
  assert.equal(unknown.status(), 2)
  assert.equal(queue.takeUsed().length, 5)
})

test('a read-only disk refuses writes and answers a flush by itself', () => {
  const { heap, queue, add, outputs } = disk({ readOnly: true })
  const write = add(type.write, 0, [[heap.allocate(512), 512]], [])
  const flush = add(type.flush, 0, [], [])
  queue.notify()
  assert.deepEqual(outputs(), [])
  assert.equal(write.status(), 1)
  assert.equal(flush.status(), 0)
})

test('the serial is answered without the disk', () => {
  const { heap, queue, add } = disk({ serial: 'root' })
  const buffer = heap.allocate(20)
  add(type.identify, 0, [], [[buffer, 20]])
  queue.notify()
  assert.equal(new TextDecoder().decode(heap.bytes(buffer, 20)).replaceAll('\0', ''), 'root')
})

test('discard and write-zeroes name their range', () => {
  const { heap, queue, add, outputs } = disk()
  const range = (sector: number, sectors: number) => {
    const bytes = new Uint8Array(16)
    new DataView(bytes.buffer).setBigUint64(0, BigInt(sector), true)
    new DataView(bytes.buffer).setUint32(8, sectors, true)
    return heap.place(bytes)
  }
  add(type.discard, 0, [[range(16, 8), 16]], [])
  add(type.writeZeroes, 0, [[range(100, 2), 16]], [])
  const outside = add(type.discard, 0, [[range(2047, 2), 16]], [])
  queue.notify()
  assert.deepEqual(
    outputs().map(({ operation, sector, lengthBytes }) => [operation, sector, lengthBytes]),
    [
      ['discard', 16n, 4096],
      ['writeZeroes', 100n, 1024],
    ],
  )
  assert.equal(outside.status(), 1)
})

test('requests that overlap in sectors, one of them a write, go to the disk one after the other', () => {
  const { heap, device, queue, add, outputs } = disk()
  const first = heap.place(new Uint8Array(1024).fill(1))
  const second = heap.place(new Uint8Array(512).fill(2))
  add(type.write, 10, [[first, 1024]], [])
  add(type.write, 11, [[second, 512]], [])
  add(type.read, 11, [], [[heap.allocate(512), 512]])
  add(type.read, 12, [], [[heap.allocate(512), 512]])
  queue.notify()
  assert.deepEqual(
    outputs().map(({ operation, sector }) => [operation, sector]),
    [
      ['write', 10n],
      ['read', 12n],
    ],
  )
  device.onAnswer(0n, 'ok', undefined)
  assert.deepEqual(
    outputs().map(({ operation, sector, sequence }) => [operation, sector, sequence]),
    [['write', 11n, 2n]],
  )
  device.onAnswer(2n, 'ok', undefined)
  assert.deepEqual(
    outputs().map(({ operation, sector }) => [operation, sector]),
    [['read', 11n]],
  )
})

test('reads into the same guest memory go to the disk one after the other', () => {
  const { heap, device, queue, add, outputs } = disk()
  const buffer = heap.allocate(1024)
  add(type.read, 0, [], [[buffer, 1024]])
  add(type.read, 100, [], [[buffer + 512, 512]])
  queue.notify()
  assert.equal(outputs().length, 1)
  device.onAnswer(0n, 'ok', new Uint8Array(1024).fill(1))
  assert.equal(outputs().length, 1)
  device.onAnswer(1n, 'ok', new Uint8Array(512).fill(2))
  assert.equal(heap.bytes(buffer + 512, 1)[0], 2)
})

test('after a reset, the answer to an older request touches nothing, yet orders newer requests until it comes', () => {
  const { heap, device, driver, queue, add, outputs } = disk()
  const buffer = heap.place(new Uint8Array(512).fill(5))
  const request = add(type.read, 3, [], [[buffer, 512]])
  add(type.write, 3, [[buffer, 512]], []) // held behind the read
  queue.notify()
  assert.equal(outputs().length, 1)
  const [next] = driver.start([64]) as [DriverQueue]
  const status = heap.place(Uint8Array.of(0xff))
  next.offer(
    next.chain(
      [
        [heap.place(header(type.write, 3)), 16],
        [buffer, 512],
      ],
      [[status, 1]],
    ),
  )
  next.notify()
  assert.deepEqual(outputs(), [], 'the new write waits for the old read')
  device.onAnswer(0n, 'ok', new Uint8Array(512).fill(9))
  assert.deepEqual(heap.bytes(buffer, 512), new Uint8Array(512).fill(5))
  assert.equal(request.status(), 0xff)
  assert.equal(next.usedIndex, 0)
  const started = outputs()
  assert.deepEqual(
    started.map(({ operation, sequence }) => [operation, sequence]),
    [['write', 1n]],
  )
  device.onAnswer(1n, 'ok', undefined)
  assert.equal(heap.bytes(status, 1)[0], 0)
})

test('a queue that the driver takes away is not written to any more', () => {
  const { device, driver, heap, queue, add, outputs } = disk()
  add(type.read, 3, [], [[heap.allocate(512), 512]])
  queue.notify()
  outputs()
  driver.setRegister(0x30, 0)
  driver.setRegister(0x44, 0)
  device.onAnswer(0n, 'ok', new Uint8Array(512))
  assert.equal(queue.usedIndex, 0)
  assert.equal(driver.needsReset, false)
})

test('bounce buffers are bounded: requests beyond 32 MiB stay in the ring until answers come', () => {
  const { engine, heap, device, queue, outputs } = disk({ sectors: 1n << 30n }, 64)
  // Each write gathers the same 1 MiB four times.
  const data = heap.allocate(MiB)
  assert.ok(engine.ramBytes >= 4 * MiB)
  const status = heap.place(new Uint8Array(12).fill(0xff))
  for (let index = 0; index < 12; index++) {
    const start = heap.place(header(type.write, index * 10_000))
    const parts = Array.from({ length: 4 }, () => [data, MiB])
    queue.offer(queue.chain([[start, 16], ...parts], [[status + index, 1]], true))
  }
  queue.notify()
  assert.equal(outputs().length, 8)
  device.onAnswer(0n, 'ok', undefined)
  assert.equal(outputs().length, 1)
})

/** A disk whose driver writes 4 MiB at a time, each time elsewhere. */
function busyDisk() {
  const parts = disk({ sectors: 1n << 30n })
  const { heap, queue, add, device, outputs } = parts
  const data = heap.allocate(MiB)
  let writes = 0
  /** Writes, and hands on what goes to the disk. */
  const write = () => {
    const segments = Array.from({ length: 4 }, () => [data, MiB])
    const request = add(type.write, writes++ * 10_000, segments, [], true)
    queue.notify()
    return { ...request, outputs: outputs() }
  }
  const writeAndAnswer = () => {
    const written = write()
    device.onAnswer(written.outputs[0]!.sequence, 'ok', undefined)
    return outputs()
  }
  return { ...parts, write, writeAndAnswer }
}

const operationsOf = (outputs: readonly { operation: string }[]) => outputs.map(({ operation }) => operation)

test('after 32 MiB without a flush the device flushes by itself, once, and the driver sees nothing of it', () => {
  const { device, queue, writeAndAnswer, interrupt, driver } = busyDisk()
  for (let written = 1; written < 8; written++) assert.deepEqual(writeAndAnswer(), [])
  const [flush, ...others] = writeAndAnswer()
  assert.deepEqual([flush?.operation, others.length], ['flush', 0])
  assert.deepEqual(writeAndAnswer(), [], 'one at a time')
  queue.takeUsed()
  driver.acknowledgeInterrupts()
  device.onAnswer(flush!.sequence, 'ok', undefined)
  assert.deepEqual(queue.takeUsed(), [])
  assert.equal(interrupt(), false)
  for (let written = 2; written < 8; written++) assert.deepEqual(writeAndAnswer(), [], 'it covered what came before it')
  assert.deepEqual(operationsOf(writeAndAnswer()), ['flush'])
})

test('at 64 MiB without a flush writes are held, reads and flushes are not, until the disk has answered', () => {
  const { heap, device, queue, add, write, writeAndAnswer, outputs } = busyDisk()
  let own: bigint | undefined
  for (let written = 0; written < 16; written++) for (const { sequence } of writeAndAnswer()) own = sequence
  const held = write()
  assert.deepEqual(held.outputs, [])
  add(type.read, 900_000, [], [[heap.allocate(512), 512]])
  add(type.flush, 0, [], [])
  queue.notify()
  assert.deepEqual(operationsOf(outputs()), ['read', 'flush'])
  device.onAnswer(own!, 'ok', undefined)
  assert.deepEqual(operationsOf(outputs()), ['flush', 'write'], '32 MiB came after it: so the next one follows')
})

test("the driver's own flushes count: a disk that is flushed in time is left alone", () => {
  const { device, queue, add, writeAndAnswer, outputs } = busyDisk()
  for (let written = 0; written < 20; written++) {
    assert.deepEqual(writeAndAnswer(), [])
    if (written % 5 !== 4) continue
    add(type.flush, 0, [], [])
    queue.notify()
    device.onAnswer(outputs()[0]!.sequence, 'ok', undefined)
    assert.deepEqual(outputs(), [])
  }
})

test("a failed flush of the device's own is told to the driver at its next flush, and only there", () => {
  const { device, queue, add, writeAndAnswer, outputs } = busyDisk()
  let own: bigint | undefined
  for (let written = 0; written < 8; written++) for (const { sequence } of writeAndAnswer()) own = sequence
  device.onAnswer(own!, 'ioError', undefined)
  assert.deepEqual(outputs(), [])
  for (const expected of [1, 0]) {
    const flush = add(type.flush, 0, [], [])
    queue.notify()
    device.onAnswer(outputs()[0]!.sequence, 'ok', undefined)
    assert.equal(flush.status(), expected)
  }
})

test('what is unflushed survives a reset of the device, and a snapshot', () => {
  const original = busyDisk()
  for (let written = 0; written < 7; written++) original.writeAndAnswer()
  const copy = busyDisk()
  const writer = new ByteWriter()
  original.device.saveState(writer)
  copy.device.loadState(new ByteReader(writer.finish()))
  const again = new ByteWriter()
  copy.device.saveState(again)
  assert.deepEqual(again.finish(), writer.finish())

  const [next] = original.driver.start([64]) as [DriverQueue]
  const status = original.heap.place(Uint8Array.of(0xff))
  const data = original.heap.allocate(MiB)
  const segments = Array.from({ length: 4 }, (): [number, number] => [data, MiB])
  const start = original.heap.place(header(type.write, 0))
  next.offer(next.chain([[start, 16], ...segments], [[status, 1]], true))
  next.notify()
  const [write] = original.outputs()
  original.device.onAnswer(write!.sequence, 'ok', undefined)
  assert.deepEqual(operationsOf(original.outputs()), ['flush'])
})

test('interrupts follow the event index the driver wrote, and its flag without event indexes', () => {
  const withEvents = disk()
  withEvents.queue.usedEvent = 1
  for (const sector of [0, 8]) withEvents.add(type.read, sector, [], [[withEvents.heap.allocate(512), 512]])
  withEvents.queue.notify()
  withEvents.outputs()
  withEvents.device.onAnswer(0n, 'ok', new Uint8Array(512))
  assert.equal(withEvents.interrupt(), false, 'the driver asked for an interrupt at the second completion')
  withEvents.device.onAnswer(1n, 'ok', new Uint8Array(512))
  assert.equal(withEvents.interrupt(), true)
  withEvents.driver.acknowledgeInterrupts()
  assert.equal(withEvents.interrupt(), false)

  const plain = disk()
  const [queue] = plain.driver.start([8], 1n << 29n) as [DriverQueue]
  queue.flags = 1
  const flush = plain.heap.place(header(type.flush, 0))
  const status = plain.heap.allocate(1)
  for (const suppressed of [1, 0]) {
    queue.flags = suppressed
    queue.offer(queue.chain([[flush, 16]], [[status, 1]]))
    queue.notify()
    const [output] = plain.outputs()
    plain.device.onAnswer(output!.sequence, 'ok', undefined)
    assert.equal(plain.interrupt(), suppressed === 0)
  }
})

test('a driver that does not accept VERSION_1, or accepts what was not offered, does not get FEATURES_OK', () => {
  const { driver } = disk()
  assert.equal(driver.negotiate(1n << 9n), false)
  assert.equal(driver.negotiate((1n << 32n) | (1n << 34n)), false)
  assert.equal(driver.negotiate(1n << 32n), true)
})

test('state saved in the middle of requests goes on identically elsewhere', () => {
  const original = disk()
  const buffer = original.heap.place(new Uint8Array(512).fill(4))
  original.add(type.write, 3, [[buffer, 512]], [])
  const read = original.add(type.read, 3, [], [[buffer, 512]])
  original.queue.notify()
  original.outputs()
  const writer = new ByteWriter()
  original.device.saveState(writer)

  const copy = disk()
  copy.outputs()
  copy.engine.ram.set(original.engine.ram)
  copy.device.loadState(new ByteReader(writer.finish()))
  assert.deepEqual(copy.device.inFlight(), original.device.inFlight())
  for (const machine of [original, copy]) {
    machine.device.onAnswer(0n, 'ok', undefined)
    const [output] = machine.outputs()
    assert.equal(output?.operation, 'read')
    machine.device.onAnswer(output!.sequence, 'ok', new Uint8Array(512).fill(6))
  }
  assert.deepEqual(copy.engine.ram, original.engine.ram)
  assert.equal(read.status(), 0)
})
