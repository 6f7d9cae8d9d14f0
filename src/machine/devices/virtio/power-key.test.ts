import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MiB } from '../../../base/units.ts'
import { GuestMemory } from '../../guest-memory.ts'
import { FakeEngine } from '../../test-support/fake-engine.ts'
import { type DriverQueue, GuestHeap, VirtioDriver } from '../../test-support/virtio-driver.ts'
import { VirtioPowerKey } from './power-key.ts'

function button() {
  const engine = new FakeEngine({ ramBytes: 4 * MiB, bus: { load: () => undefined, store: () => false } })
  const heap = new GuestHeap(engine)
  const device = new VirtioPowerKey({ memory: new GuestMemory(engine), line: () => {} })
  const driver = new VirtioDriver(device, heap)
  const ask = (select: number, subselect: number) => {
    device.store(0x100, 1, BigInt(select))
    device.store(0x101, 1, BigInt(subselect))
    const size = Number(device.load(0x102, 1))
    return Array.from({ length: size }, (_, index) => Number(device.load(0x108 + index, 1)))
  }
  return { device, driver, heap, ask }
}

test('configuration space says that the device has one key, KEY_POWER', () => {
  const { ask } = button()
  const bits = ask(0x11, 1)
  assert.equal(bits.length, 15)
  assert.equal(bits[14], 1 << 4)
  assert.ok(bits.slice(0, 14).every((byte) => byte === 0))
  assert.deepEqual(ask(0x11, 2), [])
  assert.equal(String.fromCharCode(...ask(1, 0)), 'Understudy power button')
})

test('a press is four events: key down, end of report, key up, end of report', () => {
  const { device, driver, heap } = button()
  const [events] = driver.start([64, 64]) as [DriverQueue]
  const buffers = Array.from({ length: 5 }, () => heap.allocate(8))
  for (const buffer of buffers) events.offer(events.chain([], [[buffer, 8]]))
  device.press()
  assert.equal(events.takeUsed().length, 4)
  assert.deepEqual(
    buffers.slice(0, 4).map((buffer) => [...heap.bytes(buffer, 8)]),
    [
      [1, 0, 116, 0, 1, 0, 0, 0],
      [0, 0, 0, 0, 0, 0, 0, 0],
      [1, 0, 116, 0, 0, 0, 0, 0],
      [0, 0, 0, 0, 0, 0, 0, 0],
    ],
  )
  assert.equal(driver.interrupts, 1)
})

test('a press that no driver waits for is lost without harm', () => {
  const { device, driver } = button()
  device.press()
  driver.start([64, 64])
  device.press()
  assert.equal(driver.needsReset, false)
  assert.equal(driver.interrupts, 0)
})
