/**
 * A guest that means harm. Named attacks first, one rule each; then many random chains against all
 * devices: no hang, no crash, no access outside RAM, and two instances agree bit by bit.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ByteWriter } from '../../../base/bytes.ts'
import { hash64 } from '../../../base/digest.ts'
import { Prng } from '../../../base/prng.ts'
import { MiB } from '../../../base/units.ts'
import { ramBase } from '../../../engine/types.ts'
import { EntropyDesk } from '../../entropy-desk.ts'
import { GuestMemory } from '../../guest-memory.ts'
import { Outbox } from '../../outbox.ts'
import { FakeEngine } from '../../test-support/fake-engine.ts'
import { type DriverQueue, descriptorFlag, GuestHeap, VirtioDriver } from '../../test-support/virtio-driver.ts'
import { VirtioBlock } from './block.ts'
import { VirtioEntropy } from './entropy.ts'
import { VirtioNet } from './net.ts'

const { next, write, indirect } = descriptorFlag
const ramBytes = MiB
const ramEnd = ramBase + ramBytes

class GuestRam extends FakeEngine {
  override storeBytes(address: number, bytes: Uint8Array): void {
    assert.ok(address >= ramBase && address + bytes.length <= ramEnd, 'a store outside RAM')
    super.storeBytes(address, bytes)
  }
}

function machine() {
  const engine = new GuestRam({ ramBytes, bus: { load: () => undefined, store: () => false } })
  const heap = new GuestHeap(engine, ramBase + 0x8_0000)
  const outbox = new Outbox()
  const memory = new GuestMemory(engine)
  const desk = new EntropyDesk(engine, outbox)
  const parts = { memory, line: () => {} }
  const block = new VirtioBlock(parts, { sectors: 4096n, readOnly: false, serial: 'x' }, 0, outbox)
  const net = new VirtioNet(parts, Uint8Array.of(2, 0, 0, 0, 0, 1), outbox)
  const rng = new VirtioEntropy(parts, desk)
  return { engine, heap, outbox, desk, block, net, rng }
}

function attackedDisk() {
  const whole = machine()
  const driver = new VirtioDriver(whole.block, whole.heap)
  const [queue] = driver.start([8]) as [DriverQueue]
  /** Writes raw descriptors, offers head 0, notifies. */
  const attack = (descriptors: readonly [number | bigint, number, number, number][], table?: number) => {
    descriptors.forEach(([address, lengthBytes, flags, successor], slot) => {
      queue.writeDescriptor(slot, { address, lengthBytes, flags, next: successor }, table)
    })
    queue.offer(0)
    queue.notify()
  }
  return { ...whole, driver, queue, attack }
}

const here = ramBase + 0x4_0000

const attacks: Record<string, readonly [number | bigint, number, number, number][]> = {
  'a chain that loops': [
    [here, 16, next, 1],
    [here + 512, 16, next, 0],
  ],
  'a chain that loops on itself': [[here, 16, next, 0]],
  'a successor outside the table': [[here, 16, next, 8]],
  'a buffer below RAM': [
    [ramBase - 8, 16, next, 1],
    [here, 1, write, 0],
  ],
  'a buffer that leaves RAM at its end': [
    [ramEnd - 8, 16, next, 1],
    [here, 1, write, 0],
  ],
  'a buffer at the end of the address space': [
    [0xffff_ffff_ffff_fff0n, 32, next, 1],
    [here, 1, write, 0],
  ],
  'an empty descriptor': [
    [here, 16, next, 1],
    [here + 512, 0, next, 2],
    [here + 1024, 1, write, 0],
  ],
  'a huge descriptor': [
    [here, 16, next, 1],
    [here, 0xffff_ffff, next, 2],
    [here, 1, write, 0],
  ],
  'a readable part behind a writable one': [
    [here, 1, write | next, 1],
    [here + 512, 16, 0, 0],
  ],
  'no status byte': [[here, 16, 0, 0]],
  'no header': [[here, 513, write, 0]],
  'a status byte over the header': [
    [here, 16, next, 1],
    [here + 15, 1, write, 0],
  ],
  'a status byte inside the data': [
    [here, 16, next, 1],
    [here + 1024, 512, write | next, 2],
    [here + 1024, 1, write, 0],
  ],
  'a read of data in the wrong direction': [
    [here, 16, next, 1],
    [here + 1024, 512, next, 2],
    [here + 2048, 1, write, 0],
  ],
  'an indirect table with a successor': [[here, 32, indirect | next, 1]],
  'an indirect table of a broken size': [[here, 33, indirect, 0]],
  'an empty indirect table': [[here, 0, indirect, 0]],
  'an indirect table outside RAM': [[ramEnd - 16, 32, indirect, 0]],
}

for (const [name, descriptors] of Object.entries(attacks)) {
  test(`${name} makes the device want a reset and tells the driver by a configuration interrupt`, () => {
    const { driver, attack, outbox, queue } = attackedDisk()
    attack(descriptors)
    assert.equal(driver.needsReset, true)
    assert.equal(driver.interrupts, 2)
    assert.equal(queue.usedIndex, 0)
    assert.deepEqual(outbox.take(), [])
    // Dead until reset, alive after it.
    queue.notify()
    assert.equal(queue.usedIndex, 0)
    driver.start([8])
    assert.equal(driver.needsReset, false)
  })
}

