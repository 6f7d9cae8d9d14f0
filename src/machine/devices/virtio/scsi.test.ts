import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ByteReader, ByteWriter } from '../../../base/bytes.ts'
import { hash64 } from '../../../base/digest.ts'
import { Prng } from '../../../base/prng.ts'
import { MiB } from '../../../base/units.ts'
import { ramBase } from '../../../engine/types.ts'
import { GuestMemory } from '../../guest-memory.ts'
import { Outbox } from '../../outbox.ts'
import { FakeEngine } from '../../test-support/fake-engine.ts'
import { type DriverQueue, descriptorFlag, GuestHeap, VirtioDriver } from '../../test-support/virtio-driver.ts'
import type { DiskConfig, Output } from '../../types.ts'
import { VirtioScsi } from './scsi.ts'

const sizes = [8, 8, 64]

function header(command: readonly number[], lun: readonly number[] = [1, 0, 0x40, 0]): Uint8Array {
  const bytes = new Uint8Array(51)
  bytes.set(lun)
  bytes.set(command, 19)
  return bytes
}

/** READ (10) and WRITE (10). */
const move = (operation: 'read' | 'write', sector: number, sectors: number) => {
  const code = operation === 'read' ? 0x28 : 0x2a
  return [
    code,
    0,
    sector >>> 24,
    (sector >> 16) & 0xff,
    (sector >> 8) & 0xff,
    sector & 0xff,
    0,
    sectors >> 8,
    sectors & 0xff,
  ]
}
const synchronize = [0x35]

function disk(config: Partial<DiskConfig> = {}) {
  const engine = new FakeEngine({ ramBytes: 4 * MiB, bus: { load: () => undefined, store: () => false } })
  const heap = new GuestHeap(engine)
  const outbox = new Outbox()
  const whole: DiskConfig = { sectors: 2048n, readOnly: false, serial: 'disk-1', bus: 'scsi', ...config }
  const memory = new GuestMemory(engine)
  const device = new VirtioScsi({ memory, line: () => {} }, whole, 0, outbox)
  const driver = new VirtioDriver(device, heap)
  const [control, , queue] = driver.start(sizes) as [DriverQueue, DriverQueue, DriverQueue]

  const send = (command: readonly number[], readable: number[][] = [], writable: number[][] = [], lun?: number[]) => {
    const response = heap.place(new Uint8Array(108).fill(0xff))
    const head = queue.chain([[heap.place(header(command, lun)), 51], ...readable], [[response, 108], ...writable])
    queue.offer(head)
    queue.notify()
    return {
      head,
      answer: () => {
        const view = heap.view(response)
        const senseBytes = view.getUint32(0, true)
        const sense = heap.bytes(response + 12, senseBytes)
        return {
          response: view.getUint8(11),
          status: view.getUint8(10),
          residual: view.getUint32(4, true),
          ...(senseBytes > 0 ? { key: sense[2], code: sense[12] } : {}),
        }
      },
    }
  }
  /** A command that is answered with data. */
  const ask = (command: readonly number[], roomBytes = 255) => {
    const buffer = heap.place(new Uint8Array(roomBytes))
    const sent = send(command, [], [[buffer, roomBytes]])
    const answer = sent.answer()
    return { ...answer, bytes: heap.bytes(buffer, roomBytes - answer.residual) }
  }
  const outputs = () => outbox.take() as Extract<Output, { kind: 'disk' }>[]
  return { engine, heap, device, driver, control, queue, send, ask, outputs }
}

const good = { response: 0, status: 0, residual: 0 }

test('a read enters guest memory only when the answer of the disk is applied', () => {
  const { heap, device, queue, send, outputs } = disk()
  const buffer = heap.place(new Uint8Array(1024).fill(0xaa))
  const request = send(move('read', 5, 2), [], [[buffer, 1024]])
  assert.deepEqual(outputs(), [
    { kind: 'disk', sequence: 0n, disk: 0, operation: 'read', sector: 5n, lengthBytes: 1024 },
  ])
  assert.equal(queue.usedIndex, 0)
  assert.deepEqual(heap.bytes(buffer, 1024), new Uint8Array(1024).fill(0xaa))
  const data = Uint8Array.from({ length: 1024 }, (_, index) => index % 251)
  device.onAnswer(0n, 'ok', data)
  assert.deepEqual(heap.bytes(buffer, 1024), data)
  assert.deepEqual(request.answer(), good)
  assert.deepEqual(queue.takeUsed(), [{ head: request.head, writtenBytes: 108 + 1024 }])
})

test('the data of a write is copied out at the notify; a flush is a flush', () => {
  const { engine, heap, device, send, outputs } = disk()
  const buffer = heap.place(new Uint8Array(512).fill(7))
  const write = send(move('write', 9, 1), [[buffer, 512]])
  engine.storeBytes(buffer, new Uint8Array(512).fill(8))
  const flush = send(synchronize)
  const [first, second] = outputs()
  assert.deepEqual(first?.data, new Uint8Array(512).fill(7))
  assert.equal(second?.operation, 'flush')
  device.onAnswer(0n, 'ok', undefined)
  device.onAnswer(1n, 'ok', undefined)
  assert.deepEqual([write.answer(), flush.answer()], [good, good])
})

