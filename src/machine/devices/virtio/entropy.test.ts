import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MiB } from '../../../base/units.ts'
import { EntropyDesk } from '../../entropy-desk.ts'
import { GuestMemory } from '../../guest-memory.ts'
import { Outbox } from '../../outbox.ts'
import { FakeEngine } from '../../test-support/fake-engine.ts'
import { type DriverQueue, GuestHeap, VirtioDriver } from '../../test-support/virtio-driver.ts'
import { VirtioEntropy } from './entropy.ts'

function source() {
  const engine = new FakeEngine({ ramBytes: 4 * MiB, bus: { load: () => undefined, store: () => false } })
  const heap = new GuestHeap(engine)
  const outbox = new Outbox()
  const desk = new EntropyDesk(engine, outbox)
  const device = new VirtioEntropy({ memory: new GuestMemory(engine), line: () => {} }, desk)
  const driver = new VirtioDriver(device, heap)
  const [queue] = driver.start([8]) as [DriverQueue]
  const post = (lengthBytes: number) => {
    const buffer = heap.allocate(lengthBytes)
    const head = queue.chain([], [[buffer, lengthBytes]])
    queue.offer(head)
    queue.notify()
    return { head, buffer }
  }
  const answer = (bytes: Uint8Array) => desk.onEntropy(bytes, (forDevice) => device.onEntropy(forDevice))
  const asked = () => outbox.take().map((output) => output.kind === 'entropyRequest' && output.lengthBytes)
  return { engine, heap, desk, device, driver, queue, post, answer, asked }
}

test('a posted buffer becomes a request, and the recorded answer fills it', () => {
  const { heap, queue, post, answer, asked } = source()
  const { head, buffer } = post(64)
  assert.deepEqual(asked(), [64])
  answer(new Uint8Array(64).fill(0xab))
  assert.deepEqual(heap.bytes(buffer, 64), new Uint8Array(64).fill(0xab))
  assert.deepEqual(queue.takeUsed(), [{ head, writtenBytes: 64 }])
})

test('a huge buffer is filled in part', () => {
  const { post, asked } = source()
  post(100_000)
  assert.deepEqual(asked(), [256])
})

test('answers go to whoever asked first: the seed pool and the device share one line', () => {
  const { engine, heap, desk, post, answer, asked } = source()
  desk.topUp()
  desk.topUp()
  const { buffer } = post(16)
  assert.deepEqual(asked(), [64, 16])
  answer(new Uint8Array(64))
  assert.equal(engine.seedPool.availableBytes, 64)
  answer(new Uint8Array(16).fill(1))
  assert.deepEqual(heap.bytes(buffer, 16), new Uint8Array(16).fill(1))
})

test('an answer from before a reset touches nothing, and the next one finds its buffer', () => {
  const { heap, driver, post, answer } = source()
  const old = post(16)
  const [queue] = driver.start([8]) as [DriverQueue]
  const buffer = heap.allocate(16)
  queue.offer(queue.chain([], [[buffer, 16]]))
  queue.notify()
  answer(new Uint8Array(16).fill(1))
  assert.deepEqual(heap.bytes(old.buffer, 16), new Uint8Array(16))
  answer(new Uint8Array(16).fill(2))
  assert.deepEqual(heap.bytes(buffer, 16), new Uint8Array(16).fill(2))
})