/** A flush is header and status: valid but for the one rule that is broken. */
function placeFlushHeader(heap: GuestHeap): void {
  heap.engine.storeBytes(here, Uint8Array.of(4))
}

test('an indirect table inside an indirect table makes the device want a reset', () => {
  const { driver, queue, attack, heap, outbox } = attackedDisk()
  placeFlushHeader(heap)
  const table = here + 0x1000
  queue.writeDescriptor(0, { address: here, lengthBytes: 16, flags: next, next: 1 }, table)
  queue.writeDescriptor(1, { address: here + 512, lengthBytes: 1, flags: write, next: 0 }, table)
  attack([[table, 32, indirect, 0]])
  assert.equal(driver.needsReset, false, 'without nesting it is a flush')
  assert.equal(outbox.take().length, 1)
  queue.writeDescriptor(0, { address: here, lengthBytes: 16, flags: next | indirect, next: 1 }, table)
  queue.writeDescriptor(1, { address: table, lengthBytes: 32, flags: indirect, next: 0 })
  queue.offer(1)
  queue.notify()
  assert.equal(driver.needsReset, true)
})

test('a header behind the status byte makes the device want a reset', () => {
  const { driver, attack, heap } = attackedDisk()
  placeFlushHeader(heap)
  attack([
    [here + 512, 1, write | next, 1],
    [here, 16, 0, 0],
  ])
  assert.equal(driver.needsReset, true)
})

test('data that the device would write over its own rings makes it want a reset', () => {
  const { driver, queue, attack } = attackedDisk()
  attack([
    [here, 16, next, 1],
    [queue.used, 512, write | next, 2],
    [here + 4096, 1, write, 0],
  ])
  assert.equal(driver.needsReset, true)
})

test('a head outside the table, or more chains than the queue holds, makes the device want a reset', () => {
  const first = attackedDisk()
  first.queue.offer(8)
  first.queue.notify()
  assert.equal(first.driver.needsReset, true)

  const second = attackedDisk()
  placeFlushHeader(second.heap)
  second.queue.writeDescriptor(0, { address: here, lengthBytes: 16, flags: next, next: 1 })
  second.queue.writeDescriptor(1, { address: here + 512, lengthBytes: 1, flags: write, next: 0 })
  second.queue.setAvailableIndex(9)
  second.queue.notify()
  assert.equal(second.driver.needsReset, true)
  assert.deepEqual(second.outbox.take(), [])
})

test('a chain made available again while it is in flight makes the device want a reset, and the answer touches nothing', () => {
  const { driver, queue, attack, outbox, block, heap } = attackedDisk()
  const chain: [number, number, number, number][] = [
    [here, 16, next, 1],
    [here + 1024, 512, write | next, 2],
    [here + 2048, 1, write, 0],
  ]
  attack(chain)
  assert.equal(outbox.take().length, 1)
  attack(chain)
  assert.equal(driver.needsReset, true)
  block.onAnswer(0n, 'ok', new Uint8Array(512).fill(1))
  assert.deepEqual(heap.bytes(here + 1024, 512), new Uint8Array(512))
  assert.equal(queue.usedIndex, 0)
})

test('rings of wrong size, alignment or place, and rings that overlap, make the device want a reset', () => {
  const good = [8, here, here + 0x1000, here + 0x2000] as const
  const wrong: readonly (readonly [number, number, number, number])[] = [
    [0, good[1], good[2], good[3]],
    [3, good[1], good[2], good[3]],
    [512, good[1], good[2], good[3]],
    [0x1_0008, good[1], good[2], good[3]],
    [8, good[1] + 8, good[2], good[3]],
    [8, good[1], good[2] + 1, good[3]],
    [8, good[1], good[2], good[3] + 2],
    [8, ramEnd - 64, good[2], good[3]],
    [8, good[1], 0, good[3]],
    [8, good[1], good[2], 2 ** 52],
    [8, good[1], good[2], good[2]],
    [8, good[1], good[1] + 16, good[3]],
  ]
  const { block, heap } = machine()
  const driver = new VirtioDriver(block, heap)
  for (const [size, table, available, used] of wrong) {
    driver.negotiate()
    driver.setQueue(0, size, table, available, used)
    assert.equal(driver.needsReset, true, `${size} ${table} ${available} ${used}`)
  }
  driver.negotiate()
  driver.setQueue(0, ...good)
  assert.equal(driver.needsReset, false)
})

/** One guest with a grudge: everything it does comes from the generator. */
class RandomGuest {
  readonly #random: Prng
  readonly #machine = machine()
  readonly #drivers: readonly VirtioDriver[]
  #queues: DriverQueue[][]
  resets = 0
  faults = 0
  outputs = 0