test('P7: an uncertain outcome reaches the driver as VIRTIO_SCSI_S_RESET, with no data moved: it repeats the command', () => {
  const { heap, device, send, outputs } = disk()
  const before = new Uint8Array(512).fill(0xaa)
  const buffer = heap.place(before)
  const sent = [
    send(move('read', 1, 1), [], [[buffer, 512]]),
    send(move('write', 2, 1), [[heap.allocate(512), 512]]),
    send(synchronize),
  ]
  for (const { sequence } of outputs()) device.onAnswer(sequence, 'uncertain', undefined)
  for (const request of sent) assert.deepEqual(request.answer(), { response: 4, status: 0, residual: 0 })
  assert.deepEqual(heap.bytes(buffer, 512), before)
  assert.deepEqual(device.inFlight(), [])
})

test('an error of the disk is a CHECK CONDITION: medium error', () => {
  const { heap, device, send, outputs } = disk()
  const read = send(move('read', 1, 1), [], [[heap.allocate(512), 512]])
  const write = send(move('write', 2, 1), [[heap.allocate(512), 512]])
  for (const { sequence } of outputs()) device.onAnswer(sequence, 'ioError', undefined)
  assert.deepEqual(read.answer(), { response: 0, status: 2, residual: 0, key: 3, code: 0x11 })
  assert.deepEqual(write.answer(), { response: 0, status: 2, residual: 0, key: 3, code: 0x0c })
})

test('commands outside the disk, of wrong length, to other units, or unknown never reach the disk', () => {
  const { heap, send, outputs } = disk({ sectors: 8n })
  const buffer = heap.allocate(4096)
  const illegal = { response: 0, status: 2, residual: 0, key: 5 }
  assert.deepEqual(send(move('read', 8, 1), [], [[buffer, 512]]).answer(), { ...illegal, code: 0x21 })
  assert.deepEqual(send(move('write', 7, 2), [[buffer, 1024]]).answer(), { ...illegal, code: 0x21 })
  assert.equal(send(move('read', 0, 2), [], [[buffer, 512]]).answer().response, 1, 'overrun')
  assert.equal(send(move('read', 0, 1), [[buffer, 512]], []).answer().response, 1, 'in the wrong direction')
  assert.deepEqual(send([0xff]).answer(), { ...illegal, code: 0x20 })
  for (const lun of [
    [1, 1, 0x40, 0],
    [1, 0, 0x40, 1],
    [0, 0, 0, 0],
  ]) {
    assert.equal(send(move('read', 0, 1), [], [[buffer, 512]], lun).answer().response, 3, 'bad target')
  }
  assert.deepEqual(outputs(), [])
})

test('a read-only disk says so, refuses writes and answers a flush by itself', () => {
  const { heap, send, ask, outputs } = disk({ readOnly: true })
  assert.equal(send(move('write', 0, 1), [[heap.allocate(512), 512]]).answer().key, 7)
  assert.deepEqual(send(synchronize).answer(), good)
  assert.equal(ask([0x1a, 0, 8, 0, 255]).bytes[2], 0x80)
  assert.deepEqual(outputs(), [])
})

test('a driver learns what disk it is: name, size, write cache, one unit', () => {
  const { ask } = disk({ serial: 'root', sectors: 5_000_000_000n })
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes)
  assert.match(text(ask([0x12, 0, 0, 0, 36]).bytes), /UNDRSTDYdisk {12}1 {3}$/)
  assert.deepEqual([...ask([0x12, 1, 0, 0, 255]).bytes], [0, 0, 0, 5, 0, 0x80, 0x83, 0xb0, 0xb1])
  assert.equal(text(ask([0x12, 1, 0x80, 0, 255]).bytes.subarray(4)), 'root')
  assert.equal(ask([0x12, 1, 0xb5, 0, 255]).key, 5)
  const short = new DataView(ask([0x25]).bytes.buffer)
  assert.deepEqual([short.getUint32(0), short.getUint32(4)], [0xffff_ffff, 512])
  const long = new DataView(ask([0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32]).bytes.buffer)
  assert.deepEqual([long.getBigUint64(0), long.getUint32(8)], [4_999_999_999n, 512])
  assert.deepEqual([...ask([0x1a, 0, 8, 0, 255]).bytes.subarray(0, 7)], [23, 0, 0, 0, 8, 18, 4])
  assert.equal(ask([0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 255]).bytes.length, 16)
})

test('a driver with less room gets less, and more room is a residual', () => {
  const { ask } = disk()
  assert.equal(ask([0x12, 0, 0, 0, 5]).bytes.length, 5)
  assert.equal(ask([0x12, 0, 0, 0, 36], 20).bytes.length, 20)
  assert.equal(ask([0x12, 0, 0, 0, 36], 100).residual, 64)
})

