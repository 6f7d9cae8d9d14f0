import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MiB } from '../../../base/units.ts'
import { GuestMemory } from '../../guest-memory.ts'
import { Outbox } from '../../outbox.ts'
import { FakeEngine } from '../../test-support/fake-engine.ts'
import { type DriverQueue, GuestHeap, VirtioDriver } from '../../test-support/virtio-driver.ts'
import type { Output } from '../../types.ts'
import { VirtioNet } from './net.ts'

const mac = Uint8Array.of(0x52, 0x54, 0, 1, 2, 3)

function card(sizes = [8, 8]) {
  const engine = new FakeEngine({ ramBytes: 4 * MiB, bus: { load: () => undefined, store: () => false } })
  const heap = new GuestHeap(engine)
  const outbox = new Outbox()
  const device = new VirtioNet({ memory: new GuestMemory(engine), line: () => {} }, mac, outbox)
  const driver = new VirtioDriver(device, heap)
  const [receive, transmit] = driver.start(sizes) as [DriverQueue, DriverQueue]
  const post = (lengthBytes = 1526) => {
    const buffer = heap.allocate(lengthBytes)
    const head = receive.chain([], [[buffer, lengthBytes]])
    receive.offer(head)
    return { head, buffer }
  }
  const outputs = () => outbox.take() as Extract<Output, { kind: 'frame' }>[]
  return { heap, device, driver, receive, transmit, post, outputs }
}

function frame(marker: number, lengthBytes = 60): Uint8Array {
  return new Uint8Array(lengthBytes).fill(marker)
}

test('configuration space shows MAC and link, with the feature bits that say so', () => {
  const { device, driver } = card()
  assert.deepEqual(
    Array.from({ length: 6 }, (_, index) => Number(device.load(0x100 + index, 1))),
    [...mac],
  )
  assert.equal(device.load(0x106, 2), 1n)
  assert.equal(driver.offeredFeatures() & ((1n << 5n) | (1n << 16n)), (1n << 5n) | (1n << 16n))
})

test('a transmit completes at its notify, one output for each frame, without the 12-byte header', () => {
  const { heap, transmit, outputs } = card()
  const packet = heap.place(Uint8Array.of(...new Uint8Array(12).fill(0xee), ...frame(1, 100)))
  const heads = [
    transmit.chain([[packet, 112]], []),
    transmit.chain(
      [
        [packet, 12],
        [packet + 12, 61],
      ],
      [],
    ),
  ]
  for (const head of heads) transmit.offer(head)
  transmit.notify()
  assert.deepEqual(
    outputs().map(({ bytes, sequence }) => [sequence, bytes]),
    [
      [0n, frame(1, 100)],
      [1n, frame(1, 61)],
    ],
  )
  assert.deepEqual(
    transmit.takeUsed(),
    heads.map((head) => ({ head, writtenBytes: 0 })),
  )
})

test('a chain too short to hold a frame is completed and sends nothing', () => {
  const { heap, transmit, outputs } = card()
  transmit.offer(transmit.chain([[heap.allocate(20), 20]], []))
  transmit.notify()
  assert.deepEqual(outputs(), [])
  assert.equal(transmit.usedIndex, 1)
})

test('a received frame enters the buffer at apply, behind a header that counts one buffer', () => {
  const { heap, device, receive, post } = card()
  const { head, buffer } = post()
  receive.notify()
  device.receive(frame(7))
  assert.deepEqual(receive.takeUsed(), [{ head, writtenBytes: 72 }])
  assert.deepEqual(heap.bytes(buffer, 12), Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0))
  assert.deepEqual(heap.bytes(buffer + 12, 60), frame(7))
})

test('rings are not polled: frames without a buffer wait for the notify, not for the buffer', () => {
  const { heap, device, receive, post } = card()
  device.receive(frame(1))
  device.receive(frame(2))
  assert.equal(device.waitingFrames, 2)
  assert.equal(receive.availableEvent, 0, 'the device asks to hear of the next buffer')
  const first = post()
  const second = post()
  assert.equal(receive.usedIndex, 0)
  receive.notify()
  assert.equal(device.waitingFrames, 0)
  assert.deepEqual(
    receive.takeUsed().map(({ head }) => head),
    [first.head, second.head],
  )
  assert.equal(heap.bytes(second.buffer + 12, 1)[0], 2)
})

test('rings are not polled: a frame to send leaves with its notify, not with whatever comes in before', () => {
  const { heap, device, transmit, post, outputs } = card()
  post()
  transmit.offer(transmit.chain([[heap.place(new Uint8Array(72)), 72]], []))
  device.receive(frame(1))
  assert.deepEqual(outputs(), [])
  transmit.notify()
  assert.equal(outputs().length, 1)
})

test('frames that wait keep their order when another one arrives together with a buffer', () => {
  const { heap, device, receive, post } = card()
  device.receive(frame(1))
  const { buffer } = post()
  device.receive(frame(2))
  assert.equal(receive.usedIndex, 1)
  assert.equal(heap.bytes(buffer + 12, 1)[0], 1)
  assert.equal(device.waitingFrames, 1)
})

test('256 frames wait, the 257th is dropped', () => {
  const { device } = card()
  for (let index = 0; index < 300; index++) device.receive(frame(index & 0xff))
  assert.equal(device.waitingFrames, 256)
})

test('whoever keeps to the room that the card says it has loses no frame', () => {
  const { device, driver, post } = card()
  assert.equal(device.room, 256)
  for (let index = 0; index < 256; index++) device.receive(frame(index & 0xff))
  assert.equal(device.room, 0)
  post()
  device.receive(frame(1))
  assert.equal(device.waitingFrames, 256)
  driver.reset()
  assert.equal(device.room, Number.POSITIVE_INFINITY)
})

test('a reset drops waiting frames, and a card without a driver drops every frame', () => {
  const { device, driver } = card()
  device.receive(frame(1))
  driver.reset()
  assert.equal(device.waitingFrames, 0)
  device.receive(frame(2))
  assert.equal(device.waitingFrames, 0)
})

test('a frame longer than the buffer is lost and leaves the buffer for the next one', () => {
  const { device, receive, post } = card()
  post(200)
  receive.notify()
  device.receive(frame(1, 500))
  assert.equal(receive.usedIndex, 0)
  device.receive(frame(2, 100))
  assert.deepEqual(
    receive.takeUsed().map(({ writtenBytes }) => writtenBytes),
    [112],
  )
})

test('buffers in the wrong direction make the card want a reset', () => {
  const receiving = card()
  receiving.receive.offer(receiving.receive.chain([[receiving.heap.allocate(2000), 2000]], []))
  receiving.receive.notify()
  assert.equal(receiving.driver.needsReset, false, 'nothing looks at the ring before there is a frame')
  receiving.device.receive(frame(1))
  assert.equal(receiving.driver.needsReset, true)
  assert.equal(receiving.driver.interrupts & 2, 2)

  const sending = card()
  sending.transmit.offer(sending.transmit.chain([], [[sending.heap.allocate(2000), 2000]]))
  sending.transmit.notify()
  assert.equal(sending.driver.needsReset, true)
})