  constructor(seed: bigint) {
    this.#random = new Prng(seed)
    const { block, net, rng, heap } = this.#machine
    this.#drivers = [block, net, rng].map((device) => new VirtioDriver(device, heap))
    this.#queues = this.#drivers.map((driver, index) => driver.start(index === 1 ? [8, 8] : [8]))
  }

  #address(): number | bigint {
    const random = this.#random
    switch (random.below(12)) {
      case 0:
        return random.u64()
      case 1:
        return ramEnd - random.below(64)
      case 2:
        return ramBase - random.below(64)
      case 3:
        return this.#queues[random.below(3)]![0]!.used
      default:
        return ramBase + random.below(0x1000) * 64
    }
  }

  #length(): number {
    const random = this.#random
    return random.pick([0, 1, 1, 12, 16, 16, 16, 26, 64, 512, 512, 512, 1024, 4096, 0xffff_ffff, random.below(2 ** 20)])
  }

  /** Half of the chains are sensible in shape, so that attacks meet devices with work in flight. */
  #buildChain(queue: DriverQueue): void {
    const random = this.#random
    const isWild = random.chance(0.15)
    const parts = 1 + random.below(4)
    const isIndirect = random.chance(0.3)
    const table = isIndirect ? ramBase + 0x6_0000 + random.below(64) * 256 : queue.table
    const firstWritable = random.below(parts + 1)
    const head = random.below(8)
    for (let part = 0; part < parts; part++) {
      const slot = isIndirect ? part : (head + part) % 8
      let flags = part >= firstWritable ? write : 0
      let successor = isIndirect ? part + 1 : (slot + 1) % 8
      if (part < parts - 1) flags |= next
      if (isWild) {
        flags = random.below(8)
        successor = random.below(12)
      }
      const address = isWild ? this.#address() : ramBase + random.below(0x200) * 512
      const lengthBytes = isWild ? this.#length() : part === 0 ? 16 : part === parts - 1 ? 1 : 512
      queue.writeDescriptor(slot, { address, lengthBytes, flags, next: successor }, table)
      if (part === 0 && typeof address === 'number' && address >= ramBase && address + 16 <= ramEnd) {
        const header = new Uint8Array(16)
        header[0] = random.pick([0, 0, 1, 1, 4, 8, 11, 13, 99])
        header[8] = random.below(256)
        header[9] = random.below(20)
        this.#machine.engine.storeBytes(address, header)
      }
    }
    if (isIndirect) queue.writeDescriptor(head, { address: table, lengthBytes: 16 * parts, flags: indirect, next: 0 })
    if (random.chance(0.98)) queue.offer(random.chance(0.98) ? head : random.below(65_536))
    else queue.setAvailableIndex(random.below(65_536))
  }

  step(): void {
    const random = this.#random
    const which = random.below(3)
    const driver = this.#drivers[which]!
    const queue = random.pick(this.#queues[which]!)
    this.#buildChain(queue)
    queue.notify()
    this.#answerSome()
    if (driver.needsReset) {
      this.faults += 1
      if (random.chance(0.7)) this.#restart()
    }
  }

  #answerSome(): void {
    const random = this.#random
    const { block, net, desk, rng, outbox } = this.#machine
    for (const output of outbox.take()) {
      this.outputs += 1
      if (output.kind === 'entropyRequest') {
        desk.onEntropy(random.bytes(output.lengthBytes), (bytes) => rng.onEntropy(bytes))
      }
    }
    if (random.chance(0.3)) net.receive(random.bytes(60))
    const waiting = block.inFlight()
    if (waiting.length > 0 && random.chance(0.5)) {
      const { sequence, operation, lengthBytes } = random.pick(waiting)
      block.onAnswer(sequence, 'ok', operation === 'read' ? new Uint8Array(lengthBytes).fill(3) : undefined)
    }
  }

  #restart(): void {
    this.resets += 1
    // All of them, since their queues share the memory that is handed out again.
    this.#machine.heap.rewind()
    this.#queues = this.#drivers.map((driver, index) => driver.start(index === 1 ? [8, 8] : [8]))
  }

  /** Everything the devices are, and all of RAM. */
  digest(): bigint {
    const { engine, block, net, rng, desk, outbox } = this.#machine
    const writer = new ByteWriter()
    for (const part of [block, net, rng, desk, outbox]) part.saveState(writer)
    return hash64(writer.view(), hash64(engine.ram))
  }
}

test('100 000 random chains neither hang nor crash nor leave RAM, and two machines agree throughout', () => {
  const seed = 20_261n
  const guests = [new RandomGuest(seed), new RandomGuest(seed)] as const
  const chains = 100_000
  for (let step = 0; step < chains; step++) {
    for (const guest of guests) guest.step()
    if (step % 10_000 === 0) assert.equal(guests[0].digest(), guests[1].digest(), `after chain ${step}`)
  }
  assert.equal(guests[0].digest(), guests[1].digest())
  // The campaign did reach what it is for.
  assert.ok(guests[0].faults > 1000, `${guests[0].faults} faults`)
  assert.ok(guests[0].outputs > 10_000, `${guests[0].outputs} outputs`)
})