test('task management is refused, notifications are none, other control requests want a reset', () => {
  const { heap, driver, control } = disk()
  const request = (type: number, lengthBytes: number) => {
    const bytes = new Uint8Array(lengthBytes)
    bytes[0] = type
    const response = heap.place(new Uint8Array(5).fill(0xff))
    control.offer(control.chain([[heap.place(bytes), lengthBytes]], [[response, 5]]))
    control.notify()
    return heap.bytes(response, 5)
  }
  assert.deepEqual([...request(0, 24)], [11, 0xff, 0xff, 0xff, 0xff])
  assert.deepEqual([...request(1, 16)], [0, 0, 0, 0, 0])
  assert.equal(driver.needsReset, false)
  request(9, 24)
  assert.equal(driver.needsReset, true)
})

test('requests that overlap go to the disk one after the other, and a snapshot keeps them', () => {
  const { heap, device, send, outputs } = disk()
  send(move('write', 4, 2), [[heap.allocate(1024), 1024]])
  const second = send(move('read', 5, 1), [], [[heap.allocate(512), 512]])
  assert.equal(outputs().length, 1)
  const writer = new ByteWriter()
  device.saveState(writer)
  device.loadState(new ByteReader(writer.finish()))
  device.onAnswer(0n, 'ok', undefined)
  const [read] = outputs()
  assert.equal(read?.operation, 'read')
  device.onAnswer(read!.sequence, 'ok', new Uint8Array(512))
  assert.deepEqual(second.answer(), good)
})

/** A driver that builds whatever chance says, half of it sensible in shape. */
class RandomDriver {
  readonly #random: Prng
  readonly #whole = disk()
  #queues: DriverQueue[]
  faults = 0
  outputs = 0

  constructor(seed: bigint) {
    this.#random = new Prng(seed)
    this.#queues = this.#whole.driver.start([8, 8, 8])
  }

  step(): void {
    const random = this.#random
    const { engine, heap, driver, device } = this.#whole
    const queue = this.#queues[random.chance(0.8) ? 2 : random.below(2)]!
    const isWild = random.chance(0.08)
    const header_ = header(
      random.chance(0.7) ? this.#command() : [...random.bytes(32)],
      isWild ? [...random.bytes(8)] : undefined,
    )
    const direction = random.pick(['none', 'in', 'out'] as const)
    const place = () => ramBase + 0x20_0000 + random.below(0x100) * 256
    const parts = [
      { address: place(), lengthBytes: isWild ? random.below(60) : 51, flags: 0 },
      ...(direction === 'out' || isWild
        ? [{ address: place(), lengthBytes: 512 * (1 + random.below(3)), flags: 0 }]
        : []),
      { address: place(), lengthBytes: isWild ? random.below(120) : 108, flags: descriptorFlag.write as number },
      ...(direction === 'in' || isWild
        ? [{ address: place(), lengthBytes: 512 * (1 + random.below(3)), flags: descriptorFlag.write as number }]
        : []),
    ]
    engine.storeBytes(parts[0]!.address, header_)
    const head = random.below(8)
    parts.forEach((part, index) => {
      const isLast = index === parts.length - 1
      const flags = isWild ? random.below(8) : part.flags | (isLast ? 0 : descriptorFlag.next)
      const address = isWild && random.chance(0.3) ? random.u64() : part.address
      queue.writeDescriptor((head + index) % 8, { ...part, address, flags, next: (head + index + 1) % 8 })
    })
    queue.offer(head)
    queue.notify()
    this.outputs += this.#whole.outputs().length
    const waiting = device.inFlight()
    if (waiting.length > 0 && random.chance(0.6)) {
      const { sequence, operation, lengthBytes } = random.pick(waiting)
      const status = random.pick(['ok', 'ok', 'ioError', 'uncertain'] as const)
      const isRead = operation === 'read' && status === 'ok'
      device.onAnswer(sequence, status, isRead ? new Uint8Array(lengthBytes).fill(3) : undefined)
    }
    if (!driver.needsReset) return
    this.faults++
    heap.rewind()
    this.#queues = driver.start([8, 8, 8])
  }

  #command(): number[] {
    const random = this.#random
    const other = random.pick([0x00, 0x03, 0x12, 0x1a, 0x25, 0x35, 0x5a, 0x91, 0x9e, 0xa0])
    if (random.chance(0.4))
      return [other, random.below(32), random.pick([0, 8, 0x80, 0x83, 0xb0]), 0, 255, ...random.bytes(10)]
    return move(random.pick(['read', 'write'] as const), random.below(2050), 1 + random.below(3))
  }

  digest(): bigint {
    const writer = new ByteWriter()
    this.#whole.device.saveState(writer)
    return hash64(writer.view(), hash64(this.#whole.engine.ram))
  }
}

test('40 000 random chains neither hang nor crash nor leave RAM, and two machines agree throughout', () => {
  const drivers = [new RandomDriver(4711n), new RandomDriver(4711n)] as const
  for (let step = 0; step < 40_000; step++) {
    for (const driver of drivers) driver.step()
    if (step % 5000 === 0) assert.equal(drivers[0].digest(), drivers[1].digest(), `after chain ${step}`)
  }
  assert.equal(drivers[0].digest(), drivers[1].digest())
  assert.ok(drivers[0].faults > 1000 && drivers[0].outputs > 2000, `${drivers[0].faults} ${drivers[0].outputs}`)
})
